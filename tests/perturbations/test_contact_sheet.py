"""Contact sheets: what stands where."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import ImageFont

from pytest_cliprobust.perturbations.contact_sheet import Row, contact_sheet, to_pil, wrap


def test_a_sheet_shows_the_pixels_that_it_is_given() -> None:
    images = torch.stack([torch.full((3, 20, 20), value) for value in (0.25, 0.75)])
    rows = [Row("a_long_name_that_needs_two_lines", images, ("x 0.25", "x 0.75"), note="why")]
    sheet = contact_sheet(rows, ["severity 1", "severity 2"], title="t", cell=20)
    pixels = np.asarray(sheet)
    for value in (64, 191):
        assert ((pixels == value).all(axis=-1)).sum() == 400
    assert to_pil(images[0]).getpixel((0, 0)) == (64, 64, 64)


def test_no_row_has_more_images_than_there_are_columns() -> None:
    with pytest.raises(ValueError, match="3 images, 1 columns"):
        contact_sheet([Row("r", torch.zeros(3, 3, 8, 8))], ["perturbed"], title="t")


def test_long_names_break_where_words_end() -> None:
    font = ImageFont.load_default(14)

    def broken(text: str) -> list[str]:
        return wrap(text, font, 130, 2)

    assert broken("fog") == ["fog"]
    assert broken("kornia:RandomGaussianBlur") == ["kornia:Random", "GaussianBlur"]
    assert broken("a_name_that_is_longer") == ["a_name_that_is_", "longer"]
    assert broken("Zhong et al. 2020): aspect") == ["Zhong et al. 2020):", "aspect"]
    cut = broken("one two three four five six seven eight nine ten")
    assert len(cut) == 2
    assert cut[1].endswith("…")
    assert all(font.getlength(line) <= 130 for line in cut)
