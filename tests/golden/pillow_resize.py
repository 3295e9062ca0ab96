"""Antialiased resize of a float image by Pillow. Makes pillow_resize.json.

Versions: Python 3.11, Pillow 13.0.0, numpy 2.4.6. Seed 5 of numpy's default generator.
The source has edges at full contrast, so the filter overshoots; values are clipped to [0, 1] as ours are.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

rng = np.random.default_rng(5)
height, width = 23, 37
source = rng.random((height, width)) * 0.3 + np.linspace(0, 0.7, width)
source[5:12, 8:20] = 1.0
source[14:18, 20:30] = 0.0
source = np.round(np.clip(source, 0, 1), 4).astype(np.float32)
image = Image.fromarray(source)
assert image.mode == "F"
sizes = [(16, 10), (8, 5), (37, 10), (64, 40)]
resized = [
    {"width": w, "height": h,
     "pixels": np.round(np.clip(np.asarray(image.resize((w, h), Image.Resampling.LANCZOS)), 0, 1).astype(float), 7)
         .ravel().tolist()}
    for w, h in sizes
]
golden = {"width": width, "height": height, "pixels": [round(float(v), 4) for v in source.ravel()], "resized": resized}
Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
