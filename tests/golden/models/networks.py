"""Golden outputs of the networks, from transformers and diffusers with random weights.

Versions: torch 2.15.0, transformers 5.23.0, diffusers 0.42.1, safetensors 0.8.0. Seed: 1 for every network.
Weights are rounded to f16, in which they are stored; the references compute with the rounded weights in
f32. Norms, biases and layer scales are random too, so that no parameter is at a value that hides it.
Run from this folder: python networks.py
"""

import pathlib
import tempfile

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
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


def save(name, model, arrays):
    state, config = written(model)
    for key, value in arrays.items():
        assert value.isfinite().all(), key
        state["golden/" + key] = value.detach().contiguous()
    save_file(state, HERE / f"{name}.safetensors", metadata={"config": config})
    print(name, (HERE / f"{name}.safetensors").stat().st_size, "bytes")


def vit(name, model, pixels, **options):
    randomise(model)
    with torch.no_grad():
        tokens = model(pixels, **options).last_hidden_state
    save(name, model, {"pixels": pixels, "tokens": tokens})


def autoencoder(name, config, size):
    model = randomise(AutoencoderKL(**config))
    images = noise(2, 2, config["in_channels"], *size)
    with torch.no_grad():
        posterior = model.encode(images).latent_dist
        latents = noise(3, *posterior.mean.shape)
        reconstruction = model.decode(latents).sample
    arrays = {
        "images": images,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "kl": posterior.kl(),
        "latents": latents,
        "reconstruction": reconstruction,
    }
    save(name, model, arrays)


def unet(name, config, size, tokens, pooled=None, gradients=()):
    model = randomise(UNet2DConditionModel(**config))
    noisy = noise(2, 2, config["in_channels"], *size)
    context = noise(3, 2, tokens, config["cross_attention_dim"])
    timesteps = torch.tensor([3.0, 741.0])
    arrays = {"noisy": noisy, "context": context, "timesteps": timesteps}
    options = {}
    if pooled:
        arrays["pooled"] = options["class_labels"] = noise(4, 2, pooled)
    prediction = model(noisy, timesteps, context, **options).sample
    target = noise(5, *prediction.shape)
    arrays |= {"prediction": prediction, "target": target}
    loss = (prediction - target).square().mean()
    loss.backward()
    arrays["loss"] = loss.reshape(1)
    parameters = dict(model.named_parameters())
    for gradient in gradients:
        arrays["gradient/" + gradient] = parameters[gradient].grad
    save(name, model, arrays)


vit(
    "vit",
    ViTModel(
        ViTConfig(
            image_size=16, patch_size=4, num_channels=3, hidden_size=16, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=32, layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    ),
    noise(2, 2, 3, 16, 16),
)  # fmt: skip
vit(
    "vit_other_size",
    ViTModel(
        ViTConfig(
            image_size=12, patch_size=4, num_channels=1, hidden_size=12, num_hidden_layers=2,
            num_attention_heads=3, intermediate_size=20, layer_norm_eps=1e-12, qkv_bias=False,
        ),
    ),
    noise(2, 1, 1, 20, 8),
    interpolate_pos_encoding=True,
)  # fmt: skip
vit(
    "dinov2",
    Dinov2Model(
        Dinov2Config(
            image_size=28, patch_size=7, num_channels=3, hidden_size=16, num_hidden_layers=2,
            num_attention_heads=4, mlp_ratio=2, layerscale_value=0.5,
        )
    ),
    noise(2, 2, 3, 35, 14),
)  # fmt: skip
vit(
    "dinov2_registers",
    Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            image_size=32, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=2,
            num_attention_heads=2, mlp_ratio=3, num_register_tokens=3,
        )
    ),
    noise(2, 2, 1, 20, 44),
)  # fmt: skip
autoencoder(
    "autoencoder",
    dict(
        in_channels=1, out_channels=1, block_out_channels=(4, 8), layers_per_block=1, latent_channels=4,
        norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=16,
    ),
    (16, 16),
)  # fmt: skip
autoencoder(
    "autoencoder_other",
    dict(
        in_channels=3, out_channels=2, block_out_channels=(2, 4, 6), layers_per_block=2, latent_channels=3,
        norm_num_groups=2, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False, scaling_factor=0.3, shift_factor=0.1,
    ),
    (24, 8),
)  # fmt: skip
unet(
    "unet",
    dict(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(4, 8), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, cross_attention_dim=12, norm_num_groups=2,
    ),
    (8, 8),
    2,
    gradients=(
        "conv_in.weight",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "up_blocks.0.resnets.1.norm1.weight",
        "time_embedding.linear_1.weight",
    ),
)  # fmt: skip
unet(
    "unet_other",
    dict(
        sample_size=8, in_channels=3, out_channels=6, block_out_channels=(4, 4, 6), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 2, 3), cross_attention_dim=5, norm_num_groups=2, use_linear_projection=True,
        transformer_layers_per_block=2, flip_sin_to_cos=False, freq_shift=1, class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=7,
    ),
    (5, 10),
    3,
    pooled=7,
    gradients=("class_embedding.weight", "mid_block.attentions.0.proj_out.weight"),
)  # fmt: skip
