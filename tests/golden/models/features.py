"""Golden outputs of the networks that measure images, whose weights are too many to be stored.

Weights and inputs follow a formula instead (below, and in tests/it/models/formula.rs), which both sides compute
bit for bit: the only seeds are names. Kept are outputs, and of large images every few pixels.

Versions: torch 2.15.0, torchvision 0.29.2, torchxrayvision 1.5.7, pytorch-fid 0.3.0, torch-fidelity 0.4.0,
lpips 0.1.4, clean-fid 0.1.35, Pillow 13.0.0, numpy 2.4.6, safetensors 0.8.0.
Nothing is downloaded. Run from this folder: python features.py
"""

import json
import pathlib
import tempfile

import lpips
import numpy as np
import pytorch_fid.inception
import torch
import torchvision
import torchxrayvision as xrv
from cleanfid.resize import make_resizer
from safetensors.torch import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

HERE = pathlib.Path(__file__).parent
MASK = (1 << 64) - 1
torch.set_num_threads(1)
torch.set_grad_enabled(False)


def uniform(name, shape):
    """Output after output of SplitMix64, seeded with FNV-1a of the name: the upper 24 bits, in [-1, 1)."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, np.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    upper = (z >> np.uint64(40)).astype(np.int64) - (1 << 23)
    return (upper.astype(np.float32) / np.float32(1 << 23)).reshape(shape)


def parameter(name, shape):
    """Keeps activations of order 1. A variance of about 1/64 makes the epsilon beside it show."""
    u, one = uniform(name, shape), np.float32(1)
    if name.endswith("running_var"):
        value = (one + np.float32(0.5) * u) * np.float32(1 / 64)
    elif len(shape) > 1:
        scale = np.float32((6.0 / np.prod(shape[1:])) ** 0.5)
        value = (one + u if name.startswith("lin") else u) * scale
    elif name.endswith("weight"):
        value = (one + np.float32(0.2) * u) * np.float32(1 / 8)
    else:
        value = np.float32(0.2) * u
    return torch.from_numpy(value)


def filled(model):
    state = model.state_dict()
    for name, value in state.items():
        if not name.startswith(("lins.", "scaling_layer.")) and not name.endswith("num_batches_tracked"):
            value.copy_(parameter(name, tuple(value.shape)))
    return model.eval()


def image(name, shape):
    """Half noise, half a ramp that tells rows from columns and channels apart; in [-1, 1)."""
    b, c, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    ramp = ((2 * x + 3 * y + 40 * c + 70 * b) % 256).astype(np.float32) / np.float32(128) - np.float32(1)
    return torch.from_numpy(np.float32(0.5) * uniform(name, shape) + np.float32(0.5) * ramp)


def levels(name, size):
    """A grey image of 8 bits."""
    values = image(name, (1, 1, size, size))[0, 0].numpy()
    return np.floor((values + np.float32(1)) * np.float32(128)).astype(np.uint8)


def main():
    golden = {"formula": torch.from_numpy(uniform("formula", (64,))), "formula_image": image("formula", (2, 2, 3, 4))}

    # TorchXRayVision's DenseNet: the published sizes, and small ones with an odd input.
    densenet = filled(xrv.models.DenseNet())
    pixels = image("densenet", (1, 1, 224, 224))
    golden["densenet_features"] = densenet.features2(pixels)
    golden["densenet_logits"] = densenet(pixels)
    thresholds = xrv.models.model_urls["densenet121-res224-nih"]["op_threshs"]
    densenet.op_threshs = torch.tensor(thresholds)
    golden["densenet_outputs"] = densenet(pixels)
    small = dict(growth_rate=5, block_config=(2, 3, 1), num_init_features=6, bn_size=3, num_classes=4, in_channels=2)
    densenet = filled(xrv.models.DenseNet(**small))
    pixels = image("densenet_small", (2, 2, 77, 50))
    golden["densenet_small_features"] = densenet.features2(pixels)
    golden["densenet_small_logits"] = densenet(pixels)

    # The input that the Fréchet distance of RoentGen's evaluation sees: clean-fid's loader, then torchvision.
    resize_clean = make_resizer("PIL", False, "bicubic", (299, 299))
    for size in (96, 512):
        grey = levels(f"xray_{size}", size)
        clean = torch.from_numpy(resize_clean(np.repeat(grey[:, :, None], 3, 2))).permute(2, 0, 1)[None]
        golden[f"clean_{size}"] = clean[0, 0, ::7, ::7].contiguous()
        x = torchvision.transforms.functional.rgb_to_grayscale(clean, num_output_channels=1)
        x = torchvision.transforms.Resize(224)(2048 * x / 255 - 1024)
        golden[f"xray_{size}"] = x[0, 0, ::5, ::5].contiguous()

    # Inception-v3 as pytorch-fid builds it, without its own resize.
    weights = {}


    def fid_weights(*_args, **_options):
        template = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
        template.Mixed_5b = pytorch_fid.inception.FIDInceptionA(192, pool_features=32)
        weights.update(filled(template).state_dict())
        return weights


    pytorch_fid.inception.load_state_dict_from_url = fid_weights
    inception = pytorch_fid.inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    golden["inception_features"] = inception(image("inception", (1, 3, 299, 299)))[0].flatten(1)
    golden["inception_odd_features"] = inception(image("inception_odd", (2, 3, 107, 139)))[0].flatten(1)

    # From 8-bit images on, as torch-fidelity does: TensorFlow 1's resize.
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/weights.pth"
        torch.save(weights, path)
        fidelity = FeatureExtractorInceptionV3("formula", ["2048"], feature_extractor_weights_path=path)
    for size in (96, 512):
        grey = torch.from_numpy(levels(f"xray_{size}", size)).expand(1, 3, size, size)
        resized = interpolate_bilinear_2d_like_tensorflow1x(grey.float(), size=(299, 299), align_corners=False)
        golden[f"tensorflow_{size}"] = ((resized - 128) / 128)[0, 0, ::7, ::7].contiguous()
        golden[f"fidelity_{size}"] = fidelity(grey)[0]

    # LPIPS 0.1 over AlexNet.
    distance = filled(lpips.LPIPS(pretrained=False, pnet_rand=True, net="alex", verbose=False))
    for name, shape in {"lpips": (2, 3, 64, 64), "lpips_odd": (1, 3, 97, 70)}.items():
        total, layers = distance(image(f"{name}_a", shape), image(f"{name}_b", shape), retPerLayer=True)
        golden[f"{name}_distance"] = total.flatten()
        golden[f"{name}_layers"] = torch.cat([layer.flatten(1) for layer in layers], 1)

    for key, value in golden.items():
        assert value.isfinite().all() and value.abs().max() > 0, key
        print(f"{key:<26}{str(tuple(value.shape)):<16}rms {value.square().mean().sqrt():.4g}")
    config = json.dumps({"densenet_small": small, "op_threshs": [None if np.isnan(t) else t for t in thresholds]})
    save_file({"golden/" + key: value.contiguous() for key, value in golden.items()},
              HERE / "features.safetensors", metadata={"config": config})  # fmt: skip
    print((HERE / "features.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
