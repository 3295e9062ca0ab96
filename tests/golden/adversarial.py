"""Writes adversarial.json: one step of an autoencoder against a discriminator, as latent diffusion takes it.

Versions: Python 3.11.7, torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0. No seed: images, noise and the
discriminator's weights are sines, which the Rust test repeats. Everything in f64.

The autoencoder is the one of models/autoencoder.safetensors, opened by diffusers. The losses are those of taming's and
latent diffusion's LPIPSWithDiscriminator with means in the place of sums, as VQGAN has them: the distance (here L1 and
the L1 of pixel differences) and the KL divergence per pixel; minus the mean of what the discriminator says, times
|gradient of the distance| / (|gradient of that| + 1e-4) at the decoder's last weight, clamped to [0, 1e4]; for the
discriminator the hinge loss. It is pix2pix's PatchGAN with GroupNorm in the place of BatchNorm. Of each gradient the
norm is kept and the product with cosines.
"""

import json
import pathlib

import torch
from diffusers import AutoencoderKL
from safetensors import safe_open

HERE = pathlib.Path(__file__).parent
torch.set_default_dtype(torch.float64)
COUNT, SIDE = 5, 16
WEIGHT, KL_WEIGHT, GRADIENT_WEIGHT = 0.5, 1e-2, 0.3
CHANNELS, LAYERS = 8, 2


def sines(count, step, start):
    # Exact in f32, so that both sides start from the same numbers.
    return torch.sin(step * torch.arange(count) + start).float().double()


def discriminator(channels_in):
    layers = [torch.nn.Conv2d(channels_in, CHANNELS, 4, 2, 1), torch.nn.LeakyReLU(0.2)]
    width = CHANNELS
    for layer in range(1, LAYERS + 1):
        wider = CHANNELS * min(2**layer, 8)
        stride = 2 if layer < LAYERS else 1
        layers += [
            torch.nn.Conv2d(width, wider, 4, stride, 1, bias=False),
            torch.nn.GroupNorm(wider // 16, wider),
            torch.nn.LeakyReLU(0.2),
        ]
        width = wider
    layers.append(torch.nn.Conv2d(width, 1, 4, 1, 1))
    network = torch.nn.Sequential()
    network.main = torch.nn.Sequential(*layers)
    state = network.state_dict()
    for at, name in enumerate(sorted(state)):
        wave = sines(state[name].numel(), 0.61, 1.7 * at).reshape(state[name].shape)
        if state[name].ndim == 4:
            state[name] = (0.1 * wave).float().double()
        else:
            state[name] = ((1.0 if name.endswith("weight") else 0.0) + 0.2 * wave).float().double()
    network.load_state_dict(state)
    return network


def summary(network):
    found = {}
    for name, parameter in network.named_parameters():
        flat = parameter.grad.flatten()
        found[name] = [flat.norm().item(), (flat * torch.cos(0.37 * torch.arange(len(flat)))).sum().item()]
    return found


with safe_open(HERE / "models/autoencoder.safetensors", "pt") as file:
    config = json.loads(file.metadata()["config"])
    weights = {name: file.get_tensor(name).double() for name in file.keys() if not name.startswith("golden/")}
vae = AutoencoderKL.from_config(config).double()
vae.load_state_dict(weights)
judge = discriminator(vae.config.out_channels)

pixels = 0.5 + 0.3 * sines(COUNT * SIDE * SIDE, 0.013, 0.2) + 0.15 * sines(COUNT * SIDE * SIDE, 2.1, 0.0)
pixels = pixels.float().double().reshape(COUNT, 1, SIDE, SIDE)
images = (pixels * 2 - 1).expand(-1, vae.config.in_channels, -1, -1)
posterior = vae.encode(images).latent_dist
noise = sines(posterior.mean.numel(), 1.3, 0.5).reshape(posterior.mean.shape)
restored = vae.decode(posterior.mean + posterior.std * noise).sample

reconstruction = (restored - images).abs().mean()
edges = sum(torch.nn.functional.l1_loss(restored.diff(dim=dim), images.diff(dim=dim)) for dim in (2, 3)) / 2
distance = reconstruction + GRADIENT_WEIGHT * edges
kl = posterior.kl().mean() / SIDE**2
deceit = -judge.main(restored).mean()
last = vae.decoder.conv_out.weight
lengths = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (distance, deceit)]
weight = WEIGHT * (lengths[0] / (lengths[1] + 1e-4)).clamp(0.0, 1e4).detach()
total = distance + KL_WEIGHT * kl + weight * deceit
total.backward()
ours = summary(vae)
judge.zero_grad()
real, fake = judge.main(images), judge.main(restored.detach())
hinge = 0.5 * (torch.relu(1 - real).mean() + torch.relu(1 + fake).mean())
hinge.backward()
golden = {
    "count": COUNT,
    "side": SIDE,
    "weight": WEIGHT,
    "kl_weight": KL_WEIGHT,
    "gradient_weight": GRADIENT_WEIGHT,
    "channels": CHANNELS,
    "layers": LAYERS,
    "latents": list(posterior.mean.shape[1:]),
    "figures": {
        "train/loss": total.item(),
        "train/reconstruction": reconstruction.item(),
        "train/kl": kl.item(),
        "train/adversarial": deceit.item(),
        "train/adversarial_weight": weight.item(),
        "train/discriminator": hinge.item(),
        "train/discriminator_real": real.mean().item(),
        "train/discriminator_fake": fake.mean().item(),
    },
    "autoencoder": ours,
    "discriminator": summary(judge),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
print(json.dumps(golden["figures"], indent=1), lengths)
