"""Images: pixels as an array, height by width by channels."""

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sagemaker_byoc.serving.codecs.reading import check_size, reading

_KEPT = {"L": "L", "RGB": "RGB", "RGBA": "RGBA", "1": "L", "LA": "RGBA", "PA": "RGBA", "La": "RGBA", "RGBa": "RGBA"}
_WIDE = {"I": np.int32, "F": np.float32, "I;16": np.uint16, "I;16B": np.uint16, "I;16L": np.uint16}


def read_image(form: str, body: bytes, _charset: str, limit: int) -> np.ndarray[Any, Any]:
    """The pixels of an image in the format that Pillow calls `form`: an animation's first, a photograph's as they were
    taken.

    One channel of grey, three of colours, four where there is transparency, in uint8; grey of more bits keeps its type.
    Raises MalformedBody.
    """
    # Only the format that the content type names is tried, so that no rare decoder ever sees a stranger's bytes.
    with reading(f"a {form} image"), _open(body, form) as image:
        width, height = image.size
        check_size(width * height * 4, limit, f"a {form} image of {width} by {height} pixels")
        if image.mode in _WIDE:
            return np.asarray(image).astype(_WIDE[image.mode])[:, :, np.newaxis]
        mode = "RGBA" if "transparency" in image.info else _KEPT.get(image.mode, "RGB")
        pixels = np.array(image if image.mode == mode else image.convert(mode))
        return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def write_png(value: Any) -> bytes:
    """Pixels as a PNG image. Raises TypeError for an array that is no picture."""
    pixels = np.asarray(value)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    kinds = {2: (np.uint8, np.uint16), 3: (np.uint8,)}.get(pixels.ndim, ())
    if pixels.dtype not in kinds or not pixels.size or pixels.shape[2:] not in ((), (3,), (4,)):
        raise TypeError(
            f"shape {pixels.shape} and type {pixels.dtype} are no picture; expected uint8, of 1, 3 or 4 channels"
        )
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG")
    return out.getvalue()


def _open(body: bytes, form: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(body), formats=(form,))
    except UnidentifiedImageError:
        raise ValueError("it does not begin like one") from None
