"""Writes schedulers.safetensors: trajectories of diffusers' schedulers on recorded model outputs.

Versions: Python 3.11.7, diffusers 0.42.1, torch 2.15.0, numpy 2.4.6, safetensors 0.8.0. Seed: a case's
place in the list. Model outputs are standard normal; nothing of a trajectory follows a formula that
the code could share. The metadata holds each case's config: as diffusers writes it, or, where the case
is a dictionary, as it was published with the weights that its name names.

Each case has sample [B, C, H, W], output [n, B, C, H, W], samples (after each output), timesteps [n],
scales [n] (what the network's input is multiplied by), init_noise_sigma [1], noisy (`add_noise` of
output 0 and `sample` at entry n // 2), and noise [n, B, C, H, W] if it is random.

Square roots are numpy's, which are rounded correctly: those of a torch built with MKL are off by the
last digit for one number in five, and betas rescaled to zero terminal SNR or steps from almost no
signal make up to 2e-4 of the samples from it. Everything else is diffusers as it is.
"""

import json
import pathlib

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_ddpm
from safetensors.torch import save_file

SHAPE = (2, 1, 1, 3)
torch.set_num_threads(1)
diffusers.logging.set_verbosity_error()
power = torch.Tensor.__pow__


def root(x):
    return torch.from_numpy(np.asarray(np.sqrt(x.numpy())))


torch.sqrt = torch.Tensor.sqrt = root
torch.Tensor.__pow__ = lambda x, exponent: root(x) if exponent == 0.5 else power(x, exponent)

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
COSINE = dict(beta_schedule="squaredcos_cap_v2")
V = dict(prediction_type="v_prediction")
CLEAN = dict(prediction_type="sample")
ZERO = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing") | V
LEADING = dict(timestep_spacing="leading", steps_offset=1)
TRAILING = dict(timestep_spacing="trailing")
LINSPACE = dict(timestep_spacing="linspace")
HALF = dict(num_train_timesteps=500)
KARRAS = dict(use_karras_sigmas=True)
EXPONENTIAL = dict(use_exponential_sigmas=True)
UMBRA = dict(clip_sample=False) | TRAILING
TEN_BETAS = [0.01, 0.02, 0.05, 0.1, 0.1, 0.2, 0.25, 0.3, 0.4, 0.6]


def cosine_betas(offset):
    f = lambda t: torch.cos((torch.tensor(t, dtype=torch.float64) + offset) / (1 + offset) * torch.pi / 2) ** 2
    return [min(float(1 - f((i + 1) / 1000) / f(i / 1000)), 0.999) for i in range(1000)]


PUBLISHED = {
    "stable-diffusion-v1-5": {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.6.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    },
    "stable-diffusion-2-1": {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.8.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    },
    "stable-diffusion-xl-base-1.0": {
        "_class_name": "EulerDiscreteScheduler",
        "_diffusers_version": "0.19.0.dev0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "interpolation_type": "linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "sample_max_value": 1.0,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "trained_betas": None,
        "use_karras_sigmas": False,
    },
    "stable-diffusion-3-medium": {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "_diffusers_version": "0.29.0.dev0",
        "num_train_timesteps": 1000,
        "shift": 3.0,
    },
}

# Name, class, steps, options. A class of None takes the published config of that name.
CASES = [
    ("stable-diffusion-v1-5", None, 20, {}),
    ("stable-diffusion-2-1", None, 15, {}),
    ("stable-diffusion-xl-base-1.0", None, 16, {}),
    ("stable-diffusion-3-medium", None, 10, {}),
    ("ddpm", "DDPM", 10, {}),
    ("ddpm fixed_large", "DDPM", 7, dict(variance_type="fixed_large", clip_sample=False) | SD | V | TRAILING),
    (
        "ddpm fixed_small_log",
        "DDPM",
        13,
        dict(variance_type="fixed_small_log", clip_sample_range=0.7) | COSINE | HALF | CLEAN | LINSPACE,
    ),
    ("ddpm zero snr", "DDPM", 8, dict(clip_sample=False) | SD | ZERO),
    ("ddpm every step", "DDPM", 10, dict(num_train_timesteps=10, trained_betas=TEN_BETAS)),
    ("ddim", "DDIM", 10, {}),
    ("ddim zero snr", "DDIM", 7, dict(clip_sample=False) | SD | ZERO),
    ("ddim linspace", "DDIM", 13, dict(clip_sample_range=0.5) | COSINE | HALF | CLEAN | LINSPACE),
    ("ddim trained_betas", "DDIM", 5, dict(num_train_timesteps=10, trained_betas=TEN_BETAS, set_alpha_to_one=False)),
    ("euler", "EulerDiscrete", 10, {}),
    ("euler karras", "EulerDiscrete", 7, dict(sigma_min=0.05, sigma_max=12.0) | SD | KARRAS),
    ("euler zero snr", "EulerDiscrete", 7, SD | ZERO),
    (
        "euler log_linear",
        "EulerDiscrete",
        13,
        dict(interpolation_type="log_linear", final_sigmas_type="sigma_min") | SD | HALF | CLEAN | LEADING,
    ),
    ("euler continuous", "EulerDiscrete", 6, dict(timestep_type="continuous") | SD | V | EXPONENTIAL),
    (
        "euler continuous log_linear",
        "EulerDiscrete",
        5,
        dict(timestep_type="continuous", interpolation_type="log_linear") | SD | V,
    ),
    ("heun", "HeunDiscrete", 5, {}),
    ("heun karras", "HeunDiscrete", 7, dict(clip_sample=True, clip_sample_range=2.0) | SD | V | KARRAS | TRAILING),
    ("heun exponential", "HeunDiscrete", 6, SD | HALF | CLEAN | LEADING | EXPONENTIAL),
    ("heun one step", "HeunDiscrete", 1, COSINE | TRAILING | V),
    ("dpm", "DPMSolverMultistep", 10, SD),
    ("dpm long", "DPMSolverMultistep", 17, SD | LEADING | V),
    ("dpm karras", "DPMSolverMultistep", 7, dict(solver_type="heun") | SD | V | KARRAS),
    ("dpm first order", "DPMSolverMultistep", 8, dict(solver_order=1) | CLEAN | LINSPACE | HALF),
    ("dpm third order", "DPMSolverMultistep", 12, dict(solver_order=3) | SD | TRAILING),
    (
        "dpm third order long",
        "DPMSolverMultistep",
        15,
        dict(solver_order=3, final_sigmas_type="sigma_min") | SD | LEADING,
    ),
    (
        "dpm euler_at_final",
        "DPMSolverMultistep",
        15,
        dict(euler_at_final=True, final_sigmas_type="sigma_min", solver_type="heun") | SD,
    ),
    (
        "dpm not lower order",
        "DPMSolverMultistep",
        9,
        dict(lower_order_final=False, final_sigmas_type="sigma_min") | SD | V,
    ),
    ("dpm lu", "DPMSolverMultistep", 8, dict(use_lu_lambdas=True) | SD),
    ("dpm exponential", "DPMSolverMultistep", 8, SD | EXPONENTIAL | V),
    ("dpm zero snr", "DPMSolverMultistep", 7, SD | ZERO),
    ("dpm clipped", "DPMSolverMultistep", 10, dict(lambda_min_clipped=-5.1) | COSINE),
    ("dpm clipped trailing", "DPMSolverMultistep", 10, dict(lambda_min_clipped=-2.0) | COSINE | TRAILING | V),
    ("dpm cosine karras", "DPMSolverMultistep", 6, COSINE | KARRAS | V),
    ("pndm", "PNDM", 10, {}),
    ("pndm linspace", "PNDM", 13, dict(set_alpha_to_one=True) | COSINE | HALF | LINSPACE | V),
    ("pndm trailing", "PNDM", 7, dict(skip_prk_steps=True, set_alpha_to_one=True) | SD | V | TRAILING),
    ("pndm one step", "PNDM", 1, dict(skip_prk_steps=True) | SD),
    ("pndm two steps", "PNDM", 2, dict(skip_prk_steps=True) | SD | LEADING),
    ("flow", "FlowMatchEulerDiscrete", 7, {}),
    ("flow karras", "FlowMatchEulerDiscrete", 13, dict(shift=3.0) | KARRAS),
    ("flow terminal", "FlowMatchEulerDiscrete", 6, dict(shift=1.7, shift_terminal=0.1) | HALF),
    ("flow exponential", "FlowMatchEulerDiscrete", 5, dict(shift=0.5) | EXPONENTIAL),
    # What umbra exports, for steps that divide 1000.
    ("umbra scaled_linear epsilon", "DDIM", 10, SD | UMBRA),
    ("umbra scaled_linear zero snr velocity", "DDIM", 8, SD | UMBRA | ZERO),
    ("umbra linear clean", "DDIM", 5, UMBRA | CLEAN),
    ("umbra cosine velocity", "DDIM", 10, COSINE | UMBRA | V),
    ("umbra cosine zero snr clean", "DDIM", 8, COSINE | UMBRA | ZERO | CLEAN),
    (
        "umbra cosine 0.05 zero snr velocity",
        "DDIM",
        8,
        COSINE | UMBRA | ZERO | dict(trained_betas=cosine_betas(0.05)),
    ),
]


def case(seed, name, cls, steps, options):
    generator = torch.Generator().manual_seed(seed)
    if cls is None:
        text = json.dumps(PUBLISHED[name])
        cls = getattr(diffusers, PUBLISHED[name]["_class_name"])
        scheduler = cls.from_config(PUBLISHED[name])
    else:
        cls = getattr(diffusers, cls + "Scheduler")
        scheduler = cls.from_config(options)
        text = json.dumps(json.loads(scheduler.to_json_string()))
    scheduler.set_timesteps(steps)
    timesteps, n = scheduler.timesteps, len(scheduler.timesteps)
    init_noise_sigma = float(getattr(scheduler, "init_noise_sigma", 1.0))
    sample = torch.randn(SHAPE, generator=generator) * init_noise_sigma
    output = torch.randn((n, *SHAPE), generator=generator)
    add_noise = getattr(scheduler, "add_noise", None)
    middle = timesteps[[n // 2] * SHAPE[0]]
    if add_noise is None:
        noisy = scheduler.scale_noise(output[0], middle, sample)
    else:
        noisy = add_noise(output[0], sample, middle)
    if hasattr(scheduler, "set_begin_index"):
        # Where the first two timesteps are equal, diffusers would otherwise begin at the second.
        scheduler.set_begin_index(0)
    noise = torch.randn((n, *SHAPE), generator=generator)
    samples, scales, x = [], [], sample
    for i, t in enumerate(timesteps):
        if hasattr(scheduler, "scale_model_input"):
            scales.append(float(scheduler.scale_model_input(torch.ones(1), t)))
        else:
            scales.append(1.0)
        scheduling_ddpm.randn_tensor = lambda *_args, **_options: noise[i]
        x = scheduler.step(output[i], t, x).prev_sample
        samples.append(x)
    arrays = dict(
        sample=sample,
        output=output,
        samples=torch.stack(samples),
        timesteps=timesteps.double(),
        scales=torch.tensor(scales),
        init_noise_sigma=torch.tensor([init_noise_sigma]),
        noisy=noisy,
    )
    if cls.__name__ == "DDPMScheduler":
        arrays["noise"] = noise
    return text, arrays


configs, tensors = {}, {}
for seed, (name, cls, steps, options) in enumerate(CASES):
    text, arrays = case(seed, name, cls, steps, options)
    config = json.loads(text)
    if len(config.get("trained_betas") or []) > 10:
        config["trained_betas"] = "left out"
    configs[name] = json.dumps(config)
    for key, value in arrays.items():
        assert value.isfinite().all(), (name, key)
        tensors[f"{name}/{key}"] = value.contiguous().clone()
path = pathlib.Path(__file__).with_suffix(".safetensors")
save_file(tensors, path, metadata=configs)
print(len(CASES), "cases,", path.stat().st_size, "bytes")
