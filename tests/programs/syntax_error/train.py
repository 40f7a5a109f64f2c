"""Not Python."""

print("never printed")
def train(:
    pass
