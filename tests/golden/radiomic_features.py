"""Reference values for src/metric/radiomics, written to radiomic_features.json beside this file.

Python 3.11, pyradiomics 3.1.0 (commit of 16 June 2025), SimpleITK 2.5.7, PyWavelets 1.9.0, numpy 2.4.6.
The images are those of metric.py's `image`, at 8 bits.
"""

import json
import logging
from pathlib import Path

import numpy as np
import radiomics
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor

MASK = (1 << 64) - 1


class Uniforms:
    """Knuth's 64-bit linear congruential generator; 53 high bits as a number in [0, 1)."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return (self.state >> 11) / 2.0**53


def image(size, seed, noise):
    """metric.py's image."""
    draws = Uniforms(seed)
    out = np.zeros((size, size), np.float32)
    for y in range(size):
        for x in range(size):
            smooth = 0.5 + 0.2 * np.sin(x / 7.0) + 0.2 * np.cos((y + 0.3 * x) / 11.0)
            value = smooth + noise * (2.0 * draws.next() - 1.0)
            out[y, x] = np.float32(min(max(value, 0.0), 1.0))
    return out


def measured(pixels):
    gray = np.round(pixels.astype(np.float64) * 255.0)
    extractor = RadiomicsFeatureExtractor(force2D=True, force2Ddimension=0, binWidth=5)
    extractor.disableAllFeatures()
    for name in ["firstorder", "glcm", "glrlm", "glszm", "ngtdm", "gldm"]:
        extractor.enableFeatureClassByName(name)
    extractor.enableImageTypeByName("Wavelet")
    whole = sitk.GetImageFromArray(np.ones((1, *gray.shape), np.uint8))
    found = extractor.execute(sitk.GetImageFromArray(gray[None]), whole)
    # Those that follow from others, or take an eigenvalue of a matrix of thousands of numbers.
    left_out = ("_TotalEnergy", "_glcm_SumAverage", "_glcm_MCC")
    return {
        name: float(f"{value:.13g}")
        for name, value in found.items()
        if not name.startswith("diagnostics") and not name.endswith(left_out)
    }


def main():
    radiomics.logger.setLevel(logging.ERROR)
    large = image(48, 3, 0.1)
    odd = {name: value for name, value in measured(large[:31]).items() if "_firstorder_" in name}
    golden = {"square": measured(large), "odd": odd}
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",\n", ":")) + "\n")


main()
