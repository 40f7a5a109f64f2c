"""A training script that takes a tenth of a second."""

import time

time.sleep(0.1)
