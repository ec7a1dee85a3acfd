#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""IJB-C 1:1 from stored features in Python, to compare ff-eval with.

    ijb_baseline.py loop|numpy ROOT     one baseline: prints TAR at each FAR
    ijb_baseline.py table ROOT BUILD    all sides: a table of seconds and memory

loop   what evaluation scripts usually do: pandas, a Python loop over templates that
       looks for its images, scores in batches of 100,000 pairs, sklearn's roc_curve
numpy  the same numbers by sorting and reduceat, scores by matrix products over blocks of
       templates, TAR by a sort of the impostor scores

Times are whole processes; where CPU seconds are near the seconds, other work took the
other core. Memory is the peak of RssAnon, read every 5 ms: pages of mapped
files do not count. Needs python3-numpy, -h5py; for `loop` also -pandas and -sklearn.
"""
import os
import resource
import subprocess
import sys
import time

FARS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
RUNS = {"ours": 5, "numpy": 5, "loop": 5}


def meta(root, name):
    return os.path.join(root, "meta", "ijbc_" + name + ".txt")


def say(tars):
    print(" ".join("%.4f" % (100 * t) for t in tars))


def run_loop(root):
    import h5py
    import numpy as np
    import pandas
    from sklearn.metrics import roc_curve

    def table(name):
        return pandas.read_csv(meta(root, name), sep=" ", header=None).values

    faces = table("face_tid_mid")
    template = faces[:, 1].astype(int)
    medium = faces[:, 2].astype(int)
    det = table("name_5pts_score")[:, -1].astype(np.float32)
    pairs = table("template_pair_label")
    with h5py.File(os.path.join(root, "features.h5"), "r") as f:
        both = f["features"][()]
    half = both.shape[1] // 2
    feature = (both[:, :half] + both[:, half:]) * det[:, None]
    ids = np.unique(template)
    pooled = np.zeros((len(ids), half), np.float32)
    for k, t in enumerate(ids):
        rows = np.where(template == t)[0]
        means = [feature[rows[medium[rows] == m]].mean(axis=0) for m in np.unique(medium[rows])]
        pooled[k] = np.sum(means, axis=0)
    pooled /= np.sqrt((pooled**2).sum(axis=1, keepdims=True))
    place = np.zeros(ids.max() + 1, int)
    place[ids] = np.arange(len(ids))
    a, b = place[pairs[:, 0]], place[pairs[:, 1]]
    score = np.zeros(len(a))
    for at in range(0, len(a), 100000):
        s = slice(at, at + 100000)
        score[s] = np.sum(pooled[a[s]] * pooled[b[s]], axis=-1)
    fpr, tpr, _ = roc_curve(pairs[:, 2], score)
    fpr, tpr = fpr[::-1], tpr[::-1]
    say(tpr[np.argmin(np.abs(fpr - far))] for far in FARS)


def run_numpy(root):
    import h5py
    import numpy as np

    # numbers only: the names are in one order here, which is checked for both lists
    with open(meta(root, "face_tid_mid")) as f:
        faces = [line.split(" ") for line in f]
    template = np.array([int(x[1]) for x in faces])
    medium = np.array([int(x[2]) for x in faces])
    det = np.empty(len(faces))
    with open(meta(root, "name_5pts_score")) as f:
        for i, line in enumerate(f):
            fields = line.split(" ")
            assert fields[0] == faces[i][0]
            det[i] = float(fields[-1])
    pairs = np.fromfile(meta(root, "template_pair_label"), dtype=np.int64, sep=" ").reshape(-1, 3)

    order = np.lexsort((medium, template))
    t, m = template[order], medium[order]
    new = np.r_[True, (t[1:] != t[:-1]) | (m[1:] != m[:-1])]
    start = np.flatnonzero(new)
    owner = np.unique(t[start], return_inverse=True)[1]
    count = np.diff(np.r_[start, len(t)])
    with h5py.File(os.path.join(root, "features.h5"), "r") as f:
        offset, shape = f["features"].id.get_offset(), f["features"].shape
    both = np.memmap(os.path.join(root, "features.h5"), np.float32, "r", offset, shape)
    half = shape[1] // 2
    means = np.empty((len(start), half), np.float32)
    for at in range(0, len(start), 4096):  # media
        to = min(at + 4096, len(start))
        first, last = start[at], start[to] if to < len(start) else len(t)
        rows = order[first:last]
        block = (both[rows, :half] + both[rows, half:]) * det[rows, None].astype(np.float32)
        means[at:to] = np.add.reduceat(block, start[at:to] - first) / count[at:to, None]
    pooled = np.add.reduceat(means, np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]]))
    pooled /= np.sqrt((pooled**2).sum(axis=1, keepdims=True))

    ids = np.unique(template)
    a, b = np.searchsorted(ids, pairs[:, 0]), np.searchsorted(ids, pairs[:, 1])
    score = np.empty(len(a), np.float32)
    by_a = np.argsort(a, kind="stable")
    used, first = np.unique(a[by_a], return_index=True)
    first = np.r_[first, len(a)]
    for at in range(0, len(used), 256):
        to = min(at + 256, len(used))
        rows = by_a[first[at] : first[to]]
        dense = pooled[used[at:to]] @ pooled.T
        score[rows] = dense[np.searchsorted(used[at:to], a[rows]), b[rows]]
    same = pairs[:, 2] == 1
    impostor = np.sort(score[~same])[::-1]
    threshold = impostor[[int(far * len(impostor) * (1 + 1e-12)) for far in FARS]]
    say((score[same] > x).mean() for x in threshold)


def measure(argv):
    """Seconds, CPU seconds, peak RssAnon in MB and output of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    peak = 0
    while child.poll() is None:
        try:
            with open("/proc/%d/status" % child.pid) as f:
                for line in f:
                    if line.startswith("RssAnon"):
                        peak = max(peak, int(line.split()[1]))
        except OSError:
            pass
        time.sleep(0.005)
    seconds = time.monotonic() - start
    text = child.stdout.read()
    if child.returncode:
        sys.exit("bench-ijb: %s: exit code %d" % (argv[0], child.returncode))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, peak / 1024, text


def table(root, build):
    threads = len(os.sched_getaffinity(0))
    features = os.path.join(root, "features.h5")
    argv = {
        "ours": [
            os.path.join(build, "bin", "ff-eval"), "ijb", "--root", root,
            "--features", features, "--threads", str(threads),
        ],
        "numpy": [sys.executable, __file__, "numpy", root],
        "loop": [sys.executable, __file__, "loop", root],
    }
    print("ijb: %d threads, load average %.2f" % (threads, os.getloadavg()[0]), flush=True)
    with open(features, "rb") as f:  # into the page cache, for all sides alike
        while f.read(1 << 24):
            pass
    rows = []
    for side, runs in RUNS.items():
        got = [measure(argv[side]) for _ in range(runs)]
        seconds, cpu = (sorted(g[k] for g in got)[runs // 2] for k in (0, 1))
        rows.append((side, runs, seconds, cpu, max(g[2] for g in got)))
        print("%s: %s s\n%s" % (side, " ".join("%.2f" % g[0] for g in got), got[0][3]), flush=True)
    print("%-8s %5s %10s %10s %12s %8s" % ("side", "runs", "median s", "CPU s", "RssAnon MB", "times"))
    for row in rows:
        print("%-8s %5d %10.2f %10.2f %12.0f %8.1f" % (row + (row[2] / rows[0][2],)))


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "loop":
        run_loop(sys.argv[2])
    elif len(sys.argv) == 3 and sys.argv[1] == "numpy":
        run_numpy(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] == "table":
        table(sys.argv[2], sys.argv[3])
    else:
        sys.exit("usage: ijb_baseline.py loop|numpy ROOT | table ROOT BUILD")


main()
