"""Draws a synthetic radiograph that is, to this model's encoder, like the image it is given.

    python sample.py IMAGE [--out sample.png] [--steps 20] [--guidance 1.0] [--seed 1]

IMAGE is a grey PNG or JPEG of 8 bits. Needs torch, diffusers, transformers, safetensors, pillow, numpy. The classes
are the libraries' own; only the condition, two affine maps, is spelt out here. Not for clinical use.
"""

import argparse
import json
import pathlib

import diffusers
import numpy
import torch
import transformers
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).resolve().parent


def config(name):
    return json.loads((HERE / name).read_text())


def load(part, kind):
    return getattr(diffusers, kind).from_pretrained(HERE, subfolder=part, low_cpu_mem_usage=False).eval()


class Model:
    def __init__(self):
        self.encoder = transformers.AutoModel.from_pretrained(HERE / "encoder").eval()
        parts = config("model_index.json")
        part = "unet" if "unet" in parts else "transformer"
        self.network = load(part, parts[part][1])
        self.vae = load("vae", parts["vae"][1])
        kind = getattr(diffusers, config("scheduler/scheduler_config.json")["_class_name"])
        self.scheduler = kind.from_pretrained(HERE, subfolder="scheduler")
        self.config, self.weights = config("condition/config.json"), load_file(HERE / "condition/model.safetensors")
        self.normalisation = config("encoder/preprocessor_config.json")

    def tokens(self, grey):
        """Grey images [B, 1, S, S] in [0, 1] to the encoder's tokens that guide, [B, N, d]."""
        side = self.normalisation["size"]["height"]
        if grey.shape[-1] != side:
            mode = {2: "bilinear", 3: "bicubic"}[self.normalisation["resample"]]
            grey = torch.nn.functional.interpolate(grey, (side, side), mode=mode, antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(self.normalisation[name])[:, None, None] for name in ("image_mean", "image_std"))
        pixels = (grey - mean) / std
        resized = {"interpolate_pos_encoding": True} if self.encoder.config.model_type == "vit" else {}
        seen = self.encoder(pixels, **resized).last_hidden_state  # class token, registers, patches
        first_patch = 1 + getattr(self.encoder.config, "num_register_tokens", 0)
        kind, patches = self.config["tokens"], seen[:, first_patch:]
        if isinstance(kind, dict):  # means over a grid
            grid, patches_to_a_side = kind["ClassAndGrid"], int(patches.shape[1] ** 0.5)
            fields = patches.unflatten(1, (grid, patches_to_a_side // grid, grid, patches_to_a_side // grid))
            return torch.cat([seen[:, :1], fields.mean((2, 4)).flatten(1, 2)], 1)
        if kind == "ClassAndMean":
            return torch.cat([seen[:, :1], patches.mean(1, keepdim=True)], 1)
        return seen[:, : 1 if kind == "Class" else first_patch]

    def condition(self, tokens):
        """Tokens [B, N, d], or None for no image, to what the network attends to, [B, N + 1, D]."""
        w = self.weights
        if tokens is None:
            return torch.cat([w["null"], w["always"]], 1)
        tokens = (tokens - w["mean"]) / w["std"]
        tokens = torch.nn.functional.linear(tokens, w["projection.weight"], w["projection.bias"]) + w["slots"]
        return torch.cat([tokens, w["always"].expand(len(tokens), -1, -1)], 1)

    def predict(self, noisy, timestep, condition):
        """What the network says of noisy latents, told the pooled condition where it was trained with it."""
        pooled, known = condition[:, :-1].flatten(1), self.network.config
        # Sinusoids of 0, where it was trained to be told how far a step leads.
        step = torch.cat([torch.ones(len(noisy), 128), torch.zeros(len(noisy), 128)], 1)
        if "class_embed_type" in known:  # a U-Net, to which the pooled condition is a class label
            pooled = pooled if known.class_embed_type else None
            step = step if known.time_cond_proj_dim else None
            return self.network(noisy, timestep, condition, class_labels=pooled, timestep_cond=step).sample
        if known.pooled_projection_dim == pooled.shape[1] + step.shape[1]:
            pooled = torch.cat([pooled, step], 1)
        elif known.pooled_projection_dim != pooled.shape[1]:
            pooled = torch.zeros(len(pooled), known.pooled_projection_dim)
        return self.network(noisy, condition, pooled, timestep.expand(len(noisy))).sample

    def latents(self, noise, condition, steps, guidance=1.0):
        """Standard normal noise [B, C, h, w] to latents. DDIM is exact where `steps` divides 1000."""
        if hasattr(self.scheduler.config, "shift"):  # a flow: from 1 down to 1 / steps
            self.scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)])
        else:
            self.scheduler.set_timesteps(steps)
        null = self.condition(None).expand(len(noise), -1, -1)
        for timestep in self.scheduler.timesteps:
            prediction = self.predict(noise, timestep, condition)
            if guidance != 1:
                unguided = self.predict(noise, timestep, null)
                prediction = unguided + guidance * (prediction - unguided)
            noise = self.scheduler.step(prediction, timestep, noise).prev_sample
        return noise

    def decode(self, latents):
        """Latents to images [B, C, S, S], about in [-1, 1]."""
        mean, std = (torch.tensor(self.config["latents"][name])[:, None, None] for name in ("mean", "std"))
        return self.vae.decode(latents * std + mean).sample


def read(path, size):
    """The whole image, [1, 1, size, size] in [0, 1], padded with black to a square; never stretched."""
    image = Image.open(path)
    if image.mode not in ("L", "LA", "P", "RGB", "RGBA", "1"):
        raise SystemExit(f"{path} has more than 8 bits ({image.mode}); convert it to 8 first")
    image = Image.fromarray(numpy.asarray(image.convert("L"), numpy.float32) / 255)
    width, height = (max(1, int(side * size / max(image.size) + 0.5)) for side in image.size)
    left, top = (size - width) // 2, (size - height) // 2
    square = numpy.zeros((size, size), numpy.float32)
    resized = numpy.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    square[top : top + height, left : left + width] = resized.clip(0, 1)
    return torch.from_numpy(square)[None, None]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--out", default="sample.png")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    model = Model()
    condition = model.condition(model.tokens(read(args.image, model.config["image_size"])))
    side, channels = model.network.config.sample_size, model.network.config.in_channels
    noise = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(args.seed))
    image = model.decode(model.latents(noise, condition, args.steps, args.guidance))
    pixels = (image.mean(1).clamp(-1, 1) * 127.5 + 127.5).round().byte()[0].numpy()

    said = PngImagePlugin.PngInfo()
    said.add_text("Description", "Synthetic radiograph made by umbra")
    said.add_text("Disclaimer", "Contains synthetic images. Not for clinical use.")
    said.add_text("Software", f"umbra {model.config['umbra_version']}, diffusers {diffusers.__version__}")
    said.add_text("umbra:recipe", model.config["recipe"])
    said.add_text("umbra:seed", str(args.seed))
    Image.fromarray(pixels).save(args.out, pnginfo=said)


if __name__ == "__main__":
    main()
