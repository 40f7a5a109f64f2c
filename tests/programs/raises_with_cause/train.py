"""Raise an error that was caused by another one."""


def read_column(table: dict[str, list[int]], name: str) -> list[int]:
    return table[name]


try:
    read_column({"images": [1]}, "labels")
except KeyError as error:
    raise RuntimeError("the training table has no labels") from error
