"""Writes samplers.json: trajectories of diffusers' samplers on recorded predictions.

Versions: Python 3.11.7, diffusers 0.42.1, torch 2.15.0. Seed 7.
Predictions are those of the exact denoiser of N(0.3, 0.5^2) data plus 0.05 of noise, so that the
trajectories have the size that real ones have, and do not follow any formula the code could share.
"""

import json
import pathlib

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)

SHAPE = (2, 2, 2, 2)
MEAN, STD = 0.3, 0.5
generator = torch.Generator().manual_seed(7)


def randn():
    return torch.randn(SHAPE, generator=generator)


def prediction(objective, x, alpha, sigma):
    variance = (alpha * STD) ** 2 + sigma**2
    clean = MEAN + alpha * STD**2 / variance * (x - alpha * MEAN)
    noise = (x - alpha * clean) / sigma
    exact = {
        "Epsilon": noise,
        "Velocity": alpha * noise - sigma * clean,
        "Flow": noise - clean,
    }[objective]
    return exact + 0.05 * randn()


def flat(x):
    return [float(str(v)) for v in x.flatten().numpy()]  # the shortest text that reads back as f32


def vp(sampler, objective, steps, eta=0.0, rho=None):
    prediction_type = {"Epsilon": "epsilon", "Velocity": "v_prediction"}[objective]
    common = dict(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        timestep_spacing="trailing",
    )
    if sampler == "Ddim":
        scheduler = DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
    else:
        # Its Karras spacing rounds the times that the network is told, which no formula here depends on.
        scheduler = DPMSolverMultistepScheduler(
            **common,
            algorithm_type="sde-dpmsolver++" if eta > 0 else "dpmsolver++",
            solver_order=2,
            lower_order_final=True,
            use_karras_sigmas=rho is not None,
            final_sigmas_type="zero",
        )
    scheduler.set_timesteps(steps)
    x = randn()
    case = dict(sampler=sampler, objective=objective, steps=steps, eta=eta, shift=None, rho=rho)
    case |= dict(noise=flat(x), timesteps=[], predictions=[], samples=[], fresh=[])
    for at, t in enumerate(scheduler.timesteps):
        if rho is None:
            alpha = scheduler.alphas_cumprod[t] ** 0.5
            sigma = (1 - scheduler.alphas_cumprod[t]) ** 0.5
        else:
            alpha = 1 / (1 + scheduler.sigmas[at] ** 2) ** 0.5
            sigma = scheduler.sigmas[at] * alpha
        model = prediction(objective, x, alpha, sigma)
        extra = {}
        if eta > 0:
            fresh = randn()
            case["fresh"].append(flat(fresh))
            extra = dict(variance_noise=fresh) | (dict(eta=eta) if sampler == "Ddim" else {})
        x = scheduler.step(model, t, x, **extra).prev_sample
        case["timesteps"].append(float(t) if rho is None else None)
        case["predictions"].append(flat(model))
        case["samples"].append(flat(x))
    return case


def flow(sampler, steps, shift):
    if sampler == "Euler":
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    else:
        # Its own grid runs from 1 to 1/1000; ours is put in its place, each inner one twice.
        scheduler = FlowMatchHeunDiscreteScheduler(shift=1.0)
        scheduler.set_timesteps(steps)
        grid = torch.tensor([1 - i / steps for i in range(steps)])
        grid = shift * grid / (1 + (shift - 1) * grid)
        timesteps = grid * 1000
        scheduler.timesteps = torch.cat([timesteps[:1], timesteps[1:].repeat_interleave(2)])
        sigmas = torch.cat([grid, torch.zeros(1)])
        scheduler.sigmas = torch.cat(
            [sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]]
        )
    x = randn()
    case = dict(sampler=sampler, objective="Flow", steps=steps, eta=0.0, shift=shift, rho=None)
    case |= dict(noise=flat(x), timesteps=[], predictions=[], samples=[], fresh=[])
    for t in scheduler.timesteps:
        sigma = float(t) / 1000
        model = prediction("Flow", x, 1 - sigma, sigma)
        x = scheduler.step(model, t, x).prev_sample
        case["timesteps"].append(float(t))
        case["predictions"].append(flat(model))
        case["samples"].append(flat(x))
    return case


cases = [
    vp("Ddim", "Epsilon", 10),
    vp("Ddim", "Velocity", 25),
    vp("Ddim", "Epsilon", 10, eta=0.7),
    vp("DpmSolver2M", "Epsilon", 10),
    vp("DpmSolver2M", "Velocity", 20),
    flow("Euler", 10, 1.0),
    flow("Euler", 8, 3.0),
    flow("Heun", 6, 1.0),
    vp("DpmSolver2M", "Epsilon", 10, eta=1.0),
    vp("DpmSolver2M", "Velocity", 12, eta=1.0, rho=7.0),
    vp("DpmSolver2M", "Epsilon", 8, rho=7.0),
]
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(cases) + "\n")
