"""As a module within a package, say that it ran."""

import sys

print("steps ran with", sys.argv[1:])
