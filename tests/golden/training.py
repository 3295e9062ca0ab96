"""Writes training.json: the losses of the autoencoder and the denoiser with their gradients.

Versions: Python 3.11.7, torch 2.15.0, diffusers 0.42.1. Seed 7. Everything in f64; `compute_snr` rounds to f32.

Autoencoder: the KL divergence is that of diffusers' DiagonalGaussianDistribution, its weight as in the code of the
latent diffusion paper (taming's LPIPSWithDiscriminator without perceptual and adversarial part): sums over each image,
means over the batch, both divided here by the number of pixels. The gradients are those of the restored images, of the
means and of the log-variances.

Denoiser: noise is added and velocities are made by diffusers' DDPMScheduler, signal-to-noise ratios by its
`training_utils.compute_snr`; a flow is noise - clean at sigma = shift t / (1 + (shift - 1) t). Min-SNR weighs an error
of the noise min(SNR, gamma) / SNR and one of the velocity min(SNR + 1, gamma) / (SNR + 1), as trainers do; an error of
the image min(SNR + 1, gamma), which is the same by v = (alpha noisy - clean) / sigma; one of the flow sigma^2 times that,
by clean = noisy - sigma flow.
"""

import json
import math
import pathlib

import torch
from diffusers import DDPMScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from diffusers.training_utils import compute_snr

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)


def flat(tensor):
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def rounded(*shape):
    # Exact in f32, so that both sides start from the same numbers.
    return torch.randn(*shape).float().double()


def autoencoder():
    images = rounded(2, 1, 6, 5).clamp(-1, 1)
    restored, mean, logvar = rounded(2, 1, 6, 5), rounded(2, 3, 3, 2), rounded(2, 3, 3, 2)
    cases = []
    for name, kl_weight, gradient_weight in [
        ("Absolute", 0.5, 0.0),
        ("Squared", 0.25, 0.0),
        ("Squared", 1e-6, 0.7),
        ("Absolute", 0.1, 0.3),
    ]:
        leaves = [tensor.clone().requires_grad_() for tensor in (restored, mean, logvar)]
        out, mu, log = leaves
        posterior = DiagonalGaussianDistribution(torch.cat([mu, log], dim=1))
        distance = (out - images).abs() if name == "Absolute" else (out - images) ** 2
        batch, pixels = images.shape[0], images[0].numel()
        reconstruction = distance.sum() / batch
        kl = posterior.kl().sum() / batch
        total = (reconstruction + kl_weight * kl) / pixels
        edges = sum(
            torch.nn.functional.l1_loss(torch.diff(out, dim=dim), torch.diff(images, dim=dim))
            for dim in (2, 3)
        )
        total = total + gradient_weight * edges / 2
        total.backward()
        cases.append(
            {
                "reconstruction": name,
                "kl_weight": kl_weight,
                "gradient_weight": gradient_weight,
                "loss": total.item(),
                "train/reconstruction": (reconstruction / pixels).item(),
                "train/kl": (kl / pixels).item(),
                "gradients": [flat(leaf.grad) for leaf in leaves],
            }
        )
    inputs = dict(images=images, restored=restored, mean=mean, logvar=logvar)
    return {"cases": cases, **{name: flat(tensor) for name, tensor in inputs.items()}}


TIMESTEPS = [0, 120, 555, 901, 999]
GAMMA = 5.0
SCHEDULES = ["Linear", "ScaledLinear", "ScaledLinearZero", "Cosine"]


def powers(name):
    """Signal powers in f64: diffusers keeps them in f32, where 1 - power has few digits left near the image."""
    if name == "Linear":
        betas = torch.linspace(1e-4, 0.02, 1000)
    elif name == "Cosine":
        curve = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        steps = [1 - curve((i + 1) / 1000) / curve(i / 1000) for i in range(1000)]
        betas = torch.tensor(steps).clamp(max=0.999)
    else:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    if name == "ScaledLinearZero":
        betas = rescale_zero_terminal_snr(betas)
    return torch.cumprod(1 - betas, dim=0)


def levels(name, times):
    """alpha, sigma and SNR at the times, and what adds noise and makes velocities."""
    if name == "RectifiedFlow":
        sigma = 3 * times / (1 + 2 * times)
        alpha = 1 - sigma
        return alpha, sigma, (alpha / sigma) ** 2, None
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    scheduler.alphas_cumprod = powers(name)
    timesteps = torch.tensor(TIMESTEPS)
    power = scheduler.alphas_cumprod[timesteps]
    snr = compute_snr(scheduler, timesteps).double()
    return power.sqrt(), (1 - power).sqrt(), snr, scheduler


def denoiser():
    shape = (len(TIMESTEPS), 2, 2, 3)
    clean, noise, prediction = rounded(*shape), rounded(*shape), rounded(*shape)
    cases = []
    for schedule in [*SCHEDULES, "RectifiedFlow"]:
        times = torch.tensor([0.05, 0.3, 0.6, 0.9, 1.0])
        alpha, sigma, snr, scheduler = levels(schedule, times)
        wide = lambda values: values.view(-1, 1, 1, 1)
        if scheduler is None:
            noisy = wide(alpha) * clean + wide(sigma) * noise
        else:
            noisy = scheduler.add_noise(clean, noise, torch.tensor(TIMESTEPS))
        for objective in ["Epsilon", "Velocity", "Clean", "Flow"]:
            # What cannot be sampled is not trained.
            if objective == "Epsilon" and schedule in ["RectifiedFlow", "ScaledLinearZero", "Cosine"]:
                continue
            if objective == "Velocity" and scheduler is not None:
                target = scheduler.get_velocity(clean, noise, torch.tensor(TIMESTEPS))
            else:
                target = {
                    "Epsilon": noise,
                    "Velocity": wide(alpha) * noise - wide(sigma) * clean,
                    "Clean": clean,
                    "Flow": noise - clean,
                }[objective]
            capped = (snr + 1).clamp(max=GAMMA)
            # How far the image moves per unit of a prediction, squared.
            gain = {
                "Velocity": (sigma / (alpha**2 + sigma**2)) ** 2,
                "Clean": torch.ones_like(snr),
                "Flow": (sigma / (alpha + sigma)) ** 2,
            }
            if objective == "Epsilon":
                min_snr = snr.clamp(max=GAMMA) / snr
            elif objective == "Velocity" and scheduler is not None:
                min_snr = capped / (snr + 1)
            else:
                min_snr = capped * gain[objective]
            for weighting, weights in [("Uniform", torch.ones_like(snr)), ("MinSnr", min_snr)]:
                leaf = prediction.clone().requires_grad_()
                errors = ((leaf - target) ** 2).mean(dim=[1, 2, 3])
                total = (errors * weights).mean()
                total.backward()
                cases.append(
                    {
                        "schedule": schedule,
                        "objective": objective,
                        "weighting": weighting,
                        "noisy": flat(noisy)[:12],
                        "weights": flat(weights),
                        "loss": total.item(),
                        "unweighted": errors.mean().item(),
                        "gradient": flat(leaf.grad),
                    }
                )
    return {
        "gamma": GAMMA,
        "timesteps": TIMESTEPS,
        "flow_times": flat(times),
        "clean": flat(clean),
        "noise": flat(noise),
        "prediction": flat(prediction),
        "cases": cases,
    }


golden = {"autoencoder": autoencoder(), "denoiser": denoiser()}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
