#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The training step of bench_train on a GPU in PyTorch, for comparison; one form a call.

  eager          NCHW, as public training code runs it
  channels_last  the same with channels-last memory
  compile        channels_last, torch.compile(max-autotune) with its CUDA graphs, fused SGD
  graph          channels_last, torch.compile without its graphs, fused SGD, and one CUDA
                 graph around the whole step, optimizer and loss scale included

IResNet in insightface's layout under autocast with a GradScaler, ArcFace head over --classes
in fp32 or fp16 (its logits are fp32 in both), gradient clipped at 5 on the backbone, SGD with
momentum 0.9 and weight decay 5e-4. Pixels and labels are random, uint8, and lie on the device;
nothing is read back while steps are timed: both are in PyTorch's favour. Prints the median
samples/s over repeats and, with --csv, appends a row to a table that bench_train's figures
share (gpu_bench.sh)."""
import argparse
import csv
import os
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from torch_iresnet import BLOCKS, IResNet

COLUMNS = ["side", "net", "batch", "classes", "head", "precision", "status",
           "samples_per_second", "low", "high", "ms_a_step", "memory_mib", "reserved_mib",
           "loss", "device", "versions", "time"]
MARGIN, SCALE, CLIP = 0.5, 64.0, 5.0


class Step(nn.Module):
    """Pixels (N, H, W, 3) u8 and labels to the loss: input, network, margin head."""

    def __init__(self, args, memory_format):
        super().__init__()
        self.net = IResNet(args.net, args.width, args.image_size, args.embedding)
        self.centres = nn.Parameter(0.01 * torch.randn(args.classes, args.embedding))
        self.memory_format = memory_format
        self.kind = args.device
        self.dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(args.precision)
        self.head_half = args.head == "fp16"

    def half(self, wanted):
        dtype = self.dtype or torch.bfloat16
        return torch.autocast(self.kind, dtype=dtype, enabled=wanted and self.dtype is not None)

    def forward(self, pixels, label):
        with self.half(True):
            # (N, H, W, 3) seen as (N, 3, H, W) is channels_last as it stands.
            x = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
            embedding = self.net(x.contiguous(memory_format=self.memory_format))
        with self.half(self.head_half):
            cosine = F.linear(F.normalize(embedding), F.normalize(self.centres))
        with self.half(False):
            cosine = cosine.float().clamp(-1, 1)
            at = label.unsqueeze(1)
            target = cosine.gather(1, at)
            # The margin's gradient goes straight through, as in the public code.
            moved = target + (torch.cos(torch.acos(target) + MARGIN) - target).detach()
            return F.cross_entropy(SCALE * cosine.scatter(1, at, moved), label)


class Timer:
    """Milliseconds between two moments of the device's queue."""

    def __init__(self, cuda):
        self.cuda = cuda

    def mark(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start, end):
        if not self.cuda:
            return 1e3 * (end - start)
        end.synchronize()
        return start.elapsed_time(end)


def make_scaler(enabled):
    if hasattr(torch, "amp") and hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", growth_interval=100, enabled=enabled)
    return torch.cuda.amp.GradScaler(growth_interval=100, enabled=enabled)


def make_step(args):
    """A function that takes one training step and returns the loss on the device."""
    cuda = args.device == "cuda"
    form = args.form
    torch.manual_seed(1)
    memory_format = torch.contiguous_format if form == "eager" else torch.channels_last
    model = Step(args, memory_format).to(args.device).train()
    model.net.to(memory_format=memory_format)
    backbone = [p for p in model.net.parameters() if p.requires_grad]
    fused = {"fused": True} if form in ("compile", "graph") and cuda else {}
    # A graph holds what it was recorded with, so its LR has to be memory.
    lr = torch.tensor(1e-4, device=args.device) if form == "graph" and cuda else 1e-4
    optimizer = torch.optim.SGD(
        [{"params": backbone}, {"params": [model.centres]}],
        lr=lr, momentum=0.9, weight_decay=5e-4, **fused,
    )
    scaler = make_scaler(cuda and args.precision == "fp16")
    shape = (args.batch, args.image_size, args.image_size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=args.device)
    label = torch.randint(0, args.classes, (args.batch,), device=args.device)
    if form in ("compile", "graph") and not args.no_compile:
        mode = "max-autotune" if form == "compile" else "max-autotune-no-cudagraphs"
        loss_of = torch.compile(model, mode=mode, dynamic=False, fullgraph=True)
    else:
        loss_of = model

    # Tells the compiler's graphs that the last step's results may be overwritten.
    new_step = (torch.compiler.cudagraph_mark_step_begin
                if form == "compile" and cuda else lambda: None)

    def step():
        new_step()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(pixels, label)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(backbone, CLIP)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    if form != "graph" or not cuda:
        return step, scaler
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        held = step()

    def replay():
        graph.replay()
        return held

    return replay, scaler


def measure(args):
    cuda = args.device == "cuda"
    start = time.perf_counter()
    step, scaler = make_step(args)
    timer = Timer(cuda)
    for i in range(args.warmup):
        loss = step()
        if i < 3:
            if cuda:
                torch.cuda.synchronize()
            print(f"torch-{args.form}: {i + 1} steps after {time.perf_counter() - start:.1f} s",
                  file=sys.stderr, flush=True)
    if cuda:
        torch.cuda.synchronize()
    rates = []
    for _ in range(args.repeats):
        begin = timer.mark()
        for _ in range(args.steps):
            loss = step()
        ms = timer.between(begin, timer.mark())
        rates.append(1e3 * args.steps * args.batch / ms)
    return rates, loss.item(), scaler.get_scale()


def describe(args):
    versions = f"torch {torch.__version__}"
    device = f"{torch.get_num_threads()} threads"
    if args.device == "cuda":
        device = torch.cuda.get_device_name()
        versions += f", cuda {torch.version.cuda}, cudnn {torch.backends.cudnn.version()}"
        try:
            driver = subprocess.run(
                ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
                capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
            versions += f", driver {driver}"
        except (OSError, subprocess.SubprocessError, IndexError):
            pass
    versions += ", tf32 on" if args.tf32 else ", tf32 off"
    return device, versions


def append_row(path, row):
    """One write a row, the header first where the file is new."""
    new = not os.path.exists(path) or os.path.getsize(path) == 0
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def main():
    parser = argparse.ArgumentParser(
        description="Times the training step in PyTorch, one form a call.")
    parser.add_argument("--form", choices=["eager", "channels_last", "compile", "graph"],
                        required=True)
    parser.add_argument("--net", choices=sorted(BLOCKS), default="r50")
    parser.add_argument("--classes", type=int, default=93431)
    parser.add_argument("--head", choices=["fp32", "fp16"], default="fp16")
    parser.add_argument("--precision", choices=["fp16", "bf16", "fp32"], default="fp16")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--embedding", type=int, default=512)
    parser.add_argument("--steps", type=int, default=200, help="timed steps a repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tf32", action="store_true", help="TF32 in fp32 products")
    parser.add_argument("--no-compile", action="store_true",
                        help="compile and graph without torch.compile, to try the script")
    parser.add_argument("--csv", help="table to append a row to")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_gpu.py: PyTorch sees no GPU (--device cpu tries the script)")
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = True
    device, versions = describe(args)
    row = {"side": f"torch-{args.form}", "net": args.net, "batch": args.batch,
           "classes": args.classes, "head": args.head, "precision": args.precision,
           "device": device, "versions": versions,
           "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    try:
        rates, loss, scale = measure(args)
    except torch.cuda.OutOfMemoryError as error:
        row["status"] = "out of memory"
        if args.csv:
            append_row(args.csv, row)
        sys.exit(f"torch_gpu.py: out of memory: {str(error).splitlines()[0]}")
    finite = loss == loss and abs(loss) < float("inf")
    median = statistics.median(rates)
    memory = reserved = 0.0
    if args.device == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
        reserved = torch.cuda.max_memory_reserved() / 2**20
    row.update(status="ok" if finite else "loss not finite",
               samples_per_second=f"{median:.1f}", low=f"{min(rates):.1f}",
               high=f"{max(rates):.1f}", ms_a_step=f"{1e3 * args.batch / median:.3f}",
               memory_mib=f"{memory:.0f}", reserved_mib=f"{reserved:.0f}",
               loss=f"{loss:.4f}")
    if args.csv:
        append_row(args.csv, row)
    print(f"torch-{args.form} {median:.1f} samples/s ({min(rates):.1f} to {max(rates):.1f} "
          f"over {args.repeats} x {args.steps} steps; {device}; {versions}; head {args.head}; "
          f"{memory:.0f} MiB, reserved {reserved:.0f}; loss {loss:.4f}, scale {scale:g})",
          flush=True)
    if not finite:
        sys.exit(f"torch_gpu.py: loss {loss} is not finite")


main()
