"""Lossless JPEG 2000 codestreams by OpenJPEG through Pillow. Makes jpeg2000.json.

Versions: Python 3.11, Pillow 13.0.0, numpy 2.4.6. Seed 6 of numpy's default generator.
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

rng = np.random.default_rng(6)
height, width = 13, 17


def codestream(image):
    out = io.BytesIO()
    image.save(out, format="JPEG2000", irreversible=False, no_jp2=True)
    return out.getvalue().hex()


grey16 = (rng.random((height, width)) * 65535).astype(np.uint16)
grey8 = (rng.random((height, width)) * 255).astype(np.uint8)
rgb = (rng.random((height, width, 3)) * 255).astype(np.uint8)
cases = []
for name, bits, array in [("grey16", 16, grey16), ("grey8", 8, grey8), ("rgb", 8, rgb)]:
    frame = codestream(Image.fromarray(array))
    back = np.asarray(Image.open(io.BytesIO(bytes.fromhex(frame))))
    assert (back == array).all(), name
    cases.append({"name": name, "rows": height, "columns": width, "samples": array.size // height // width,
                  "bits": bits, "frame": frame, "values": array.ravel().tolist()})
Path(__file__).with_suffix(".json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
