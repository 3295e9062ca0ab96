"""Brightness of stored values by pydicom's modality and VOI transforms. Makes dicom_windows.json.

Versions: Python 3.11, pydicom 3.0.2, numpy 2.4.6. No randomness.
Each case is a file's attributes, its stored values, and what `apply_modality_lut` and `apply_voi_lut` make of them,
divided by the output's full scale. No table has 8-bit entries: pydicom 3.0.2 then computes the index in 8 bits
too, and wraps.
"""

import json
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut


def lut(first, bits, entries):
    return {"first": first, "bits": bits, "entries": [int(e) for e in entries]}


def sequence(table):
    item = Dataset()
    item.LUTDescriptor = [len(table["entries"]), table["first"], table["bits"]]
    item["LUTDescriptor"].VR = "SS" if table["first"] < 0 else "US"
    item.LUTData = table["entries"]
    item["LUTData"].VR = "US"
    return [item]


def brightness(case):
    stored = np.array(case["stored"], dtype=np.int16 if case["signed"] else np.uint16)
    modality = Dataset()
    modality.PixelRepresentation = int(case["signed"])
    if "modality_lut" in case:
        modality.ModalityLUTSequence = sequence(case["modality_lut"])
    elif "slope" in case:
        modality.RescaleSlope, modality.RescaleIntercept = case["slope"], case["intercept"]
    values = apply_modality_lut(stored, modality)

    voi = Dataset()
    voi.PhotometricInterpretation = "MONOCHROME2"
    voi.BitsStored, voi.PixelRepresentation = 16, 0  # full scale of the output: 0 to 65535
    if "voi_lut" in case:
        voi.VOILUTSequence = sequence(case["voi_lut"])
        return apply_voi_lut(values.astype(np.int64), voi) / (2.0 ** case["voi_lut"]["bits"] - 1)
    voi.WindowCenter, voi.WindowWidth = case["center"], case["width"]
    voi.VOILUTFunction = case["function"]
    return apply_voi_lut(values.astype(np.float64), voi) / 65535.0


ramp12 = list(range(0, 4096, 79)) + [4095]
signed12 = list(range(-2048, 2048, 83)) + [2047]
gamma = np.round(65535 * (np.arange(200) / 199.0) ** 2.2).astype(int)
cases = [
    dict(name="linear", signed=False, bits=12, stored=ramp12, center=1800, width=2500, function="LINEAR"),
    dict(name="linear_width_1", signed=False, bits=12, stored=ramp12, center=1975.5, width=1, function="LINEAR"),
    dict(name="linear_rescaled", signed=True, bits=12, stored=signed12, slope=1.7, intercept=-300.5,
         center=-120.5, width=1500, function="LINEAR"),
    dict(name="exact", signed=False, bits=12, stored=ramp12, center=1800.25, width=2500, function="LINEAR_EXACT"),
    dict(name="exact_narrow", signed=True, bits=12, stored=signed12, slope=0.01, intercept=0.0,
         center=0.125, width=0.5, function="LINEAR_EXACT"),
    dict(name="sigmoid", signed=False, bits=12, stored=ramp12, center=1800, width=900, function="SIGMOID"),
    dict(name="sigmoid_rescaled", signed=True, bits=12, stored=signed12, slope=2.0, intercept=-1024.0,
         center=-600, width=2200, function="SIGMOID"),
    dict(name="modality_lut", signed=True, bits=12, stored=signed12,
         modality_lut=lut(-1000, 16, (np.arange(1500) * 7) % 4096), center=2000, width=3000, function="LINEAR"),
    dict(name="voi_lut", signed=False, bits=12, stored=ramp12, voi_lut=lut(900, 16, gamma)),
    dict(name="voi_lut_rescaled", signed=False, bits=12, stored=ramp12, slope=1.0, intercept=-1000.0,
         voi_lut=lut(-500, 12, gamma // 16)),
    dict(name="both_luts", signed=True, bits=12, stored=signed12,
         modality_lut=lut(-1000, 16, (np.arange(1500) * 7) % 4096), voi_lut=lut(300, 16, gamma)),
]
for case in cases:
    case["brightness"] = [float(value) for value in brightness(case)]
Path(__file__).with_suffix(".json").write_text(json.dumps(cases, indent=None, separators=(",", ":")) + "\n")
