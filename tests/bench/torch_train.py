#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The training step of bench_train in PyTorch, for comparison.

IResNet in insightface's layout, cosine-margin head, clipping of the backbone's gradient,
SGD with momentum and weight decay; random uint8 pixels in memory, turned into the network's
input within the timed step, as in bench_train. Prints the median samples/s over repeats
for each memory format asked for."""
import argparse
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from torch_iresnet import BLOCKS, IResNet


class MarginHead(nn.Module):
    """Mean cross-entropy of scaled cosines with a margin at the label; the gradient of
    the arcface margin goes straight through, as in the public code."""

    def __init__(self, kind, classes, embedding=512, scale=64.0):
        super().__init__()
        self.kind, self.scale = kind, scale
        self.weight = nn.Parameter(0.01 * torch.randn(classes, embedding))

    def forward(self, embedding, label):
        cosine = F.linear(F.normalize(embedding), F.normalize(self.weight)).clamp(-1, 1)
        rows = torch.arange(len(label))
        with torch.no_grad():
            shift = torch.zeros_like(cosine)
            target = cosine[rows, label]
            if self.kind == "cosface":
                shift[rows, label] = -0.4
            elif self.kind == "arcface":
                shift[rows, label] = torch.cos(torch.acos(target) + 0.5) - target
        return F.cross_entropy(self.scale * (cosine + shift), label)


def measure(args, memory_format):
    torch.manual_seed(1)
    net = IResNet(args.backbone, args.width, args.image_size)
    net = net.to(memory_format=memory_format).train()
    head = MarginHead(args.head, args.classes)
    backbone = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        [{"params": backbone}, {"params": head.parameters()}],
        lr=1e-4, momentum=0.9, weight_decay=5e-4,
    )
    shape = (args.batch, args.image_size, args.image_size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    label = torch.randint(0, args.classes, (args.batch,))

    def step():
        # (N, H, W, 3) seen as (N, 3, H, W) is channels_last as it stands.
        x = ((pixels.permute(0, 3, 1, 2).float() / 255) - 0.5) / 0.5
        x = x.contiguous(memory_format=memory_format)
        loss = head(net(x), label)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(backbone, 5.0)
        optimizer.step()
        return loss.item()

    for _ in range(args.warmup):
        step()
    rates = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        for _ in range(args.steps):
            loss = step()
        rates.append(args.steps * args.batch / (time.perf_counter() - start))
    return statistics.median(rates), min(rates), max(rates), loss


def main():
    formats = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
    parser = argparse.ArgumentParser(description="Times the training step in PyTorch.")
    parser.add_argument("--backbone", choices=sorted(BLOCKS), default="r18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--head", choices=["arcface", "cosface", "softmax"],
                        default="arcface")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--format", choices=sorted(formats), action="append")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.format or formats:
        median, low, high, loss = measure(args, formats[name])
        if not loss < float("inf"):
            sys.exit(f"torch_train.py: loss {loss} is not finite")
        print(f"torch-{name} {median:.1f} samples/s ({low:.1f} to {high:.1f} over "
              f"{args.repeats} x {args.steps} steps; torch {torch.__version__}, "
              f"{args.threads} threads; loss {loss:.4f})", flush=True)


main()
