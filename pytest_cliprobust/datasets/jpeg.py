"""JPEGs by simplejpeg, which takes two thirds of the processor time of Pillow for the same pixels.

Both are libjpeg-turbo; Pillow takes longer to make an array of what it decoded. Nothing depends on which of
the two it is: where a trial says that they differ, and for whatever simplejpeg refuses, it is Pillow.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image

#: The kinds of JPEG that the trial is made with: (subsampling, progressive).
_TRIALS = ((0, False), (1, False), (2, False), (2, True))


def decoded(file: Image.Image) -> npt.NDArray[np.uint8] | None:
    """Return the pixels (H, W, 3) of an opened file of which nothing is decoded yet.

    None where Pillow has to decode it: it is no JPEG in colour, is to be turned, or is damaged.
    """
    if file.format != "JPEG" or file.mode != "RGB" or not is_the_same():
        return None
    if file.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return None
    source = getattr(file, "fp", None)
    if source is None:
        return None
    source.seek(0)
    return _decoded(source.read())


@cache
def is_the_same() -> bool:
    """Return whether simplejpeg gives the pixels that Pillow gives."""
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    )
    for subsampling, progressive in _TRIALS:
        content = io.BytesIO()
        picture.save(content, "JPEG", subsampling=subsampling, progressive=progressive, quality=85)
        with Image.open(content) as file:
            expected = np.array(file)
        found = _decoded(content.getvalue())
        if found is None or not np.array_equal(found, expected):
            return False
    return True


def _decoded(content: bytes) -> npt.NDArray[np.uint8] | None:
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content)
    except ValueError:  # also for what libjpeg only warns of
        return None
    return pixels
