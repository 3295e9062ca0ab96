"""Writes times.json: how training's times are spread.

Versions: Python 3.11.7, numpy 2.4.6, scipy 1.17.1, diffusers 0.42.1, torch 2.15.0. `quantiles` are exact (scipy, f64).
`histograms` count the sigmas of a million draws, seed 5, as diffusers' training script for Stable Diffusion 3 makes them:
compute_density_for_timestep_sampling, then the shifted sigmas of FlowMatchEulerDiscreteScheduler. It counts time from the
noise, so its logit_mean is minus ours, and its mode is ours turned round.
"""

import json
import pathlib

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling
from scipy.special import expit, ndtri

SHARES = [1e-12, 1e-6, 1e-3, 0.01, 0.05, 0.08, 0.25, 0.4, 0.5, 0.7, 0.9, 0.93, 0.99, 0.999, 1 - 1e-6]
DRAWS = 1_000_000


def mode(u, scale):
    return 1 - u - scale * (np.cos(np.pi / 2 * u) ** 2 - 1 + u)


u = np.array(SHARES)
quantiles = [
    dict(times=dict(LogitNormal=dict(mean=mean, std=std)), values=expit(mean + std * ndtri(u)).tolist())
    for mean, std in [(0.0, 1.0), (0.5, 0.6), (-0.5, 1.5)]
]
for scale in [-1.0, 0.8, 1.29, 1.75]:
    quantiles.append(dict(times=dict(Mode=dict(scale=scale)), values=mode(1 - u, scale).tolist()))
quantiles.append(dict(times="CosMap", values=(1 - 1 / (np.tan(np.pi / 2 * u) + 1)).tolist()))

histograms = []
for scheme, mean, std, scale, shift, times in [
    ("logit_normal", 0.0, 1.0, None, 1.0, dict(LogitNormal=dict(mean=0.0, std=1.0))),
    ("logit_normal", -0.5, 0.6, None, 3.0, dict(LogitNormal=dict(mean=0.5, std=0.6))),
    ("mode", None, None, 1.29, 3.0, dict(Mode=dict(scale=1.29))),
    ("none", None, None, None, 3.0, "Uniform"),
]:
    generator = torch.Generator().manual_seed(5)
    u = compute_density_for_timestep_sampling(scheme, DRAWS, mean, std, scale, generator=generator)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    index = (u * 1000).long().clamp(max=999)
    sigmas = scheduler.sigmas[index].double()
    counts = torch.histc(sigmas, bins=10, min=0, max=1)
    histograms.append(dict(times=times, shift=shift, shares=(counts / DRAWS).tolist()))
golden = dict(shares=SHARES, quantiles=quantiles, histograms=histograms)
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
