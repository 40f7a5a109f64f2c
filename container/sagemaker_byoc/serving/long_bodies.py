"""Which request bodies are long, for nginx and for the workers alike: they are passed on piece by piece and read in
turn, so that requests which wait need no memory.
"""

LONG_BYTES = 10**6  # nginx counts digits: a power of ten
STALL_SECONDS = 20  # that the next piece may be in coming
