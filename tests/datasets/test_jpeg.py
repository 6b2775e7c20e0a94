"""JPEGs by simplejpeg: Pillow's pixels, or Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pytest_cliprobust.datasets import jpeg
from pytest_cliprobust.datasets.reading import decode_image, read_image
from pytest_cliprobust.errors import UnreadableSample


def content_of(pixels: Any, mode: str = "RGB", **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, "JPEG", **options)
    return content.getvalue()


def by_pillow(content: bytes) -> Any:
    with Image.open(io.BytesIO(content)) as file:
        return np.array(file.convert("RGB"))


def noise(height: int = 21, width: int = 34) -> Any:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_simplejpeg(content: bytes) -> Any:
    with Image.open(io.BytesIO(content)) as file:
        return jpeg.decoded(file)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 2),
    st.integers(5, 100),
    st.booleans(),
)
def test_the_same_pixels(
    height: int, width: int, subsampling: int, quality: int, progressive: bool
) -> None:
    content = content_of(
        noise(height, width), subsampling=subsampling, quality=quality, progressive=progressive
    )
    found = by_simplejpeg(content)
    assert found is not None
    assert np.array_equal(found, by_pillow(content))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_pillows(mode: str) -> None:
    content = content_of(noise(), mode)
    assert by_simplejpeg(content) is None
    found = decode_image(content, "it")
    assert np.array_equal(found.permute(1, 2, 0).numpy(), by_pillow(content))


def test_what_is_to_be_turned_is_pillows() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = content_of(noise(), exif=exif)
    assert by_simplejpeg(content) is None
    found = decode_image(content, "it").permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.rot90(by_pillow(content), -1))


def test_another_format_is_pillows() -> None:
    content = io.BytesIO()
    Image.fromarray(noise()).save(content, "PNG")
    assert by_simplejpeg(content.getvalue()) is None


@pytest.mark.parametrize("lost", [2, 40, 400])
def test_a_damaged_file_is_refused_as_before(tmp_path: Path, lost: int) -> None:
    """What lacks its end, or part of its pixels, as Pillow refuses it."""
    path = tmp_path / "a.jpg"
    path.write_bytes(content_of(noise(60, 60))[:-lost])
    try:
        with Image.open(path) as file:
            file.load()
    except OSError:
        with pytest.raises(UnreadableSample, match=r"cannot read image .*a\.jpg"):
            read_image(path)
    else:
        assert np.array_equal(
            read_image(path).permute(1, 2, 0).numpy(), by_pillow(path.read_bytes())
        )


def test_a_decoder_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_of(noise())
    for other in (lambda _: None, lambda _: np.zeros((37, 51, 3), dtype=np.uint8)):
        jpeg.is_the_same.cache_clear()
        monkeypatch.setattr(jpeg, "_decoded", other)
        assert not jpeg.is_the_same()
        assert by_simplejpeg(content) is None
        assert np.array_equal(
            decode_image(content, "it").permute(1, 2, 0).numpy(), by_pillow(content)
        )
    jpeg.is_the_same.cache_clear()


@pytest.mark.parametrize("kind", range(4))
def test_every_kind_of_jpeg_is_tried(monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    """One that differs in a single kind is not used for any."""
    whole = jpeg._decoded
    calls: list[bytes] = []

    def differs(content: bytes) -> Any:
        calls.append(content)
        found = whole(content)
        return None if found is None else found ^ (len(calls) == kind + 1)

    jpeg.is_the_same.cache_clear()
    monkeypatch.setattr(jpeg, "_decoded", differs)
    assert not jpeg.is_the_same()
    assert len(calls) == kind + 1
    jpeg.is_the_same.cache_clear()


def test_a_file_that_is_decoded_already_is_left_as_it_is() -> None:
    with Image.open(io.BytesIO(content_of(noise()))) as file:
        file.load()
        assert jpeg.decoded(file) is None
