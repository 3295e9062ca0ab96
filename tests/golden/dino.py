"""Writes dino.json: the parts of self-distillation as DINO (arXiv 2104.14294) and DINOv2 (arXiv 2304.07193) compute them.

Head, cross-view loss and centre follow DINO's published code, Sinkhorn-Knopp, KoLeo and the loss of masked patches
DINOv2's, Gram anchoring DINOv3's (arXiv 2508.10104), on one process.
Versions: Python 3.11.7, torch 2.15.0, torchvision 0.29.2. Seed 1 for each part. Inputs are f32, all else is
computed from them in f64, so that what differs is the rounding of the other side.
Run from this folder: python dino.py
"""

import json
import math
import pathlib
import warnings

import torch
import torch.nn.functional as F
from torchvision.transforms import RandomResizedCrop

warnings.filterwarnings("ignore")
GOLDEN = {}
BATCH, LOCALS, PROTOTYPES, WIDTH = 5, 3, 8, 10
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE, MOMENTUM = 0.1, 0.04, 0.9


def keep(name, value):
    value = torch.as_tensor(value, dtype=torch.float64).detach()
    assert value.isfinite().all(), name
    GOLDEN[name] = dict(shape=list(value.shape), values=value.flatten().tolist())


def draw(*shape, scale=1.0):
    """Numbers that are exact in f32, as f64."""
    return (scale * torch.randn(shape)).double()


class DINOHead(torch.nn.Module):
    def __init__(self, in_dim, out_dim, hidden_dim, bottleneck_dim):
        super().__init__()
        widths = [in_dim, hidden_dim, hidden_dim, bottleneck_dim]
        layers = []
        for one, other in zip(widths, widths[1:]):
            layers += [torch.nn.Linear(one, other), torch.nn.GELU()]
        self.mlp = torch.nn.Sequential(*layers[:-1])
        self.apply(self._init_weights)
        self.last_layer = torch.nn.utils.weight_norm(torch.nn.Linear(bottleneck_dim, out_dim, bias=False))
        self.last_layer.weight_g.data.fill_(1)
        self.last_layer.weight_g.requires_grad = False

    def _init_weights(self, m):
        if isinstance(m, torch.nn.Linear):
            torch.nn.init.trunc_normal_(m.weight, std=0.02)
            torch.nn.init.constant_(m.bias, 0)

    def forward(self, x):
        x = self.mlp(x)
        x = F.normalize(x, dim=-1, p=2)
        return self.last_layer(x)


def head():
    torch.manual_seed(1)
    fresh = DINOHead(128, 1024, 512, 128)
    keep("head/init/mlp_std", torch.stack([fresh.mlp[at].weight.std() for at in (0, 2, 4)]))
    keep("head/init/last_layer_std", fresh.last_layer.weight_v.std())
    keep("head/init/last_layer_most", fresh.last_layer.weight_v.abs().max())

    head = DINOHead(WIDTH, PROTOTYPES, 12, 6).double()
    # Weights of order 1 and biases that are not zero: nothing may hide.
    named = {"mlp.0": head.mlp[0], "mlp.1": head.mlp[2], "mlp.2": head.mlp[4]}
    parameters = {f"{name}.{part}": getattr(layer, part) for name, layer in named.items() for part in ("weight", "bias")}
    parameters["last_layer"] = head.last_layer.weight_v
    for name, parameter in parameters.items():
        parameter.data = draw(*parameter.shape, scale=0.5)
        keep("head/weight/" + name, parameter)
    embeddings = draw(BATCH, WIDTH).requires_grad_()
    keep("head/embeddings", embeddings)
    scores = head(embeddings)
    keep("head/scores", scores)
    upstream = draw(BATCH, PROTOTYPES)
    keep("head/upstream", upstream)
    (scores * upstream).sum().backward()
    keep("head/gradient/embeddings", embeddings.grad)
    for name, parameter in parameters.items():
        keep("head/gradient/" + name, parameter.grad)


def cross_view(student_output, targets):
    """DINOLoss.forward after the teacher's softmax."""
    student_out = (student_output / STUDENT_TEMPERATURE).chunk(2 + LOCALS)
    total_loss, n_loss_terms = 0, 0
    for iq, q in enumerate(targets.chunk(2)):
        for v in range(len(student_out)):
            if v == iq:
                continue
            loss = torch.sum(-q * F.log_softmax(student_out[v], dim=-1), dim=-1)
            total_loss += loss.mean()
            n_loss_terms += 1
    return total_loss / n_loss_terms


def sinkhorn_knopp(teacher_output, teacher_temp, n_iterations):
    Q = torch.exp(teacher_output / teacher_temp).t()
    K, B = Q.shape
    Q /= torch.sum(Q)
    for _ in range(n_iterations):
        Q /= torch.sum(Q, dim=1, keepdim=True)
        Q /= K
        Q /= torch.sum(Q, dim=0, keepdim=True)
        Q /= B
    Q *= B
    return Q.t()


def losses():
    torch.manual_seed(1)
    student = draw((2 + LOCALS) * BATCH, PROTOTYPES, scale=0.3).requires_grad_()
    teacher, center = draw(2 * BATCH, PROTOTYPES, scale=0.3), draw(1, PROTOTYPES, scale=0.1)
    keep("student", student)
    keep("teacher", teacher)
    keep("center", center)
    targets = {
        "mean": F.softmax((teacher - center) / TEACHER_TEMPERATURE, dim=-1),
        "sinkhorn_1": sinkhorn_knopp(teacher, TEACHER_TEMPERATURE, 1),
        "sinkhorn_3": sinkhorn_knopp(teacher, TEACHER_TEMPERATURE, 3),
    }
    keep("center_after", center * MOMENTUM + teacher.mean(dim=0, keepdim=True) * (1 - MOMENTUM))
    for name, target in targets.items():
        student.grad = None
        loss = cross_view(student, target)
        loss.backward()
        keep(f"targets/{name}", target)
        keep(f"loss/{name}", loss)
        keep(f"gradient/{name}", student.grad)


def ibot():
    """Masked patches of two views of three images, one view without any: DINOv2's iBOTPatchLoss, dense over all patches."""
    torch.manual_seed(2)
    images, patches = 3, 6
    masks = torch.tensor(
        [[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0]]
        + [[0, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 1], [0, 0, 0, 1, 1, 0]],
        dtype=torch.float64,
    )
    teacher = draw(2 * images, patches, PROTOTYPES, scale=0.3)
    student = draw(2 * images, patches, PROTOTYPES, scale=0.3).requires_grad_()
    center = draw(1, PROTOTYPES, scale=0.1)
    keep("ibot/masks", masks)
    keep("ibot/teacher", teacher)
    keep("ibot/student", student)
    keep("ibot/center", center)
    balanced = torch.zeros_like(teacher)
    balanced[masks.bool()] = sinkhorn_knopp(teacher[masks.bool()], TEACHER_TEMPERATURE, 3)
    targets = {
        "mean": F.softmax((teacher - center) / TEACHER_TEMPERATURE, dim=-1),
        "sinkhorn_3": balanced,
    }
    for name, target in targets.items():
        student.grad = None
        loss = torch.sum(target * F.log_softmax(student / STUDENT_TEMPERATURE, dim=-1), dim=-1)
        loss = torch.sum(loss * masks, dim=-1) / masks.sum(dim=-1).clamp(min=1.0)
        loss = -loss.mean()
        loss.backward()
        keep(f"ibot/loss/{name}", loss)
        keep(f"ibot/gradient/{name}", student.grad)


def gram():
    """DINOv3's Gram loss per image: a mean square over the cosines of all pairs of patches."""
    torch.manual_seed(3)
    student, anchor = draw(3, 6, WIDTH).requires_grad_(), draw(3, 6, WIDTH)
    keep("gram/student", student)
    keep("gram/anchor", anchor)

    def similarities(feats):
        feats = F.normalize(feats, dim=-1)
        return torch.matmul(feats, feats.transpose(-1, -2))

    loss = torch.nn.MSELoss()(similarities(student), similarities(anchor))
    loss.backward()
    keep("gram/loss", loss)
    keep("gram/gradient", student.grad)


def koleo(student_output, eps=1e-8):
    student_output = F.normalize(student_output, eps=eps, p=2, dim=-1)
    dots = torch.mm(student_output, student_output.t())
    n = student_output.shape[0]
    dots.view(-1)[:: (n + 1)].fill_(-1)
    _, indices = torch.max(dots, dim=1)
    distances = torch.nn.PairwiseDistance(2, eps=1e-8)(student_output, student_output[indices])
    return -torch.log(distances + eps).mean()


def spreading():
    torch.manual_seed(1)
    together = draw(1, WIDTH).repeat(BATCH, 1)
    cases = {
        "apart": draw(BATCH, WIDTH),
        # About 2e-4 from one another on the unit sphere, where 1 - cosine is below what an f32 tells from 0.
        "together": (together + draw(BATCH, WIDTH, scale=1.5e-4)).float().double(),
    }
    for name, rows in cases.items():
        rows = rows.clone().requires_grad_()
        loss = koleo(rows)
        loss.backward()
        keep(f"koleo/{name}/embeddings", rows)
        keep(f"koleo/{name}/loss", loss)
        keep(f"koleo/{name}/gradient", rows.grad)


def crops(draws=20_000):
    """Moments of RandomResizedCrop's law. Images are large, because it rounds to pixels."""
    torch.manual_seed(1)
    cases = [(4000, 4000, 0.7, 1.0), (4000, 3200, 0.5, 1.0), (3200, 4000, 0.15, 0.4), (1000, 4000, 0.9, 1.0)]
    ratio = 4 / 3
    rows = []
    for width, height, low, high in cases:
        image = torch.empty(1, 1, 1).expand(1, height, width)
        params = [RandomResizedCrop.get_params(image, [low, high], [1 / ratio, ratio]) for _ in range(draws)]
        sizes = torch.tensor([[w, h] for _, _, h, w in params], dtype=torch.float64)
        area = sizes.prod(1) / (width * height)
        aspect = (sizes[:, 0] / sizes[:, 1]).log()
        rows.append([width, height, low, high, area.mean(), area.std(), aspect.mean(), aspect.std()])
    keep("crops", torch.tensor(rows, dtype=torch.float64))


head()
losses()
ibot()
gram()
spreading()
crops()
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(GOLDEN) + "\n")
print(path.stat().st_size, "bytes; log K is", math.log(PROTOTYPES))
