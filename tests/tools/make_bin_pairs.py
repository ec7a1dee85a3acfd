#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the fixtures of .bin files of pairs: make_bin_pairs.py DIR.

Every file holds the same 13 pairs of tiny PNG pictures (16 x 16) and the same labels, by
another pickle protocol or with the images as another type. What Python 2 and numpy would
write is put together opcode by opcode, so that neither is needed here; numpy's layouts are
those of numpy 1 and 2. Needs the standard library alone.
"""
import codecs
import pickle
import struct
import sys
import zlib
from pathlib import Path

PAIRS = 13
SIDE = 16


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(person, pose, side=SIDE):
    """A smooth picture: colours by person, a shifted edge by pose."""
    rows = b""
    for y in range(side):
        rows += b"\0"
        for x in range(side):
            inside = x + y < side // 2 + person % 7 + pose
            rows += bytes((20 * person % 256, 60 + 10 * (inside * person % 19), 200 * inside))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def label(i):
    return i % 3 != 1


def images(side=SIDE):
    made = []
    for i in range(PAIRS):
        made.append(png(i, 0, side))
        made.append(png(i, 1, side) if label(i) else png(i + 20, 0, side))
    return made


LABELS = [label(i) for i in range(PAIRS)]


class Writer:
    """A pickle written by hand; the memo counts from 1, as cPickle's does."""

    def __init__(self, protocol):
        self.out = bytes((0x80, protocol))
        self.memo = {}

    def raw(self, data):
        self.out += data
        return self

    def put(self, key):
        self.memo[key] = len(self.memo) + 1
        return self.raw(b"q" + bytes((self.memo[key],)))

    def once(self, data):
        """A value that occurs with every image: written once, then taken from the memo."""
        if data in self.memo:
            return self.raw(b"h" + bytes((self.memo[data],)))
        return self.raw(data).put(data)

    def list(self, items, write):
        self.raw(b"]")
        for first in range(0, len(items), 5):
            self.raw(b"(")
            for item in items[first : first + 5]:
                write(item)
            self.raw(b"e")
        return self

    def bool(self, same):
        self.raw(b"\x88" if same else b"\x89")

    def pairs(self, write_image, write_label=None):
        self.list(images(), write_image)
        self.list(LABELS, write_label or self.bool)
        return self.raw(b"\x86.").out


def python2_str():
    w = Writer(2)
    return w.pairs(lambda image: w.raw(b"U" + bytes((len(image),)) + image).put(image))


# u1 is one byte, so its byte order is "|".
DTYPE_STATE = b"(K\x03%sNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def numpy_reconstruct(protocol, module, text, data):
    w = Writer(protocol)
    dtype = b"cnumpy\ndtype\n" + text("u1") + b"\x89\x88\x87R" + DTYPE_STATE % text("|")

    def array(image):
        w.once(b"c" + module + b"\n_reconstruct\n").once(b"cnumpy\nndarray\n")
        w.once(b"K\x00\x85").raw(text("b") + b"\x87R")
        w.raw(b"(K\x01K" + bytes((len(image),)) + b"K\x01\x86").once(dtype)
        w.raw(b"\x89" + data(image) + b"tb")

    return w.pairs(array)


def numpy_frombuffer(module, opcode):
    w = Writer(5)
    dtype = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02u1\x89\x88\x87R" + DTYPE_STATE % b"\x8c\x01|"

    def array(image):
        w.once(b"\x8c" + bytes((len(module),)) + module + b"\x8c\x0b_frombuffer\x93")
        w.raw(b"(" + opcode + struct.pack("<Q", len(image)) + image).once(dtype)
        w.raw(b"K" + bytes((len(image),)) + b"\x85\x8c\x01CtR")

    return w.pairs(array)


def numpy_bools(protocol, module, image, byte):
    """Labels as numpy.bool_, images as the protocol has them."""
    w = Writer(protocol)
    dtype = b"cnumpy\ndtype\n" + unicode_text("b1") + b"\x89\x88\x87R"
    dtype += DTYPE_STATE % unicode_text("|")

    def scalar(same):
        w.once(b"c" + module + b"\nscalar\n").once(dtype)
        w.raw(byte(bytes((same,))) + b"\x86R")

    return w.pairs(lambda picture: w.raw(image(picture)), scalar)


def unicode_text(text):
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def py2_text(text):
    return b"U" + bytes((len(text),)) + text.encode()


def latin1_call(data):
    return b"c_codecs\nencode\n" + unicode_text(data.decode("latin-1")) + unicode_text("latin1") + b"\x86R"


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    made = images()
    one = [made[0]] * len(made)
    shared = list(made)
    shared[3] = shared[0]  # one object twice: the second comes from the memo
    files = {
        "bytes_p2": pickle.dumps((made, LABELS), 2),
        "bytes_p3": pickle.dumps((made, LABELS), 3),
        "bytes_p4": pickle.dumps((made, LABELS), 4),
        "bytes_p5": pickle.dumps((made, LABELS), 5),
        "bytearray_p2": pickle.dumps(([bytearray(i) for i in made], LABELS), 2),
        "bytearray_p5": pickle.dumps(([bytearray(i) for i in made], LABELS), 5),
        "shared_p4": pickle.dumps((shared, LABELS), 4),
        "python2_str": python2_str(),
        "numpy_python2": numpy_reconstruct(
            2, b"numpy.core.multiarray", py2_text, lambda i: b"T" + struct.pack("<i", len(i)) + i),
        "numpy_p2": numpy_reconstruct(2, b"numpy.core.multiarray", unicode_text, latin1_call),
        "numpy_p3": numpy_reconstruct(
            3, b"numpy._core.multiarray", unicode_text, lambda i: b"B" + struct.pack("<I", len(i)) + i),
        "numpy_p5": numpy_frombuffer(b"numpy._core.numeric", b"\x96"),
        "numpy_p5_readonly": numpy_frombuffer(b"numpy.core.numeric", b"\x8e"),
        "bool_p2": numpy_bools(2, b"numpy.core.multiarray", latin1_call, latin1_call),
        "bool_p4": numpy_bools(
            4, b"numpy._core.multiarray", lambda i: b"C" + bytes((len(i),)) + i, lambda i: b"C\1" + i),
        # The bad ones; one picture again and again keeps them small.
        "side20": pickle.dumps((one[:7] + [png(1, 0, 20)] + one[8:], LABELS), 4),
        "damaged": pickle.dumps((one[:5] + [made[5][:60]] + one[6:], LABELS), 4),
        "few": pickle.dumps((one[:18], LABELS[:9]), 4),
        "odd": pickle.dumps((made[:5], LABELS[:3]), 4),
        "refused": pickle.dumps(([], codecs.lookup), 2),
    }
    for name, data in files.items():
        (out / (name + ".bin")).write_bytes(data)


if __name__ == "__main__":
    main()
