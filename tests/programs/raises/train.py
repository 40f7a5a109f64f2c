"""Raise two calls deep."""


def check_learning_rate(value: float) -> None:
    if value <= 0:
        raise ValueError(f"the learning rate must be positive, got {value}")


def main() -> None:
    check_learning_rate(-1.0)


main()
