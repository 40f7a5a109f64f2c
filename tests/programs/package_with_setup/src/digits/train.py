"""Found only once the package is installed."""

import sys

if __name__ == "__main__":
    print(f"{__spec__.name} was given {sys.argv[1:]}")
