"""Masks resized by nearest neighbour and padded to a square. Writes mask.json beside it.

Pillow 13.0.0, numpy 2.4.6, seed 5. Text of 0 and 1, row by row.
"""

import json
import pathlib

import numpy
from PIL import Image

random = numpy.random.default_rng(5)
CASES = [  # mask's width and height, image's width and height, side of the square
    ((40, 40), (40, 40), 16),
    ((37, 50), (37, 50), 24),
    ((61, 45), (61, 45), 32),
    ((30, 20), (300, 200), 24),
    ((20, 13), (200, 130), 40),
    ((9, 7), (9, 7), 32),
    ((53, 71), (106, 142), 48),
]


def blob(width, height):
    """A few ellipses, as lungs are, and some noise at their rims."""
    rows, columns = numpy.mgrid[:height, :width]
    mask = numpy.zeros((height, width), bool)
    for _ in range(3):
        x, y = random.uniform(0, width), random.uniform(0, height)
        a, b = random.uniform(0.1, 0.4) * width, random.uniform(0.1, 0.4) * height
        mask |= ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 < 1
    return mask ^ (random.uniform(size=mask.shape) < 0.03)


def text(mask):
    return "".join("01"[int(bit)] for bit in mask.ravel())


cases = []
for (width, height), (image_width, image_height), size in CASES:
    mask = blob(width, height)
    longest = max(image_width, image_height)
    # As data/image.rs rounds: half away from zero.
    side = lambda length: min(max(int(length * size / longest + 0.5), 1), size)
    to = side(image_width), side(image_height)
    resized = numpy.asarray(Image.fromarray(mask.astype("uint8") * 255).resize(to, Image.Resampling.NEAREST)) > 127
    square = numpy.zeros((size, size), bool)
    x, y = (size - to[0]) // 2, (size - to[1]) // 2
    square[y : y + to[1], x : x + to[0]] = resized
    cases.append(
        {"width": width, "height": height, "image": [image_width, image_height], "size": size}
        | {"mask": text(mask), "square": text(square)}
    )

path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(cases, indent=1) + "\n")
