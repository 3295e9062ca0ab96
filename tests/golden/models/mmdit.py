"""Golden outputs of Stable Diffusion 3's transformer, from diffusers with random weights.

Versions: torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0. Seed: 1 for every network. Weights and the table of
positions are rounded to f16, in which they are stored; the references compute with the rounded weights in f32. Norms
and biases are random too, so that no parameter is at a value that hides it. `positions` is the table as it was.
Run from this folder: python mmdit.py
"""

import pathlib
import tempfile

import torch
from diffusers import SD3Transformer2DModel
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


def randomise(model):
    """Weights that keep activations of order 1, rounded to f16."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            draw = (1.0 if name.endswith("weight") else 0.0) + 0.2 * draw
        else:
            draw = draw / parameter[0].numel() ** 0.5
        parameter.data = draw.half().float()
    for buffer in model.buffers():
        buffer.data = buffer.half().float()
    return model.eval()


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half().float()


def transformer(name, config, size, tokens, gradients, block):
    """`block`: the one whose image tokens are recorded."""
    model = SD3Transformer2DModel(**config)
    positions = model.pos_embed.pos_embed.clone()
    randomise(model)
    hidden = {}
    model.transformer_blocks[block].register_forward_hook(lambda _, __, out: hidden.update(image=out[1]))
    arrays = {
        "noisy": noise(2, 2, config["in_channels"], *size),
        "context": noise(3, 2, tokens, config["joint_attention_dim"]),
        "pooled": noise(4, 2, config["pooled_projection_dim"]),
        "timesteps": torch.tensor([3.0, 741.5]),
    }
    prediction = model(arrays["noisy"], arrays["context"], arrays["pooled"], arrays["timesteps"]).sample
    target = noise(5, *prediction.shape)
    loss = (prediction - target).square().mean()
    loss.backward()
    arrays |= {"prediction": prediction, "target": target, "loss": loss.reshape(1), "hidden": hidden["image"]}
    arrays["positions"] = positions
    parameters = dict(model.named_parameters())
    for gradient in gradients:
        arrays["gradient/" + gradient] = parameters[gradient].grad
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        folder = pathlib.Path(folder)
        state = {key: value.half() for key, value in load_file(next(folder.glob("*.safetensors"))).items()}
        written = (folder / "config.json").read_text()
    for key, value in arrays.items():
        assert value.isfinite().all(), key
        state["golden/" + key] = value.detach().contiguous()
    save_file(state, HERE / f"{name}.safetensors", metadata={"config": written})
    print(name, (HERE / f"{name}.safetensors").stat().st_size, "bytes")


transformer(
    "mmdit",
    dict(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=6, caption_projection_dim=16, pooled_projection_dim=5,
        pos_embed_max_size=4, qk_norm="rms_norm",
    ),
    (6, 8),
    3,
    (
        "pos_embed.proj.weight",
        "transformer_blocks.0.attn.to_q.weight",
        "transformer_blocks.0.attn.norm_q.weight",
        "transformer_blocks.0.attn.norm_added_k.weight",
        "transformer_blocks.0.norm1_context.linear.weight",
        "transformer_blocks.0.ff_context.net.0.proj.weight",
        "transformer_blocks.1.norm1.linear.bias",
        "time_text_embed.text_embedder.linear_1.weight",
        "norm_out.linear.weight",
        "proj_out.weight",
    ),
    0,
)  # fmt: skip
# No norms of queries and keys, patches of one pixel, latents that are not square in a table with room around them, and
# a table of another density than the network's latents.
transformer(
    "mmdit_other",
    dict(
        sample_size=6, patch_size=1, in_channels=3, out_channels=5, num_layers=3, attention_head_dim=4,
        num_attention_heads=3, joint_attention_dim=7, caption_projection_dim=12, pooled_projection_dim=4,
        pos_embed_max_size=9,
    ),
    (4, 7),
    2,
    (
        "context_embedder.weight",
        "transformer_blocks.1.attn.to_add_out.weight",
        "transformer_blocks.2.attn.add_k_proj.weight",
        "transformer_blocks.2.norm1_context.linear.weight",
        "transformer_blocks.2.ff.net.2.weight",
    ),
    1,
)  # fmt: skip
