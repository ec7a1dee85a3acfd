#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Seeds of the HDF5 fuzz target: make_h5_seeds.py FOLDER (needs h5py).

Small files with the datasets and attributes that the programs ask for, in the library's
old format, which is the one we write, and in the new one, which others may; then damaged
ones: most of them hung or overran libhdf5 1.10.8.
"""
import sys

import h5py
import numpy as np

TEXT = h5py.string_dtype()


def config(file, **values):
    for name, value in {"backbone": "r18", "width": "0.25", "image_size": "112",
                        "embedding": "256", **values}.items():
        file.attrs[name] = value


def features(file, names, rows_done=None, **options):
    values = np.arange(4 * len(names), dtype="<f4").reshape(-1, 4)
    file.create_dataset("features", data=values, track_times=False, **options)
    file.create_dataset("name", data=names, dtype=TEXT, track_times=False)
    if rows_done is not None:
        file.attrs["rows_done"] = np.int64(rows_done)


def checkpoint(file):
    config(file)
    file.attrs["schema"] = "ff-checkpoint/1"
    file.attrs["iteration"] = np.int64(7)
    file.attrs["seconds"] = 1.5
    weight = np.arange(6, dtype="<f4").reshape(2, 3)
    file.create_dataset("head.weight", data=weight, track_times=False)
    file.create_dataset("momentum/head.weight", data=weight, track_times=False)
    file.create_dataset("scheduler/0", data=np.arange(5.0), track_times=False)


def damage(folder, name, seed, mark, at, value):
    """`seed` with the bytes `at` behind the first `mark` replaced."""
    with open(f"{folder}/{seed}.h5", "rb") as f:
        data = bytearray(f.read())
    at += data.index(mark)
    data[at:at + len(value)] = value
    with open(f"{folder}/damaged_{name}.h5", "wb") as f:
        f.write(data)


def compact(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    plist.set_obj_track_times(False)
    space = h5py.h5s.create_simple((3, 8))
    values = np.ones((3, 8), "<f4")
    h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, plist).write(
        h5py.h5s.ALL, h5py.h5s.ALL, values)
    file.create_dataset("name", data=["a", "b", "c"], dtype=TEXT, track_times=False)


def main(folder):
    def make(name, **how):
        return h5py.File(f"{folder}/{name}.h5", "w", track_order=False, **how)

    with make("model") as f:
        config(f)
    with make("model_fixed_text") as f:
        config(f, backbone=np.bytes_("mbf"), width=np.bytes_("1"))
    with make("model_new", libver="latest") as f:
        config(f)
    with make("features") as f:
        features(f, ["a.jpg", "b.jpg", "c.jpg"], 3)
        f.attrs["model_sha256"] = "ab" * 32
    with make("features_unfinished") as f:
        features(f, ["a.jpg", "b.jpg"], 1)
        f.attrs["model_sha256"] = "ab"
    with make("features_chunked") as f:
        features(f, ["a.jpg", "b.jpg"], chunks=(1, 4), compression="gzip")
    with make("features_f64") as f:
        f.create_dataset("features", data=np.ones((2, 2)), track_times=False)
        f.create_dataset("name", data=np.array([b"a", b"b"]), track_times=False)
    with make("features_new", libver="latest") as f:
        features(f, ["a.jpg", "b.jpg"], 2)
    with make("checkpoint") as f:
        checkpoint(f)
    with make("keys") as f:
        f.create_dataset("train_key", data=np.array([["x", "yy"], ["", "z"]], dtype=object),
                         dtype=TEXT, track_times=False)
    with make("features_compact") as f:
        compact(f)

    far = b"\xff\xff\xff\x7f\1\0\0\0"
    damage(folder, "end_of_file", "model", b"HDF", 39, far)
    damage(folder, "heap_bytes", "features", b"GCOL", 8, far)
    damage(folder, "heap_object_none", "model", b"GCOL", 24, bytes(8))
    damage(folder, "heap_object_long", "model", b"GCOL", 24, b"\xf0" * 7 + b"\x7f")
    # names of the group "momentum": their bytes; free room that follows itself
    names = np.array([0x58, 0x18], "<u8").tobytes()
    damage(folder, "names_bytes", "checkpoint", names, 0, far)
    damage(folder, "names_free", "checkpoint", names, 24 + 0x18, b"\x18")
    # bytes of an attribute's shape, behind which its value stands
    damage(folder, "attribute_shape", "model", b"width", -1, b"\xf7")
    # bytes of a reference to a text
    damage(folder, "attribute_text", "model", b"backbone", 20, b"\x0c")
    # a shape that is larger than what is there
    shape = np.array([3, 8, 3, 8], "<u8").tobytes()
    damage(folder, "compact_shape", "features_compact", shape, 0,
           np.array([3, 1 << 16, 3, 1 << 16], "<u8").tobytes())


main(sys.argv[1])
