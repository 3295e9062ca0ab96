"""Writes spectrum.json: radially averaged power spectra (src/metric/spectrum.rs) by numpy's FFT.

Versions: Python 3.11.7, numpy 2.4.6. Images are those of metric.py, whose generator is repeated here; no other seed.
The mean is taken away, then a Hann window (np.hanning, symmetric) applied along both axes. A frequency's radius is in
cycles a side; ring r is [r, r + 1) up to half the side, octave k the wavelengths of 2^(k+1) to 2^(k+2) pixels.
"""

import json
from pathlib import Path

import numpy as np

MASK = (1 << 64) - 1


class Uniforms:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return (self.state >> 11) / 2.0**53


def image(size, seed, noise):
    draws = Uniforms(seed)
    out = np.zeros((size, size), np.float32)
    for y in range(size):
        for x in range(size):
            smooth = 0.5 + 0.2 * np.sin(x / 7.0) + 0.2 * np.cos((y + 0.3 * x) / 11.0)
            value = smooth + noise * (2.0 * draws.next() - 1.0)
            out[y, x] = np.float32(min(max(value, 0.0), 1.0))
    return out


def spectrum(pixels):
    side = len(pixels)
    window = np.outer(np.hanning(side), np.hanning(side))
    pixels = pixels.astype(np.float64)
    power = np.abs(np.fft.fft2((pixels - pixels.mean()) * window)) ** 2
    cycles = np.abs(np.fft.fftfreq(side) * side).round()
    square = cycles[:, None] ** 2 + cycles[None] ** 2
    rings = [power[(square >= r**2) & (square < (r + 1) ** 2)].mean() for r in range(side // 2)]
    octaves, octave = [], 0
    while side >> (octave + 2) >= 2:
        low, high = side / 2 ** (octave + 2), side / 2 ** (octave + 1)
        octaves.append(power[(square >= low**2) & (square < high**2)].mean())
        octave += 1
    return {"radial": list(map(float, rings)), "octaves": list(map(float, octaves))}


golden = {str(size): spectrum(image(size, 3, 0.2)) for size in (64, 45, 22, 13)}
many = [spectrum(image(32, seed, 0.2)) for seed in (3, 4, 5, 6)]
golden["median"] = {key: np.median([it[key] for it in many], axis=0).tolist() for key in ("radial", "octaves")}
golden["middle"] = spectrum(image(64, 3, 0.2)[16:48, 16:48])
Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
