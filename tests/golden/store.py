"""A shard of a store as the stock safetensors package writes it: store.safetensors.

Run: python store.py            writes store.safetensors beside this script
     python store.py FOLDER     opens every shard of the store in FOLDER and prints its columns

Versions: python 3.11.7, numpy 2.4.6, safetensors 0.8.0. No randomness.
"""

import json
import pathlib
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

if len(sys.argv) == 1:
    row = np.arange(3)
    save_file(
        {
            "key": row * 10,
            "mean": ((np.arange(18) - 18 * row[:, None]) / 8).astype(np.float16).reshape(3, 2, 3, 3),
            "tokens": ((np.arange(5) + row[:, None]).astype(np.float32) / np.float32(3)).reshape(3, 1, 5),
            "padding": np.array([[r, 1, 2, 255] for r in row], np.uint8),
            "patient": row - 1,
        },
        pathlib.Path(__file__).with_suffix(".safetensors"),
    )
else:
    folder = pathlib.Path(sys.argv[1])
    index = json.loads((folder / "index.json").read_text())
    for shard in index["shards"]:
        with safe_open(folder / shard["file"], framework="np") as opened:
            for name in opened.keys():
                column = opened.get_tensor(name)
                assert len(column) == shard["rows"]
                print(shard["file"], name, column.dtype, column.shape)
