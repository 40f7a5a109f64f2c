"""Write so many rows of pixels as CSV, from a file of images, over and over: ``make_rows.py COUNT IMAGES``."""

import sys

import numpy as np

count, path = int(sys.argv[1]), sys.argv[2]
with np.load(path) as data:
    images = data["images"]
lines = [",".join(f"{pixel:g}" for pixel in image.ravel()) for image in images]
for row in range(count):
    print(lines[row % len(lines)])
