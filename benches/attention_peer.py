"""The peer of `cargo test --release how_long_attention_takes -- --ignored --nocapture`: torch's attention on the CPU."""
import statistics, time
import torch
from torch.nn.functional import scaled_dot_product_attention as attend

torch.set_num_threads(2)
torch.manual_seed(1)
q, k, v = (torch.randn(4, 8, 1024, 64, requires_grad=True) for _ in range(3))
times = []
for _ in range(7):
    start = time.perf_counter()
    out = attend(q, k, v)
    forward = time.perf_counter()
    out.sum().backward()
    times.append((forward - start, time.perf_counter() - start))
forward, both = (1e3 * statistics.median(x) for x in zip(*times[2:]))
print(f"torch {torch.__version__}: attention forward {forward:.1f} ms, both {both:.1f} ms")
