"""The table of serving's variables, for the reference: `python -m sagemaker_byoc.serving.settings_table`."""

from sagemaker_byoc.serving.settings import variables

COMMON = (
    "| `SAGEMAKER_BASE_DIR` | `/opt/ml` | the base directory |",
    "| `BYOC_IMAGE_CODE_DIR` | `/opt/program/code` | the image's code folder |",
)


def table() -> str:
    """Markdown, one row a variable; a setting's second name refers to the first."""
    lines = ["| variable | default | meaning |", "|---|---|---|", *COMMON]
    for variable in variables().values():
        first, *others = variable.names
        lines.append(f"| `{first}` | {variable.default} | {variable.meaning} |")
        lines += [f"| `{other}` | | another name of `{first}`, which wins |" for other in others]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
