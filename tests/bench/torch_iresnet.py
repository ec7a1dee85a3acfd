# SPDX-License-Identifier: MIT
"""IResNet as insightface's recognition/arcface_torch/backbones/iresnet.py lays it out (no dropout),
for the PyTorch side of the benchmarks."""
import torch
from torch import nn

BLOCKS = {
    "r18": (2, 2, 2, 2),
    "r34": (3, 4, 6, 3),
    "r50": (3, 4, 14, 3),
    "r100": (3, 13, 30, 3),
    "r200": (6, 26, 60, 6),
}
EPS = 1e-5


class Block(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride): BN, conv 3x3, BN, PReLU, conv 3x3
    (stride), BN; plus the shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, eps=EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=EPS)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=EPS)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs, eps=EPS),
            )

    def forward(self, x):
        y = self.conv1(self.bn1(x))
        y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """(N, 3, side, side), RGB in [-1, 1] -> (N, embedding) f32: stem, four stages, BN, linear layer,
    BN1d with its weight fixed at 1. `width` multiplies the channels; side is a multiple of 16."""

    def __init__(self, backbone, width, side, embedding=512):
        super().__init__()
        channels = [max(1, round(c * width)) for c in (64, 64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0], eps=EPS)
        self.prelu = nn.PReLU(channels[0])
        layers = []
        for stage, count in enumerate(BLOCKS[backbone]):
            for i in range(count):
                inputs = channels[stage] if i == 0 else channels[stage + 1]
                layers.append(Block(inputs, channels[stage + 1], 2 if i == 0 else 1))
        self.layers = nn.Sequential(*layers)
        self.bn2 = nn.BatchNorm2d(channels[4], eps=EPS)
        self.fc = nn.Linear(channels[4] * (side // 16) ** 2, embedding)
        self.features = nn.BatchNorm1d(embedding, eps=EPS)
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.bn2(self.layers(x))
        return self.features(self.fc(torch.flatten(x, 1)).float())
