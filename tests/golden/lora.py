"""LoRA of peft on a linear layer and on convolutions of 1 and 3: outputs, and the merged weight. Writes lora.json.

peft 0.21.2, torch 2.15.0+cu132 on the CPU, seed 7. Files name the factors `weight.lora.lora_a` and `weight.lora.lora_b`,
each flat: A is [rank, everything but the outputs], B is [outputs, rank].
"""

import json
import pathlib

import peft
import torch

torch.manual_seed(7)
RANK, ALPHA = 3, 6.0


def case(name, layer, x):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x)

    base = {key: value.detach().clone() for key, value in layer.state_dict().items()}
    net = peft.get_peft_model(Net(), peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["layer"]))
    wrapped = net.base_model.model.layer
    a, b = wrapped.lora_A["default"].weight, wrapped.lora_B["default"].weight
    with torch.no_grad():
        a.copy_(torch.randn_like(a))
        b.copy_(torch.randn_like(b))
    output = net(x)
    output.square().sum().backward()
    tensors = {
        "weight": base["weight"],
        "bias": base["bias"],
        "a": a.detach().flatten(1),
        "b": b.detach().flatten(1),
        "input": x,
        "output": output.detach(),
        "gradient_a": a.grad.flatten(1),
        "gradient_b": b.grad.flatten(1),
        "merged": net.merge_and_unload().layer.weight.detach(),
    }
    entry = lambda t: {"shape": list(t.shape), "values": [float(f"{v:.8g}") for v in t.flatten().tolist()]}
    return name, {key: entry(value) for key, value in tensors.items()}


cases = dict(
    [
        case("linear", torch.nn.Linear(5, 4), torch.randn(2, 5)),
        case("conv1", torch.nn.Conv2d(4, 6, 1), torch.randn(2, 4, 3, 3)),
        case("conv3", torch.nn.Conv2d(2, 4, 3, padding=1), torch.randn(1, 2, 4, 4)),
    ]
)
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps({"rank": RANK, "alpha": ALPHA, "cases": cases}, indent=1) + "\n")
