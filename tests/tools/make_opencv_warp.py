#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes tests/fixtures/opencv_warp.u8: three 32 x 32 x 3 crops by OpenCV 4.6's warpAffine
of the picture and with the matrices that tests/unit/test_align.c holds as well.
Needs python3-opencv. Usage: make_opencv_warp.py tests/fixtures/opencv_warp.u8"""
import sys

import cv2
import numpy as np

W, H, SIDE = 70, 50, 32
MATRICES = [
    [[0.61, -0.17, 3.25], [0.17, 0.61, -6.5]],          # turned, shrunk, parts outside
    [[1.7312, 0.4021, -40.127], [-0.4021, 1.7312, -21.73]],  # enlarged
    [[-0.45, 0.2, 34.0], [0.2, 0.45, 2.0]],             # mirrored
]
y, x, c = np.mgrid[0:H, 0:W, 0:3]
image = ((x * 37 + y * 91 + c * 53 + x * y) % 251).astype(np.uint8)
crops = [cv2.warpAffine(image, np.array(m), (SIDE, SIDE), borderValue=0.0) for m in MATRICES]
np.stack(crops).tofile(sys.argv[1])
