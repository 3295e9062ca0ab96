"""The peer of `umbra bench`: the same step of the same U-Net in PyTorch with diffusers.

Usage: python unet_peer.py --latent 32 --batch 4 [--bf16] [--channels-last] [--compile]. Needs torch and diffusers.
Prints one JSON document with the same keys.
"""
import argparse, json, statistics, time
import torch
from diffusers import UNet2DConditionModel

p = argparse.ArgumentParser()
p.add_argument("--device", default="cuda")
p.add_argument("--latent", type=int, default=32)
p.add_argument("--batch", type=int, default=4)
p.add_argument("--bf16", action="store_true", help="autocast to bfloat16 over f32 master weights")
p.add_argument("--tf32", action="store_true", help="TF32 tensor cores for f32 products")
p.add_argument("--channels-last", action="store_true", help="NHWC in memory, which cuDNN's tensor cores prefer")
p.add_argument("--compile", action="store_true", help="torch.compile")
p.add_argument("--warm-up", type=int, default=3)
p.add_argument("--iterations", type=int, default=10)
a = p.parse_args()
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.tf32
torch.backends.cudnn.benchmark = True
torch.manual_seed(1)
unet = UNet2DConditionModel(cross_attention_dim=768, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
                            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, sample_size=a.latent).to(a.device)
if a.channels_last:
    unet = unet.to(memory_format=torch.channels_last)
net = torch.compile(unet) if a.compile else unet
noisy, target = (torch.randn(a.batch, 4, a.latent, a.latent, device=a.device) for _ in range(2))
context = torch.randn(a.batch, 77, 768, device=a.device)
t = torch.full((a.batch,), 500, device=a.device)
optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, fused=a.device == "cuda")
sync = torch.cuda.synchronize if a.device == "cuda" else lambda: None
cast = torch.autocast(a.device, torch.bfloat16, enabled=a.bf16)

def run(train):
    times = []
    for _ in range(a.warm_up + a.iterations):
        start = time.perf_counter()
        with cast, torch.set_grad_enabled(train):
            out = net(noisy, t, context).sample
        if not train:
            sync(); times.append((time.perf_counter() - start,)); continue
        loss = (out.float() - target).square().mean()
        sync(); forward = time.perf_counter()
        loss.backward()
        sync(); backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step(); optimizer.zero_grad(set_to_none=True)
        sync(); times.append((forward - start, backward - forward, time.perf_counter() - backward))
    return times[a.warm_up:], times[0]

def run_without_waiting():
    sync(); start = time.perf_counter()
    for _ in range(a.iterations):
        with cast:
            out = net(noisy, t, context).sample
        (out.float() - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step(); optimizer.zero_grad(set_to_none=True)
    sync(); return 1e3 * (time.perf_counter() - start) / a.iterations

inference, _ = run(False)
steps, first = run(True)
ms = lambda values: 1e3 * statistics.median(values)
step = run_without_waiting()
print(json.dumps({
    "network": "unet-sd15", "peer": f"torch {torch.__version__}", "compute": "Bf16" if a.bf16 else "Tf32" if a.tf32 else "F32",
    "channels_last": a.channels_last, "compile": a.compile,
    "latent": a.latent, "batch": a.batch, "first_step_s": sum(first), "inference_ms": ms([s[0] for s in inference]),
    "forward_ms": ms([s[0] for s in steps]), "backward_ms": ms([s[1] for s in steps]), "optimizer_ms": ms([s[2] for s in steps]),
    "step_ms": step, "images_per_second": 1e3 * a.batch / step,
    "reserved_gib": torch.cuda.max_memory_reserved() / 2**30 if a.device == "cuda" else None,
    "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if a.device == "cuda" else None,
}))
