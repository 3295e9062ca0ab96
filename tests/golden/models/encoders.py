"""Golden outputs of image encoders and of their image processors, from transformers with random weights.

Versions: torch 2.15.0, torchvision 0.29.2, transformers 5.24.0, safetensors 0.8.0, Pillow 13.0.0, numpy 2.4.6.
Seed: 1 for every network. Weights are rounded to f16, in which they are stored; the references compute with the
rounded weights in f32. Norms, biases and layer scales are random too, so that no parameter is at a value that
hides it. The processors' image is drawn with seed 5.
Run from this folder: python encoders.py
"""

import json
import pathlib
import tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


def randomise(model):
    """Weights that keep activations of order 1, rounded to f16."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            centre = 1.0 if name.endswith(("weight", "lambda1")) else 0.0
            draw = centre + 0.2 * draw
        elif "token" in name or "position" in name:
            draw = 0.5 * draw
        else:
            draw = draw / parameter[0].numel() ** 0.5
        parameter.data = draw.half().float()
    return model.eval()


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half().float()


def written(model):
    """The file and config that the library itself writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        folder = pathlib.Path(folder)
        state = load_file(next(folder.glob("*.safetensors")))
        return {name: tensor.half() for name, tensor in state.items()}, (folder / "config.json").read_text()


def save(name, state, config, arrays):
    for key, value in arrays.items():
        assert value.isfinite().all(), key
        state["golden/" + key] = value.detach().clone().contiguous()
    save_file(state, HERE / f"{name}.safetensors", metadata={"config": config})
    print(name, (HERE / f"{name}.safetensors").stat().st_size, "bytes")


def encoder(name, model, pixels, gradients=(), **options):
    """`gradients`: names in files, of parameters whose gradient is recorded."""
    randomise(model)
    output = model(pixels, **options)
    arrays = {
        "pixel_values": pixels,
        "last_hidden_state": output.last_hidden_state,
        "pooler_output": output.pooler_output,
    }
    if gradients:
        arrays["target"] = noise(3, *output.last_hidden_state.shape)
        (output.last_hidden_state - arrays["target"]).square().mean().backward()
        parameters = dict(model.named_parameters())
        for gradient in gradients:
            inside = "model." + gradient if gradient.startswith("layer.") else gradient
            arrays["gradient/" + gradient] = parameters[inside].grad
    save(name, *written(model), arrays)


class Factors(torch.nn.Module):
    """In the place of a layer's DropPath, which draws: given factors, those of attention, then of the feed-forward part."""

    def __init__(self, factors):
        super().__init__()
        self.factors = iter(factors)

    def forward(self, x):
        return x * next(self.factors)[:, None, None]


def dropped(name, model, pixels, gradients):
    """DINOv2 as a student sees: masked patches, branches left out. Gradients of a mean square."""
    randomise(model)
    batch, patches = pixels.shape[0], (pixels.shape[-1] // model.config.patch_size) ** 2
    masks = torch.rand(batch, patches, generator=torch.Generator().manual_seed(7)) < 0.4
    # Branches of layers first: kept at 1 / 0.75, left out at 0.
    branches = torch.tensor([[1, 1, 4 / 3, 0], [1, 1, 0, 4 / 3], [1, 1, 4 / 3, 4 / 3]], dtype=torch.float32)
    for at, layer in enumerate(model.encoder.layer):
        layer.drop_path = Factors(branches.T[2 * at : 2 * at + 2])
    hidden = model(pixels, bool_masked_pos=masks).last_hidden_state
    target = noise(3, *hidden.shape)
    (hidden - target).square().mean().backward()
    arrays = {"pixel_values": pixels, "last_hidden_state": hidden, "target": target}
    arrays |= {"masks": masks.float(), "branches": branches}
    parameters = dict(model.named_parameters())
    for gradient in gradients:
        arrays["gradient/" + gradient] = parameters[gradient].grad
    save(name, *written(model), arrays)


def preprocessing():
    """A byte image with edges at full contrast, through the processors of the three families."""
    rng = np.random.default_rng(5)
    side = 40
    image = rng.random((side, side)) * 80 + np.linspace(0, 170, side)
    image[5:12, 8:20] = 255
    image[14:30, 20:30] = 0
    image = np.round(image).astype(np.uint8)
    colour = Image.fromarray(np.stack([image] * 3, axis=-1))
    rad_dino = dict(image_mean=[0.5307] * 3, image_std=[0.2583] * 3)
    processors = {
        "same_size": ViTImageProcessorPil(size={"height": side, "width": side}, image_std=[0.5, 0.25, 0.4]),
        "smaller": ViTImageProcessorPil(
            size={"height": 24, "width": 24}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
        ),
        "cropped": BitImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, **rad_dino
        ),
        "larger": BitImageProcessorPil(size={"shortest_edge": 49}, crop_size={"height": 49, "width": 49}, **rad_dino),
        "dinov3": DINOv3ViTImageProcessor(size={"height": 32, "width": 32}),
    }
    arrays = {"image": torch.from_numpy(image.astype(np.float32) / 255)}
    configs = {}
    for name, processor in processors.items():
        arrays[name] = processor(colour, return_tensors="pt")["pixel_values"]
        with tempfile.TemporaryDirectory() as folder:
            processor.save_pretrained(folder)
            configs[name] = json.loads((pathlib.Path(folder) / "preprocessor_config.json").read_text())
    save("preprocessing", {}, json.dumps(configs), arrays)


encoder(
    "dinov3",
    DINOv3ViTModel(
        DINOv3ViTConfig(
            image_size=32, patch_size=8, num_channels=3, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, num_register_tokens=4, layerscale_value=0.5,
        )
    ),
    noise(2, 2, 3, 32, 32),
    gradients=(
        "embeddings.patch_embeddings.weight",
        "embeddings.register_tokens",
        "layer.0.attention.q_proj.weight",
        "layer.1.attention.k_proj.weight",
        "layer.1.layer_scale2.lambda1",
    ),
)  # fmt: skip
# No registers, a gate, a patch and an image that divide nothing, another base of the turns.
encoder(
    "dinov3_gated",
    DINOv3ViTModel(
        DINOv3ViTConfig(
            image_size=20, patch_size=5, num_channels=1, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
            intermediate_size=20, use_gated_mlp=True, hidden_act="silu", layer_norm_eps=1e-6, rope_theta=30.0,
        )
    ),
    noise(2, 2, 1, 33, 17),
    gradients=("layer.0.mlp.gate_proj.weight", "layer.0.attention.k_proj.weight"),
)  # fmt: skip
# Every bias as it is not by default; heads of one quarter each.
encoder(
    "dinov3_biases",
    DINOv3ViTModel(
        DINOv3ViTConfig(
            image_size=16, patch_size=4, num_channels=3, hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
            intermediate_size=24, num_register_tokens=1, use_gated_mlp=True, query_bias=False, key_bias=True,
            value_bias=False, proj_bias=False, mlp_bias=False,
        )
    ),
    noise(2, 1, 3, 8, 20),
)  # fmt: skip
encoder(
    "dinov2_swiglu",
    Dinov2Model(
        Dinov2Config(
            image_size=28, patch_size=7, num_channels=3, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            mlp_ratio=3, layerscale_value=0.5, use_swiglu_ffn=True,
        )
    ),
    noise(2, 2, 3, 28, 28),
)  # fmt: skip
dropped(
    "dinov2_dropped",
    Dinov2Model(
        Dinov2Config(
            image_size=20, patch_size=5, num_channels=1, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            mlp_ratio=2, layerscale_value=0.5, use_swiglu_ffn=True, drop_path_rate=0.25,
        )
    ),
    noise(2, 3, 1, 20, 20),
    ["embeddings.mask_token", "encoder.layer.1.layer_scale1.lambda1", "encoder.layer.1.norm1.weight"]
    + ["embeddings.patch_embeddings.projection.weight", "embeddings.position_embeddings"],
)  # fmt: skip
encoder(
    "vit_pooler",
    ViTModel(
        ViTConfig(
            image_size=16, patch_size=4, num_channels=3, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, layer_norm_eps=1e-6, pooler_output_size=10,
        )
    ),
    noise(2, 2, 3, 16, 24),
    interpolate_pos_encoding=True,
)  # fmt: skip
preprocessing()
