"""Writes averages.json: exponents of power-function averages, and how snapshots of some make another.

Versions: Python 3.11.7, numpy 2.4.6. No randomness. Karras et al. 2023 (arXiv 2312.02696), appendix C: the exponent is
the largest root of eq. 126's cubic; shares solve the normal equations of eq. 151's inner products, and are scaled to sum
to 1. `error` is not from the closed form: it integrates the difference of both weightings on a fine grid.
"""

import json
import pathlib

import numpy as np


def exponent(sigma):
    t = sigma**-2
    return np.roots([1, 7, 16 - t, 12 - t]).real.max()


def product(a, b):
    (sigma_a, end_a), (sigma_b, end_b) = a, b
    p, q = exponent(sigma_a), exponent(sigma_b)
    power = q if end_a < end_b else -p
    return (p + 1) * (q + 1) * (end_a / end_b) ** power / ((p + q + 1) * max(end_a, end_b))


def shares(places, wanted):
    left = np.array([[product(a, b) for b in places] for a in places])
    right = np.array([product(a, wanted) for a in places])
    solved = np.linalg.solve(left, right)
    return solved / solved.sum()


def weighting(place, times):
    sigma, end = place
    gamma = exponent(sigma)
    return np.where(times <= end, (gamma + 1) * np.minimum(times / end, 1) ** gamma / end, 0)


def error(places, wanted, mix):
    last = max(end for _, end in places)
    edges = np.linspace(0, last, 2_000_001)
    times = (edges[1:] + edges[:-1]) / 2
    found = sum(share * weighting(place, times) for share, place in zip(mix, places))
    exact = weighting(wanted, times)
    return float(np.sqrt(((found - exact) ** 2).sum() / (exact**2).sum()))


sigmas = [0.01, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.28]
cases = []
for kept, every, count, wanted in [
    ([0.05, 0.10], 100, 10, (0.075, 1000)),
    ([0.05, 0.10], 100, 10, (0.15, 1000)),
    ([0.05, 0.10], 64, 16, (0.10, 1000)),
    ([0.05], 125, 8, (0.06, 1000)),
    ([0.10], 250, 4, (0.02, 1000)),
]:
    places = [(sigma, every * (at + 1)) for at in range(count) for sigma in kept]
    mix = shares(places, wanted)
    cases.append(
        dict(places=places, wanted=wanted, shares=mix.tolist(), error=error(places, wanted, mix))
    )
golden = dict(exponents=[(sigma, float(exponent(sigma))) for sigma in sigmas], cases=cases)
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
