"""Writes adamw.json: five steps of torch.optim.AdamW on a two-layer network, gradients clipped.

Versions: Python 3.11.7, torch 2.15.0. Seed 11. The learning rate changes at every step; each step
averages two rounds of four samples; layers' biases and the extra scale do not decay.
"""

import json
import pathlib

import torch

torch.manual_seed(11)
CLIP = 0.3
RATES = [1e-2, 8e-3, 6e-3, 1e-2, 3e-3]

first, second = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
scale = torch.nn.Parameter(torch.randn(2))
named = {
    "first.weight": first.weight,
    "first.bias": first.bias,
    "second.weight": second.weight,
    "second.bias": second.bias,
    "scale": scale,
}
decays = [first.weight, second.weight]
plain = [first.bias, second.bias, scale]
optimizer = torch.optim.AdamW(
    [{"params": decays, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
    betas=(0.9, 0.99),
    eps=1e-8,
)


def snapshot():
    return {name: value.detach().flatten().tolist() for name, value in named.items()}


golden = dict(clip=CLIP, rates=RATES, start=snapshot(), inputs=[], targets=[], norms=[], after=[])
for rate in RATES:
    optimizer.zero_grad()
    inputs, targets = torch.randn(2, 4, 3), torch.randn(2, 4, 2)
    for x, y in zip(inputs, targets):
        out = second(torch.tanh(first(x))) * scale
        ((out - y) ** 2).mean().div(2).backward()
    norm = torch.nn.utils.clip_grad_norm_(named.values(), CLIP)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    golden["inputs"].append(inputs.flatten().tolist())
    golden["targets"].append(targets.flatten().tolist())
    golden["norms"].append(float(norm))
    golden["after"].append(snapshot())
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
