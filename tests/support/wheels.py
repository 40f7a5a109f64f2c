"""Wheels made by hand: a distribution with one module, and nothing to fetch."""

import io
import zipfile


def wheel(name: str = "tiny", version: str = "1.0", value: int = 42) -> bytes:
    """A distribution whose module of the same name has a VALUE."""
    content = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{name}.py", f"VALUE = {value}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return content.getvalue()
