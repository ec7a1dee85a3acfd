#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes tests/fixtures/torch_steps.txt: training steps of small networks in PyTorch.

Needs python3-torch (written with 1.13). Usage: make_torch_fixture.py OUT.txt

Both sides, this script and tests/unit/test_parity.c, evaluate one formula, so that the
fixture holds results alone:
    u(name, i) = 2 * (splitmix64(fnv1a64(name) + i) >> 11) / 2^53 - 1      in [-1, 1)
    conv weight 0.1 sqrt(3) u; linear weight and bias u / sqrt(fan_in);
    head.weight 0.01 sqrt(3) u;
    BN weight 1 + 0.1 u; BN bias 0.1 u; PReLU slope 0.25 + 0.05 u;
    running_mean 0.05 u; running_var 1 + 0.2 u; features.weight 1
computed in double and rounded to float; i counts in the order of the state_dict's tensor.
Step t takes the samples s = (t B + n) mod 3B, n = 0 .. B-1: element i (H, W, C order) of
sample s is splitmix64(fnv1a64("pixels") + s 2^32 + i) >> 56, label 7 s mod classes,
mirrored where s mod 3 = 0. The LR halves in the middle.

The steps run in float64 (a program in float32 is then compared with the exact step, not
with another rounding) and once more in float32, whose largest deviation is printed.
Lines: "case", then "step <loss> <gradient norm before clipping>", "change <name> <L2 norm>
<sum of change * u("probe:" + name)>" of a tensor after the last step, and "embedding" of
the first samples in eval mode, not mirrored."""
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = {"r18": (2, 2, 2, 2), "r50": (3, 4, 14, 3)}
STEPS, SHOWN, MOMENTUM, DECAY, CLIP = 10, 3, 0.9, 5e-4, 5.0
CASES = [
    dict(name="r18_arcface", backbone="r18", width=0.25, image=32, embedding=64,
         classes=20, batch=8, head="arcface", margin=0.5, scale=64.0, lr=0.005),
    dict(name="r18_narrow_cosface", backbone="r18", width=0.125, image=32, embedding=32,
         classes=20, batch=8, head="cosface", margin=0.4, scale=64.0, lr=0.002),
    dict(name="r50_softmax", backbone="r50", width=0.25, image=16, embedding=64,
         classes=20, batch=8, head="softmax", margin=0.0, scale=32.0, lr=0.005),
    dict(name="mbf_cosface", backbone="mbf", width=0.25, image=32, embedding=32,
         classes=20, batch=16, head="cosface", margin=0.4, scale=32.0, lr=0.0005),
]
PROBED = {"iresnet": ("conv1.weight", "bn1.weight", "prelu.weight", "layer1.0.bn1.bias",
          "layer2.0.conv1.weight", "layer2.0.downsample.0.weight",
          "layer2.0.downsample.1.bias", "layer3.1.prelu.weight", "layer4.1.conv2.weight",
          "layer4.1.bn3.running_mean", "layer4.1.bn3.running_var", "bn2.weight",
          "fc.weight", "fc.bias", "features.bias", "features.running_var", "head.weight"),
          "mbf": ("layers.0.layers.0.weight", "layers.1.layers.0.weight",
          "layers.1.layers.2.weight", "layers.2.layers.1.layers.0.weight",
          "layers.2.layers.2.layers.1.bias", "layers.3.layers.3.layers.0.layers.0.weight",
          "layers.4.layers.1.layers.1.weight", "layers.6.layers.0.layers.2.weight",
          "layers.7.layers.1.layers.2.layers.1.running_var", "conv_sep.layers.0.weight",
          "features.layers.0.layers.0.weight", "features.layers.2.weight",
          "features.layers.3.weight", "features.layers.3.running_mean", "head.weight")}


def bits(name, index):
    """splitmix64 of the name's FNV-1a hash plus index, (n) u64."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + index.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def u(name, count):
    return 2.0 * ((bits(name, np.arange(count)) >> np.uint64(11)).astype(np.float64)
                  / 2.0**53) - 1.0


def start(name, tensor):
    """Starting value of a named tensor, float32-exact."""
    x, spread = u(name, tensor.numel()), math.sqrt(3.0)
    last = name.rsplit(".", 1)[-1]
    if name == "features.weight":
        x = 0 * x + 1
    elif tensor.dim() == 4:
        x = 0.1 * spread * x
    elif name == "head.weight":
        x = 0.01 * spread * x
    elif tensor.dim() == 2 or name == "fc.bias":
        x = x / math.sqrt(start.fan_in)
    elif name in start.prelu:
        x = 0.25 + 0.05 * x
    elif last == "running_mean":
        x = 0.05 * x
    elif last == "running_var":
        x = 1 + 0.2 * x
    elif last == "bias":
        x = 0.1 * x
    else:
        x = 1 + 0.1 * x
    return torch.from_numpy(x.astype(np.float32)).reshape(tensor.shape)


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in, eps=1e-5)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out, eps=1e-5)
        self.prelu = nn.PReLU(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out, eps=1e-5)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False),
                                            nn.BatchNorm2d(c_out, eps=1e-5))

    def forward(self, x):
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        shortcut = self.downsample(x) if self.downsample else x
        return self.bn3(self.conv2(inner)) + shortcut


class IResNet(nn.Module):
    def __init__(self, backbone, width, image, embedding):
        super().__init__()
        channels = [round((64 << s) * width) for s in range(4)]
        c_in = channels[0]
        self.conv1 = nn.Conv2d(3, c_in, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in, eps=1e-5)
        self.prelu = nn.PReLU(c_in)
        for s, blocks in enumerate(BLOCKS[backbone]):
            stage = nn.Sequential()
            for i in range(blocks):
                stage.append(Block(c_in, channels[s], 2 if i == 0 else 1))
                c_in = channels[s]
            setattr(self, "layer%d" % (s + 1), stage)
        self.bn2 = nn.BatchNorm2d(c_in, eps=1e-5)
        self.fc = nn.Linear(c_in * (image // 16) ** 2, embedding)
        self.features = nn.BatchNorm1d(embedding, eps=1e-5)
        self.features.weight.requires_grad = False

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


def unit(c_in, c_out, kernel, stride=1, padding=0, groups=1, prelu=True):
    """Convolution - BN (- PReLU), its tensors under "layers" as in insightface."""
    parts = [nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=False),
             nn.BatchNorm2d(c_out)] + ([nn.PReLU(c_out)] if prelu else [])
    return Layers(parts)


class Layers(nn.Module):
    """Modules in a row, plus their input where `residual`."""
    def __init__(self, parts, residual=False):
        super().__init__()
        self.layers = nn.Sequential(*parts)
        self.residual = residual

    def forward(self, x):
        return self.layers(x) + x if self.residual else self.layers(x)


class MobileFaceNet(nn.Module):
    """insightface's mbf: scale 2, blocks 1, 4, 6, 2; widths times `width`."""
    def __init__(self, width, image, embedding):
        super().__init__()
        wide = lambda channels: 2 * round(channels * width / 2)

        def bottleneck(c_in, inner, c_out, stride, residual):
            return Layers([unit(c_in, inner, 1), unit(inner, inner, 3, stride, 1, inner),
                           unit(inner, c_out, 1, prelu=False)], residual)
        c = wide(128)
        self.layers = nn.ModuleList([unit(3, c, 3, 2, 1), unit(c, c, 3, 1, 1, c // 2)])
        for c_out, first, inner, blocks in ((128, 128, 128, 4), (256, 256, 256, 6),
                                            (256, 512, 256, 2)):
            c_out, first, inner = wide(c_out), wide(first), wide(inner)
            self.layers.append(bottleneck(c, first, c_out, 2, False))
            c = c_out
            self.layers.append(Layers([bottleneck(c, inner, c, 1, True)
                                       for _ in range(blocks)]))
        self.conv_sep = unit(c, wide(512), 1)
        c = wide(512)
        self.features = Layers([unit(c, c, image // 16, groups=c, prelu=False),
                                nn.Flatten(), nn.Linear(c, embedding, bias=False),
                                nn.BatchNorm1d(embedding)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))


def samples(case, first, mirrored, dtype):
    """Images and labels of one batch."""
    B, side = case["batch"], case["image"]
    s = (first + np.arange(B)) % (3 * B)
    i = np.arange(side * side * 3)
    index = s[:, None].astype(np.uint64) * np.uint64(2**32) + i[None].astype(np.uint64)
    pixels = (bits("pixels", index) >> np.uint64(56)).astype(np.float64)
    x = torch.from_numpy(((pixels / 255 - 0.5) / 0.5).reshape(B, side, side, 3))
    if mirrored:
        turn = torch.from_numpy(s % 3 == 0)
        x[turn] = x[turn].flip(2)
    return x.permute(0, 3, 1, 2).to(dtype).contiguous(), torch.from_numpy(7 * s % case["classes"])


def loss_of(case, embedding, centres, label):
    cosine = F.linear(F.normalize(embedding), F.normalize(centres)).clamp(-1, 1)
    target = cosine.gather(1, label[:, None]).detach()
    if case["head"] == "arcface":  # the angle is shifted without tracking it
        target = torch.cos(torch.acos(target) + case["margin"]) - target
    else:
        target = torch.full_like(target, -case["margin"])
    shift = torch.zeros_like(cosine).scatter(1, label[:, None], target)
    return F.cross_entropy(case["scale"] * (cosine + shift), label)


def train(case, dtype):
    """(steps (STEPS, 2), changes {name: (2)}, embeddings (SHOWN, D))."""
    shape = [case[k] for k in ("width", "image", "embedding")]
    mbf = case["backbone"] == "mbf"
    net = (MobileFaceNet(*shape) if mbf else IResNet(case["backbone"], *shape)).to(dtype)
    centres = nn.Parameter(torch.zeros(case["classes"], case["embedding"], dtype=dtype))
    state = dict(net.state_dict(), **{"head.weight": centres.data})
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    start.fan_in = (net.features.layers[2] if mbf else net.fc).in_features
    start.prelu = {name + ".weight" for name, module in net.named_modules()
                   if isinstance(module, nn.PReLU)}
    for name, tensor in state.items():
        tensor.copy_(start(name, tensor))
    trained = [p for p in net.parameters() if p.requires_grad]
    options = dict(lr=case["lr"], momentum=MOMENTUM, weight_decay=DECAY)
    optimizer = torch.optim.SGD([{"params": trained}, {"params": [centres]}], **options)
    steps = []
    for t in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = case["lr"] / (2 if t >= STEPS // 2 else 1)
        x, label = samples(case, t * case["batch"], True, dtype)
        optimizer.zero_grad()
        loss = loss_of(case, net(x), centres, label)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        steps.append((loss.item(), norm.item()))
    changes = {}
    for name in PROBED["mbf" if mbf else "iresnet"]:
        d = (state[name].double() - start(name, state[name]).double()).flatten().numpy()
        changes[name] = (np.sqrt((d * d).sum()), (d * u("probe:" + name, d.size)).sum())
    net.eval()
    with torch.no_grad():
        embedding = net(samples(case, 0, False, dtype)[0])[:SHOWN]
    return np.array(steps), changes, embedding.double().numpy()


def main():
    torch.set_num_threads(1)
    lines = ["# PyTorch %s, float64; made by tests/tools/make_torch_fixture.py"
             % torch.__version__.split("+")[0]]
    for case in CASES:
        steps, changes, embedding = train(case, torch.float64)
        steps32, changes32, embedding32 = train(case, torch.float32)
        noise = np.abs(steps32 / steps - 1).max(0)
        moved = max(abs(changes32[n] - np.array(changes[n])).max() / changes[n][0] for n in changes)
        print("%s: loss %.3f -> %.3f; float32 deviates by %.1e (loss) %.1e (norm) %.1e (change)"
              " %.1e (embedding)" % (case["name"], steps[0, 0], steps[-1, 0], *noise, moved,
                                     np.linalg.norm(embedding32 - embedding)
                                     / np.linalg.norm(embedding)))
        lines.append("case %(name)s %(backbone)s %(width)g %(image)d %(embedding)d %(classes)d "
                     "%(batch)d %(head)s %(margin)g %(scale)g %(lr)g" % case)
        lines += ["step %.9g %.9g" % tuple(s) for s in steps]
        lines += ["change %s %.9g %.9g" % (n, *v) for n, v in changes.items()]
        lines += ["embedding " + " ".join("%.9g" % v for v in row) for row in embedding]
    with open(sys.argv[1], "w") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
