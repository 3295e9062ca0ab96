"""Reference values for src/metric, written to metric.json beside this file.

Python 3.11+, numpy 2.4.6, scipy 1.17.1, scikit-image 0.26.0, pytorch-msssim 1.0.0, torch 2.15.0,
scikit-learn 1.9.1. Seeds are those of the generator below, which the Rust tests repeat exactly, so
that no inputs need to be stored.
"""

import json
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from pytorch_msssim import ms_ssim, ssim
from pytorch_msssim.ssim import _ssim
from scipy.stats import mannwhitneyu
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

MASK = (1 << 64) - 1


class Uniforms:
    """Knuth's 64-bit linear congruential generator; 53 high bits as a number in [0, 1)."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return (self.state >> 11) / 2.0**53


def features(seed, rows, width, shift):
    """Correlated, nearly normal rows: each value is a sum of four uniforms and of its left neighbour."""
    draws = Uniforms(seed)
    out = np.zeros((rows, width), np.float32)
    for i in range(rows):
        left = 0.0
        for j in range(width):
            bell = draws.next() + draws.next() + draws.next() + draws.next() - 2.0
            value = bell * (1.0 + j / width) + 0.5 * left + shift
            out[i, j] = np.float32(value)
            left = value
    return out


def image(size, seed, noise):
    """A smooth pattern with uniform noise of the given half-width, clipped to [0, 1]."""
    draws = Uniforms(seed)
    out = np.zeros((size, size), np.float32)
    for y in range(size):
        for x in range(size):
            smooth = 0.5 + 0.2 * np.sin(x / 7.0) + 0.2 * np.cos((y + 0.3 * x) / 11.0)
            value = smooth + noise * (2.0 * draws.next() - 1.0)
            out[y, x] = np.float32(min(max(value, 0.0), 1.0))
    return out


def window():
    """pytorch_msssim's window, but in f64: 11 pixels, sigma 1.5."""
    bell = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5.0) ** 2) / (2.0 * 1.5**2))
    return (bell / bell.sum()).reshape(1, 1, 1, 11)


def ms_ssim_scales(a, b, scales):
    """pytorch_msssim.ms_ssim without its assertion that five scales fit."""
    weights = torch.tensor([0.0448, 0.2856, 0.3001, 0.2363, 0.1333], dtype=torch.float64)
    weights = weights[:scales] * weights.sum() / weights[:scales].sum()
    values = []
    for scale in range(scales):
        whole, contrast = _ssim(a, b, data_range=1.0, win=window(), size_average=False)
        if scale + 1 < scales:
            values.append(torch.relu(contrast))
            a, b = torch.nn.functional.avg_pool2d(a, 2), torch.nn.functional.avg_pool2d(b, 2)
    values.append(torch.relu(whole))
    return torch.prod(torch.stack(values, 0) ** weights.view(-1, 1, 1), 0).mean().item()


def frechet(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    mean = a.mean(0) - b.mean(0)
    return float(mean @ mean + np.trace(cov_a + cov_b - 2.0 * root))


def mmd(a, b):
    """torchmetrics' poly_mmd with poly_kernel, in f64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1.0) ** 3
    aa, bb, ab = kernel(a, a), kernel(b, b), kernel(a, b)
    m = len(a)
    value = (aa.sum() - np.trace(aa) + bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(value - 2.0 * ab.sum() / m**2)


def prdc(real, fake, k):
    """compute_prdc of the package `prdc` 0.2 (Naeem et al. 2020), written out."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    pairs = lambda x, y: np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    radius = lambda x: np.partition(pairs(x, x), k, axis=-1)[:, k]
    real_radius, fake_radius, distance = radius(real), radius(fake), pairs(real, fake)
    return {
        "precision": float((distance < real_radius[:, None]).any(0).mean()),
        "recall": float((distance < fake_radius[None]).any(1).mean()),
        "density": float((distance < real_radius[:, None]).sum(0).mean() / k),
        "coverage": float((distance.min(1) < real_radius).mean()),
    }


def knn(x, values, known, groups, k):
    """Balanced accuracy of labels voted by the k nearest rows of other groups, see src/metric/knn.rs."""
    x = x.astype(np.float64)
    x = x - x.mean(0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x @ x.T
    right, count = [0, 0], [0, 0]
    for i in np.flatnonzero(known):
        others = np.flatnonzero(known & (groups != groups[i]))
        nearest = others[np.argsort(-cosine[i, others], kind="stable")][:k]
        share, usual = values[nearest].mean(), values[others].mean()
        told = values[nearest[0]] if np.isclose(share, usual) else share > usual
        count[int(values[i])] += 1
        right[int(values[i])] += int(told == values[i])
    return float((right[0] / count[0] + right[1] / count[1]) / 2)


def band(size, seed):
    """An image, and as a mask the upright or lying band of it that is not padding."""
    narrow, mask = 2 * (seed % 5), np.zeros((size, size), bool)
    if seed % 2 == 0:
        mask[:, narrow : size - narrow] = True
    else:
        mask[narrow : size - narrow, :] = True
    return image(size, seed, 0.3).astype(np.float64), mask


def nearest(query, references):
    """The most correlated reference where neither is padded, among those that share half of the larger content."""
    (a, mask_a), best = query, (-1, -2.0)
    for index, (b, mask_b) in enumerate(references):
        both = mask_a & mask_b
        if 2 * both.sum() >= max(mask_a.sum(), mask_b.sum()):
            value = np.corrcoef(a[both], b[both])[0, 1]
            best = (index, float(value)) if value > best[1] else best
    return {"index": best[0], "pearson": best[1]}


def bootstrap(values, groups, draws):
    """Ends of the percentile interval of a mean over whole groups, and the deviation of the means."""
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    drawn = np.random.default_rng(1).integers(0, len(sums), (draws, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"low": float(low), "high": float(high), "deviation": float(means.std())}


def copying_sets():
    """Training, held-out and generated rows; of the last 60 are copies, more and more roughly."""
    train, held_out, generated = features(1, 400, 12, 0.1), features(2, 300, 12, 0.1), features(3, 200, 12, 0.3)
    for row in range(60):
        roughness = generated[row] * np.float32(row) / np.float32(300)
        generated[row] = train[row * 5] + roughness
    return train, held_out, generated


def authenticity(train, generated):
    """Share further from the nearest training row than that one is from its nearest (Alaa et al. 2022)."""
    train, generated = train.astype(np.float64), generated.astype(np.float64)
    between = np.linalg.norm(train[:, None] - train[None], axis=-1)
    np.fill_diagonal(between, np.inf)
    to_train = np.linalg.norm(generated[:, None] - train[None], axis=-1)
    nearest = to_train.argmin(1)
    return float((to_train.min(1) > between.min(1)[nearest]).mean())


def data_copying(train, held_out, generated, num_cells, least):
    """C_T of Meehan et al. (2020) as their data_copying_tests.py has it; cells around the first training rows."""
    sets = [rows.astype(np.float64) for rows in (train, held_out, generated)]
    centres = sets[0][:num_cells]
    cells = [np.linalg.norm(rows[:, None] - centres[None], axis=-1).argmin(1) for rows in sets]
    total, weight = 0.0, 0.0
    for cell in range(num_cells):
        t, p, q = [rows[cells[at] == cell] for at, rows in enumerate(sets)]
        if len(q) / len(sets[2]) <= least or len(p) == 0:
            continue
        near = NearestNeighbors(n_neighbors=1).fit(t)
        (to_q, _), (to_p, _) = near.kneighbors(q), near.kneighbors(p)
        u = mannwhitneyu(to_q.ravel(), to_p.ravel(), alternative="less").statistic
        m, n = len(q), len(p)
        z = (u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12)
        total, weight = total + n / len(sets[1]) * z, weight + n / len(sets[1])
    return float(total / weight)


def effective_rank(x):
    x = x.astype(np.float64)
    sigma = np.linalg.svd(x - x.mean(0), compute_uv=False)
    p = sigma / sigma.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def mean_cosine(x):
    x = x.astype(np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x @ x.T
    return float(cosine[np.triu_indices(len(x), 1)].mean())


def main():
    real, fake = features(1, 96, 12, 0.1), features(2, 96, 12, 0.3)
    a, b = image(64, 3, 0.02), image(64, 4, 0.2)
    large_a, large_b = image(176, 3, 0.02), image(176, 4, 0.2)
    torch_image = lambda x: torch.from_numpy(x.astype(np.float64))[None, None]
    scores = real[:, 0].astype(np.float64)
    masked = (slice(11, 64), slice(5, 50))
    far_real, far_fake = features(1, 200, 12, 3e3), features(2, 96, 12, 3e3)
    label = lambda at: fake[:, at].astype(np.float64) > 0.5
    known = lambda at: (fake[:, at + 3].astype(np.float64) > 0.3) | (at == 0)
    references = [band(32, seed) for seed in range(100, 160)]
    train, held_out, generated = copying_sets()
    golden = {
        "psnr": float(peak_signal_noise_ratio(a.astype(np.float64), b.astype(np.float64), data_range=1.0)),
        "ssim": float(
            structural_similarity(
                a.astype(np.float64), b.astype(np.float64), data_range=1.0,
                gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            )
        ),
        "ssim_torch": ssim(torch_image(a), torch_image(b), data_range=1.0, win=window()).item(),
        "ms_ssim_64": ms_ssim_scales(torch_image(a), torch_image(b), 3),
        "ms_ssim_176": ms_ssim(torch_image(large_a), torch_image(large_b), data_range=1.0, win=window()).item(),
        "pearson": float(np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1]),
        "pearson_masked": float(
            np.corrcoef(a[masked].ravel().astype(np.float64), b[masked].ravel().astype(np.float64))[0, 1]
        ),
        "nearest": [nearest(band(32, seed), references) for seed in range(9)],
        "quantiles": {
            name: float(np.quantile(real.astype(np.float64), at))
            for name, at in [("median", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)]
        },
        "knn": [knn(real, label(at), known(at), np.arange(96) // 3, 7) for at in range(3)],
        "frechet": frechet(real, fake),
        "mmd": mmd(real, fake),
        "prdc": prdc(real, fake, 5),
        "prdc_of_64": prdc(real[:64], fake[:64], 5),
        "prdc_far": prdc(far_real, far_fake, 5),
        "effective_rank": effective_rank(real),
        "effective_rank_wide": effective_rank(real[:8]),
        "mean_cosine": mean_cosine(real),
        "bootstrap": bootstrap(
            real[np.arange(96) // 3 * 3, 0].astype(np.float64) + 0.2 * scores, np.arange(96) // 3, 100_000
        ),
        "authenticity": {"generated": authenticity(train, generated), "held_out": authenticity(train, held_out)},
        "data_copying": {str(k): data_copying(train, held_out, generated, k, 0.1) for k in [1, 4]},
        "k_means": float(
            KMeans(4, init=train[:4].astype(np.float64), n_init=1, tol=0).fit(train.astype(np.float64)).inertia_
        ),
        "auc": float(roc_auc_score(fake[:, 0] > 0.3, np.round(scores, 1))),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=2) + "\n")


main()
