"""Writes schedules.json: cumulative signal power of the discrete noise schedules.

Versions: Python 3.11.7, diffusers 0.42.1, torch 2.15.0, numpy 2.4.6. No randomness.
`diffusers` is what its DDIMScheduler holds (f32); `exact` is the same formula in f64.
"""

import json
import math
import pathlib

import numpy as np
from diffusers import DDIMScheduler

TIMESTEPS = [0, 1, 9, 99, 249, 499, 749, 899, 990, 998, 999]


def exact(kind, first, last, zero):
    if kind == "linear":
        betas = np.linspace(first, last, 1000, dtype=np.float64)
    elif kind == "scaled_linear":
        betas = np.linspace(first**0.5, last**0.5, 1000, dtype=np.float64) ** 2
    else:
        f = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = np.array([min(1 - f((i + 1) / 1000) / f(i / 1000), 0.999) for i in range(1000)])
    alpha_bar = np.cumprod(1 - betas)
    if zero:
        root = np.sqrt(alpha_bar)
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        alpha_bar = root**2
    return alpha_bar


cases = []
for kind, first, last, zero in [
    ("linear", 1e-4, 0.02, False),
    ("scaled_linear", 0.00085, 0.012, False),
    ("scaled_linear", 0.00085, 0.012, True),
    ("squaredcos_cap_v2", 1e-4, 0.02, False),
]:
    scheduler = DDIMScheduler(
        beta_start=first, beta_end=last, beta_schedule=kind, rescale_betas_zero_snr=zero
    )
    cases.append(
        {
            "kind": kind,
            "first": first,
            "last": last,
            "zero_terminal_snr": zero,
            "timesteps": TIMESTEPS,
            "diffusers": [float(scheduler.alphas_cumprod[t]) for t in TIMESTEPS],
            "exact": [float(exact(kind, first, last, zero)[t]) for t in TIMESTEPS],
        }
    )
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(cases, indent=1) + "\n")
