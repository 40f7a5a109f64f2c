"""End with exit code 3 and no word."""

import sys

sys.exit(3)
