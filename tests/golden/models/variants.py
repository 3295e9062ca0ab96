"""Golden outputs of the autoencoders' and U-Nets' variants, from diffusers with random weights.

Versions: torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0. Seed: 1 for every network.
Weights are rounded to f16, in which they are stored; the references compute with the rounded weights in
f32. Norms and biases are random too, so that no parameter is at a value that hides it.

The files of the TAESD repository are plain `Sequential`s that diffusers does not read where blocks have a
pool; `tiny_raw` and `taef2` compare with `Raw` below, which was written from the layout.
`taef2` needs the published weights: UMBRA_REAL_DATA names the folder that holds
weights/taef2_{encoder,decoder}.safetensors. Only what they make of a formula's picture is kept.
Run from this folder: python variants.py
"""

import json
import os
import pathlib
import tempfile

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


def randomise(model):
    """Weights that keep activations of order 1, rounded to f16."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            draw = (1.0 if name.endswith("weight") else 0.0) + 0.2 * draw
        elif name == "class_embedding.weight" and parameter.shape[0] < parameter.shape[1]:
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
    state = dict(state)
    for key, value in arrays.items():
        assert value.isfinite().all(), key
        state["golden/" + key] = value.detach().contiguous()
    save_file(state, HERE / f"{name}.safetensors", metadata={"config": config})
    size = (HERE / f"{name}.safetensors").stat().st_size
    rms = {key: round(value.square().mean().sqrt().item(), 3) for key, value in arrays.items()}
    print(name, size, "bytes", rms)
    assert size < 100_000


@torch.no_grad()
def tiny(name, config, size, latent_size):
    model = randomise(AutoencoderTiny(**config))
    images = noise(2, 2, config["in_channels"], *size)
    latents = 2 * noise(3, 2, config["latent_channels"], *latent_size)
    arrays = {
        "images": images,
        "mean": model.encode(images).latents,
        "latents": latents,
        "reconstruction": model.decode(latents).sample,
    }
    save(name, *written(model), arrays)


@torch.no_grad()
def kl(name, config, size):
    model = randomise(AutoencoderKL(**config))
    images = noise(2, 2, config["in_channels"], *size)
    posterior = model.encode(images).latent_dist
    latents = noise(3, *posterior.mean.shape)
    arrays = {
        "images": images,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "kl": posterior.kl(),
        "latents": latents,
        "reconstruction": model.decode(latents).sample,
    }
    save(name, *written(model), arrays)


@torch.no_grad()
def unet(name, config, size, tokens, class_labels=None, added=None, timestep_cond=None):
    model = randomise(UNet2DConditionModel(**config))
    noisy = noise(2, 2, config["in_channels"], *size)
    width = config.get("encoder_hid_dim") or config["cross_attention_dim"]
    arrays = {
        "noisy": noisy,
        "context": noise(3, 2, tokens, width),
        "timesteps": torch.tensor([3.0, 741.0]),
    }
    prediction = model(
        noisy, arrays["timesteps"], arrays["context"], class_labels=class_labels, added_cond_kwargs=added,
        timestep_cond=timestep_cond,
    ).sample  # fmt: skip
    if timestep_cond is not None:
        arrays["timestep_cond"] = timestep_cond
    if class_labels is not None:
        arrays["class_labels"] = class_labels.float().reshape(2, -1)
    save(name, *written(model), arrays | (added or {}) | {"prediction": prediction})


class Block(nn.Module):
    """A block of the TAESD repository, by its names."""

    def __init__(self, width, pooled):
        super().__init__()
        conv = lambda: nn.Conv2d(width, width, 3, padding=1)
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())
        wide = 4 * width
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(width, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(),
                nn.Conv2d(wide, width, 1, bias=False),
            )  # fmt: skip
        self.pooled = pooled

    def forward(self, x):
        if self.pooled:
            x = x + self.pool(x)
        return F.relu(self.conv(x) + x)


class Clamp(nn.Module):
    def forward(self, z):
        return 3 * torch.tanh(z / 3)


class Raw(nn.Module):
    """Both halves as plain `Sequential`s; images in [0, 1]."""

    def __init__(self, latent, width, encoder_blocks, decoder_blocks, pooled):
        super().__init__()
        layers = []
        for stage, count in enumerate(encoder_blocks):
            layers.append(nn.Conv2d(width, width, 3, 2, 1, bias=False) if stage else nn.Conv2d(3, width, 3, 1, 1))
            layers += [Block(width, len(layers) + at in pooled["encoder"]) for at in range(count)]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(width, latent, 3, padding=1))
        layers = [Clamp(), nn.Conv2d(latent, width, 3, padding=1), nn.ReLU()]
        for stage, count in enumerate(decoder_blocks):
            if stage:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
            layers += [Block(width, len(layers) + at in pooled["decoder"]) for at in range(count)]
        self.decoder = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))

    @torch.no_grad()
    def arrays(self, images, latents=None):
        """What becomes of `images` in [-1, 1]."""
        mean = self.encoder((images + 1) / 2)
        latents = mean if latents is None else latents
        reconstruction = 2 * self.decoder(latents) - 1
        return {"images": images, "mean": mean, "latents": latents, "reconstruction": reconstruction}


def formula(size):
    """A smooth grey picture in [-1, 1] with a bright edge, repeated to RGB."""
    y, x = torch.meshgrid(*[torch.arange(size) / size] * 2, indexing="ij")
    rings = torch.sin(20 * ((x - 0.4) ** 2 + (y - 0.6) ** 2))
    gray = 0.6 * rings * torch.cos(3 * x) + 0.3 * (x > y).float()
    return gray.half().float().expand(1, 3, size, size)


tiny(
    "tiny",
    dict(
        in_channels=3, out_channels=3, encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(2, 1, 1), latent_channels=4,
    ),
    (16, 24),
    (4, 6),
)  # fmt: skip
tiny(
    "tiny_other",
    dict(
        in_channels=1, out_channels=2, encoder_block_out_channels=(4, 4, 4), decoder_block_out_channels=(6, 6),
        num_encoder_blocks=(0, 1, 2), num_decoder_blocks=(1, 0), latent_channels=3, upsampling_scaling_factor=4,
        act_fn="gelu", scaling_factor=0.7, shift_factor=0.25, latent_magnitude=2, latent_shift=0.4,
    ),
    (10, 15),
    (3, 5),
)  # fmt: skip
for act_fn in ["mish", "swish"]:
    tiny(
        f"tiny_{act_fn}",
        dict(
            in_channels=2, out_channels=1, encoder_block_out_channels=(3,), decoder_block_out_channels=(3,),
            num_encoder_blocks=(1,), num_decoder_blocks=(1,), latent_channels=2, act_fn=act_fn,
        ),
        (5, 4),
        (5, 4),
    )  # fmt: skip
raw_config = {
    "_class_name": "TinyAutoencoder",
    "latent_channels": 5,
    "encoder_block_out_channels": [8, 8, 8],
    "decoder_block_out_channels": [8, 8, 8],
    "num_encoder_blocks": [1, 1, 2],
    "num_decoder_blocks": [2, 1, 1],
    "pooled_blocks": {"encoder": [5, 6], "decoder": [3, 4]},
}
raw = randomise(Raw(5, 8, [1, 1, 2], [2, 1, 1], raw_config["pooled_blocks"]))
save(
    "tiny_raw",
    {name: tensor.half() for name, tensor in raw.state_dict().items()},
    json.dumps(raw_config),
    raw.arrays(noise(2, 2, 3, 16, 8), 2 * noise(3, 2, 5, 4, 3)),
)
kl(
    "kl_16",
    dict(
        in_channels=3, out_channels=3, block_out_channels=(4, 4, 6), layers_per_block=1, latent_channels=16,
        norm_num_groups=2, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159,
    ),
    (17, 22),
)  # fmt: skip
unet(
    "unet_linear",  # as Stable Diffusion 2.1
    dict(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(4, 4, 8), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(1, 2, 4), cross_attention_dim=6, norm_num_groups=2, use_linear_projection=True,
        upcast_attention=True,
    ),
    (12, 7),
    3,
)  # fmt: skip
unet(
    "unet_text_time",  # as Stable Diffusion XL
    dict(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(4, 4, 4), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 2, 4), cross_attention_dim=6, norm_num_groups=2, use_linear_projection=True,
        transformer_layers_per_block=(3, 1, 2), addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=29,
    ),
    (8, 12),
    4,
    added={"text_embeds": noise(6, 2, 5), "time_ids": torch.tensor([[8.0, 12, 0, 0, 64, 96], [100, 120, 3, 1, 64, 96]])},
)  # fmt: skip
unet(
    "unet_hid",
    dict(
        sample_size=8, in_channels=3, out_channels=4, block_out_channels=(4, 8), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4, cross_attention_dim=6, norm_num_groups=4, encoder_hid_dim=9, num_class_embeds=5,
    ),
    (6, 10),
    3,
    class_labels=torch.tensor([4, 1]),
)  # fmt: skip
unet(
    "unet_scale_shift",
    dict(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(4, 8), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, cross_attention_dim=6, norm_num_groups=2, norm_eps=1e-6,
        resnet_time_scale_shift="scale_shift", class_embed_type="timestep", conv_in_kernel=5, conv_out_kernel=1,
        center_input_sample=True,
    ),
    (9, 6),
    2,
    class_labels=torch.tensor([17.0, 250.0]),
)  # fmt: skip
unet(
    "unet_time_cond",  # as a latent consistency model
    dict(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(4, 8), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2, cross_attention_dim=6, norm_num_groups=2, time_cond_proj_dim=10,
    ),
    (8, 6),
    2,
    timestep_cond=noise(5, 2, 10),
)  # fmt: skip
unet(
    "unet_no_mid",
    dict(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(4, 8), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), mid_block_type=None,
        attention_head_dim=2, cross_attention_dim=6, norm_num_groups=2, only_cross_attention=(True, False),
        time_embedding_dim=12, class_embed_type="identity",
    ),
    (8, 6),
    3,
    class_labels=noise(4, 2, 12),
)  # fmt: skip
unet(
    "unet_cross_only",
    dict(
        sample_size=8, in_channels=4, out_channels=2, block_out_channels=(4, 8), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D", attention_head_dim=8, cross_attention_dim=6, norm_num_groups=2,
        only_cross_attention=True, class_embed_type="projection", projection_class_embeddings_input_dim=7,
    ),
    (4, 10),
    1,
    class_labels=noise(4, 2, 7),
)  # fmt: skip
unet(
    "unet_cross_only_mid",  # the middle keeps its self-attention
    dict(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(4,), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
        attention_head_dim=2, cross_attention_dim=6, norm_num_groups=2, only_cross_attention=True,
    ),
    (4, 6),
    2,
)  # fmt: skip

if "UMBRA_REAL_DATA" in os.environ:
    weights = pathlib.Path(os.environ["UMBRA_REAL_DATA"]) / "weights"
    pooled = {"encoder": [11, 12, 13], "decoder": [3, 4, 5]}
    taef2 = Raw(32, 64, [1, 3, 3, 3], [3, 3, 3, 1], pooled).eval()
    taef2.encoder.load_state_dict(load_file(weights / "taef2_encoder.safetensors"))
    taef2.decoder.load_state_dict(load_file(weights / "taef2_decoder.safetensors"))
    arrays = taef2.float().arrays(formula(64))
    del arrays["latents"]  # the means
    arrays["images"] = arrays["images"][:, :1].clone()
    save("taef2", {}, json.dumps({"_class_name": "TinyAutoencoder", "latent_channels": 32, "pooled_blocks": pooled}), arrays)
