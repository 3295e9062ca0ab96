"""The peer of `umbra bench --encode`: Stable Diffusion's autoencoder by diffusers, DINOv2-B by transformers.

Usage: python encode_peer.py vae|dino --batch 64 [--bf16]. Needs torch, diffusers, transformers. Prints JSON.
"""
import argparse, json, statistics, time
import torch

p = argparse.ArgumentParser()
p.add_argument("network", choices=["vae", "dino"])
p.add_argument("--device", default="cuda")
p.add_argument("--batch", type=int, default=64)
p.add_argument("--bf16", action="store_true", help="weights and activations in bfloat16, the fastest that torch offers")
p.add_argument("--warm-up", type=int, default=3)
p.add_argument("--iterations", type=int, default=10)
a = p.parse_args()
torch.backends.cudnn.benchmark = True
dtype = torch.bfloat16 if a.bf16 else torch.float32
if a.network == "vae":
    from diffusers import AutoencoderKL
    net = AutoencoderKL(in_channels=3, out_channels=3, block_out_channels=(128, 256, 512, 512), latent_channels=4,
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                        layers_per_block=2, norm_num_groups=32)
    net = net.to(a.device, dtype, memory_format=torch.channels_last)
    side, run = 256, lambda x: net.encode(x).latent_dist.mean.mean()
else:
    from transformers import Dinov2Config, Dinov2Model
    net = Dinov2Model(Dinov2Config(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=14,
                                   image_size=518)).to(a.device, dtype)
    side, run = 224, lambda x: net(x).last_hidden_state.mean()
net.eval()
x = torch.randn(a.batch, 3, side, side, device=a.device, dtype=dtype)
if a.network == "vae":
    x = x.contiguous(memory_format=torch.channels_last)
times = []
for _ in range(a.warm_up + a.iterations):
    start = time.perf_counter()
    with torch.inference_mode():
        run(x).item()
    times.append(time.perf_counter() - start)
step = statistics.median(times[a.warm_up:])
print(json.dumps({"network": a.network, "peer": f"torch {torch.__version__}", "compute": "Bf16" if a.bf16 else "F32",
                  "batch": a.batch, "first_s": times[0], "encode_ms": 1e3 * step, "images_per_second": a.batch / step}))
