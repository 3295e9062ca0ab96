"""Writes lpips_gradient.json: the gradient of LPIPS 0.1 over AlexNet by one of two grey images, as a loss has it.

Versions: torch 2.15.0, lpips 0.1.4, numpy 2.4.6. Weights and images follow the formula of features.py; a grey image is
the same in all three channels. Kept are the mean distance, the gradient's norm, and of the gradient every fifth row and
column. Run from this folder: python lpips_gradient.py
"""

import json
import pathlib

import lpips
import torch

from features import filled, image

torch.set_grad_enabled(True)
network = lpips.LPIPS(pretrained=False, pnet_rand=True, net="alex", verbose=False)
with torch.no_grad():
    filled(network)
restored = image("lpips_gradient_a", (2, 1, 48, 40)).requires_grad_()
real = image("lpips_gradient_b", (2, 1, 48, 40))
distance = network(restored.expand(-1, 3, -1, -1), real.expand(-1, 3, -1, -1)).mean()
distance.backward()
golden = {
    "distance": distance.item(),
    "norm": restored.grad.norm().item(),
    "gradient": restored.grad[:, :, ::5, ::5].flatten().tolist(),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
print(golden["distance"], golden["norm"], len(golden["gradient"]))
