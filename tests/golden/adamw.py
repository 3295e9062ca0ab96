"""Writes adamw.json: five steps of torch.optim.AdamW on a two-layer network, gradients clipped; and adamw_groups.json:
the same with a pace of its own for some of the parameters.

Versions: Python 3.11.7, torch 2.15.0. Seed 11. The learning rate changes at every step; each step
averages two rounds of four samples; layers' biases and the extra scale do not decay.
"""

import fnmatch
import json
import pathlib

import torch

CLIP = 0.3
RATES = [1e-2, 8e-3, 6e-3, 1e-2, 3e-3]
DECAY = 0.1
# Names, times the learning rate, times the weight decay. What two groups name has both factors.
GROUPS = [
    dict(weights=["first.*"], rate=0.2, decay=0.5),
    dict(weights=["*.weight"], rate=0.5, decay=3.0),
    dict(weights=["scale"], rate=0.0),
]


def factors(name, groups):
    rate, decay = 1.0, 1.0
    for group in groups:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in group["weights"]):
            rate, decay = rate * group.get("rate", 1.0), decay * group.get("decay", 1.0)
    return rate, decay


def run(file, groups):
    torch.manual_seed(11)
    first, second = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
    scale = torch.nn.Parameter(torch.randn(2))
    named = {
        "first.weight": first.weight,
        "first.bias": first.bias,
        "second.weight": second.weight,
        "second.bias": second.bias,
        "scale": scale,
    }
    param_groups = []
    for name, value in named.items():
        rate, decay = factors(name, groups)
        decay = DECAY * decay if value.dim() >= 2 else 0.0
        param_groups.append({"params": [value], "weight_decay": decay, "times": rate})
    optimizer = torch.optim.AdamW(param_groups, betas=(0.9, 0.99), eps=1e-8)

    def snapshot():
        return {name: value.detach().flatten().tolist() for name, value in named.items()}

    golden = dict(clip=CLIP, rates=RATES, start=snapshot(), inputs=[], targets=[], norms=[], after=[])
    if groups:
        golden["groups"] = groups
    for rate in RATES:
        optimizer.zero_grad()
        inputs, targets = torch.randn(2, 4, 3), torch.randn(2, 4, 2)
        for x, y in zip(inputs, targets):
            out = second(torch.tanh(first(x))) * scale
            ((out - y) ** 2).mean().div(2).backward()
        norm = torch.nn.utils.clip_grad_norm_(named.values(), CLIP)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["times"]
        optimizer.step()
        golden["inputs"].append(inputs.flatten().tolist())
        golden["targets"].append(targets.flatten().tolist())
        golden["norms"].append(float(norm))
        golden["after"].append(snapshot())
    (pathlib.Path(__file__).parent / file).write_text(json.dumps(golden) + "\n")


run("adamw.json", [])
run("adamw_groups.json", GROUPS)
