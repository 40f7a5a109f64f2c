"""End with a message in place of a number."""

import sys

sys.exit("channel 'train' holds no images")
