"""Opens an exported folder with stock diffusers and transformers, and compares what they compute with umbra.

    python export_check.py FOLDER REFERENCE IMAGE

REFERENCE is a safetensors file of umbra's own numbers for the same model, IMAGE a grey PNG; both are made by
tests/it/export/python.rs, which calls this. Checked with: torch 2.15.0, diffusers 0.42.1, transformers 5.24.0,
safetensors 0.8.0, pillow 13.0.0. Without arguments (as `just golden` calls it) there is nothing to do.
"""

import importlib.util
import json
import logging
import pathlib
import subprocess
import sys
import tempfile
import warnings

if len(sys.argv) != 4:
    print(__doc__)
    sys.exit(0)

import diffusers
import numpy
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

FOLDER, IMAGE = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[3])
REFERENCE = load_file(sys.argv[2])
torch.set_num_threads(1)
torch.set_grad_enabled(False)


class Said(logging.Handler):
    """Everything that the libraries log at warning level or above."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


said = Said()
for name in ("diffusers", "transformers", "huggingface_hub"):
    logging.getLogger(name).addHandler(said)
warnings.simplefilter("error")


def close(name, found, expected, tolerance):
    """The largest difference, in units of the expected values' root mean square."""
    assert found.shape == expected.shape, f"{name}: {tuple(found.shape)}, expected {tuple(expected.shape)}"
    error = ((found - expected).abs().max() / expected.square().mean().sqrt()).item()
    print(f"  {name:<24} {error:.1e}  (at most {tolerance:.0e})")
    assert error < tolerance, f"{name}: error {error:.2e}"


# Each part by its own class, as a stranger would open it.
index = json.loads((FOLDER / "model_index.json").read_text())
for part in ("unet" if "unet" in index else "transformer", "vae"):
    model, loaded = getattr(diffusers, index[part][1]).from_pretrained(
        FOLDER, subfolder=part, low_cpu_mem_usage=False, output_loading_info=True
    )
    assert not any(loaded.values()), (part, loaded)
scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(FOLDER, subfolder="scheduler")
encoder, loaded = getattr(transformers, index["encoder"][1]).from_pretrained(
    FOLDER / "encoder", output_loading_info=True
)
assert not any(loaded.values()), loaded
print(f"  {type(scheduler).__name__}, {type(encoder).__name__}")

# Then all of them through the script that comes with them.
spec = importlib.util.spec_from_file_location("sample", FOLDER / "sample.py")
sample = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sample)
model = sample.Model()
assert not said.lines, said.lines

grey, noise = REFERENCE["grey"], REFERENCE["noise"]
steps, guidance = int(REFERENCE["steps"]), REFERENCE["guidance"].item()
# Lanczos 3 on both sides; Pillow rounds to f32 between its two passes.
close("image as read", sample.read(IMAGE, model.vae.config.sample_size), grey[:1], 1e-5)
pixels = (grey - 0.5) / 0.25
resized = {"interpolate_pos_encoding": True} if model.encoder.config.model_type == "vit" else {}
output = model.encoder(pixels, **resized)
close("encoder, all tokens", output.last_hidden_state, REFERENCE["all_tokens"], 1e-4)
close("encoder, pooled", output.pooler_output, REFERENCE["all_tokens"][:, 0], 1e-4)
close("tokens that guide", model.tokens(grey), REFERENCE["tokens"], 1e-4)
condition = model.condition(model.tokens(grey))
close("condition", condition, REFERENCE["condition"], 1e-4)
close("null condition", model.condition(None), REFERENCE["null"], 1e-6)
timestep = REFERENCE["timestep"][0]
if not hasattr(model.scheduler.config, "shift"):
    timestep = timestep.long()
close("one prediction", model.predict(noise, timestep, REFERENCE["condition"]), REFERENCE["prediction"], 1e-4)
# f32 on both sides; the schedulers' own tables are products of up to 1000 f32 factors.
latents = model.latents(noise, REFERENCE["condition"], steps)
close(f"{steps} steps", latents, REFERENCE["latents"], 3e-5)
guided = model.latents(noise, REFERENCE["condition"], steps, guidance)
close(f"{steps} steps, guided", guided, REFERENCE["guided"], 3e-5)
# Or else the comparison would say nothing about the condition.
effect = (REFERENCE["guided"] - REFERENCE["latents"]).square().mean().sqrt() / REFERENCE["latents"].std()
print(f"  {'effect of the guidance':<24} {effect:.1e}")
assert effect > 6e-5
close("decoded", model.decode(REFERENCE["latents"]), REFERENCE["decoded"], 1e-4)
moments = model.vae.encode(grey.expand(-1, model.vae.config.in_channels, -1, -1) * 2 - 1).latent_dist
close("encoded", moments.mean, REFERENCE["mean"], 1e-4)
mean, std = (torch.tensor(model.vae.config[name])[:, None, None] for name in ("latents_mean", "latents_std"))
scaled = (moments.mean - mean) / std
close("encoded, as denoised", scaled, REFERENCE["clean"], 1e-4)

# The image processor, where it can be had, normalises as umbra does.
if importlib.util.find_spec("torchvision"):
    processor = transformers.AutoImageProcessor.from_pretrained(FOLDER / "encoder")
    square = Image.fromarray((grey[0, 0].numpy() * 255).round().astype(numpy.uint8))
    seen = processor(square, return_tensors="pt")["pixel_values"]
    close("image processor", seen[:, :1], pixels[:1], 0.02)  # 8 bits
assert not said.lines, said.lines

with tempfile.TemporaryDirectory() as home:
    out = pathlib.Path(home) / "sample.png"
    command = [sys.executable, FOLDER / "sample.py", IMAGE, "--out", out, "--steps", "4", "--guidance", "1.5"]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(out) as drawn:
        assert drawn.mode == "L" and drawn.size == (model.vae.config.sample_size,) * 2
        assert drawn.text["Disclaimer"] == "Contains synthetic images. Not for clinical use."
        assert drawn.text["Description"] == "Synthetic radiograph made by umbra" and "umbra:seed" in drawn.text
print("  agreed")
