#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""onnx_check.py DIR: runs DIR/model.onnx by ONNX Runtime on input.f32, compares with
embedding.f32. Exit code 0 where the relative norm of the difference is at most 1e-5."""
import sys

import numpy
import onnxruntime

folder = sys.argv[1]
session = onnxruntime.InferenceSession(folder + "/model.onnx",
                                       providers=["CPUExecutionProvider"])
shape = [n if isinstance(n, int) else -1 for n in session.get_inputs()[0].shape]
pixels = numpy.fromfile(folder + "/input.f32", numpy.float32).reshape(shape)
wanted = numpy.fromfile(folder + "/embedding.f32", numpy.float32).reshape(len(pixels), -1)
found = session.run(None, {"input": pixels})[0]
apart = numpy.linalg.norm(found - wanted) / numpy.linalg.norm(wanted)
print("onnxruntime %s: relative norm %.2e" % (onnxruntime.__version__, apart))
sys.exit(0 if found.shape == wanted.shape and apart <= 1e-5 else 1)
