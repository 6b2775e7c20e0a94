"""Contact sheets: what stands where."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from pytest_cliprobust.perturbations import contact_sheet as sheets
from pytest_cliprobust.perturbations.contact_sheet import Row, caption, contact_sheet, to_pil, wrap


def place(sheet: Image.Image, grey: int, side: int = 20) -> tuple[int, int]:
    """Return where the one square of this grey begins: x and y of its upper left corner."""
    same = (np.asarray(sheet) == grey).all(axis=-1)
    windows = np.lib.stride_tricks.sliding_window_view(same, (side, side)).all(axis=(2, 3))
    ((y, x),) = np.argwhere(windows).tolist()
    return x, y


def plain(name: str, *greys: int, group: str = "") -> Row:
    images = torch.stack([torch.full((3, 20, 20), grey / 255) for grey in greys])
    return Row(name, images, group=group)


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
    rows = [Row("first", torch.zeros(1, 3, 8, 8)), Row("second", torch.zeros(2, 3, 8, 8))]
    with pytest.raises(ValueError, match="second: 2 images, 1 columns"):
        contact_sheet(rows, ["perturbed"], title="t")


def test_a_caption_has_both_of_its_lines() -> None:
    font = ImageFont.load_default(sheets._SMALL_FONT)
    images = torch.ones(1, 3, 80, 80)
    texts = ("amount 0.25 layers 12", "amount 0.25 layers 77")
    # The numbers that differ stand in the second line.
    assert {wrap(text, font, 80, 2)[0] for text in texts} == {"amount 0.25"}
    first, second = (
        np.asarray(contact_sheet([Row("r", images, (text,))], ["1"], title="t", cell=80))
        for text in texts
    )
    assert first.shape == second.shape
    assert not np.array_equal(first, second)


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


def test_the_original_leads_and_the_others_follow_in_columns_and_rows() -> None:
    rows = [plain("a", 10, 20), plain("b", 40)]
    original = torch.full((3, 20, 20), 90 / 255)
    bare = contact_sheet(rows, ["1", "2"], title="t", cell=20)
    assert place(bare, 10) == (168, 78)  # 18 at the edge, 150 for names; 78 for title and headings
    assert place(bare, 20) == (168 + 26, 78)
    assert place(bare, 40) == (168, 78 + 32)
    assert bare.size == (168 + 2 * 26 - 6 + 18, 78 + 2 * 32 + 18)
    sheet = contact_sheet(rows[:1], ["1", "2"], title="t", cell=20, original=original)
    assert [place(sheet, grey)[0] for grey in (90, 10, 20)] == [168, 168 + 26, 168 + 52]


def test_groups_stand_together_and_blocks_side_by_side() -> None:
    rows = [plain("a", 10, group="x"), plain("b", 20, group="y"), plain("c", 30, group="x")]
    sheet = contact_sheet(rows, ["1"], title="t", cell=20)
    # 32 a row and 34 a heading: a and c, then b.
    assert [place(sheet, grey)[1] for grey in (10, 30, 20)] == [112, 144, 210]
    original = torch.full((3, 20, 20), 90 / 255)
    survey = contact_sheet(rows, ["1"], title="t", cell=20, original=original, blocks=2)
    # Of four rows two stand in each block; the second repeats the heading of x, that of y follows.
    first, second = 18 + 112, 18 + 112 + (112 + 20) + 36
    assert place(survey, 90) == (first, 78)
    assert place(survey, 10) == (first, 78 + 26 + 34)
    assert place(survey, 30) == (second, 78 + 34)
    assert place(survey, 20) == (second, 78 + 34 + 26 + 34)


def test_a_sheet_is_as_wide_as_its_title_and_as_high_as_its_captions() -> None:
    images = torch.zeros(1, 3, 20, 20)

    def size(title: str, *captions: str) -> tuple[int, int]:
        return contact_sheet([Row("r", images, captions)], ["1"], title=title, cell=20).size

    assert size("t" * 200)[0] == 36 + round(ImageFont.load_default(20).getlength("t" * 200))
    assert [size("t", *text)[1] - size("t")[1] for text in (("x",), ("x y z v w", ""), ("",))] == [
        13,
        26,
        0,
    ]


@pytest.mark.parametrize(("shape", "size"), [((10, 20), (40, 20)), ((20, 10), (20, 40))])
def test_images_keep_their_shape(shape: tuple[int, int], size: tuple[int, int]) -> None:
    sheet = contact_sheet([Row("r", torch.full((1, 3, *shape), 0.2))], ["1"], title="t", cell=40)
    same = (np.asarray(sheet) == 51).all(axis=-1)
    assert (int(same.any(axis=0).sum()), int(same.any(axis=1).sum())) == size


def test_parameters_are_one_short_line() -> None:
    assert caption({"gain": 0.123456, "layers": 12345, "mode": "x"}) == (
        "gain 0.123, layers 12345, mode x"
    )
    assert caption({}) == ""


def test_columns_stand_under_their_headings_whatever_the_cells_shape() -> None:
    wide = torch.stack([torch.full((3, 10, 30), grey / 255) for grey in (40, 80, 120)])
    rows = [Row("one", wide), Row("two", wide * 0.9)]
    sheet = contact_sheet(rows, ["a", "b", "c"], title="t", cell=30)
    pixels = np.asarray(sheet).astype(int)
    starts = []
    for grey in (40, 80, 120):
        found = np.argwhere((pixels == grey).all(axis=-1))
        starts.append(int(found[:, 1].min()))
        assert int(found[:, 1].max()) - starts[-1] == 29
    gaps = np.diff(starts)
    assert gaps[0] == gaps[1] > 30
    # A heading stands in the middle of its column: no ink above the gap between two of them.
    (top,) = {int(np.argwhere((pixels == 40).all(axis=-1))[:, 0].min())}
    ink = (np.abs(pixels[: top - 2] - pixels[0, 0]).sum(axis=-1) > 60)[12:]
    columns = np.flatnonzero(ink[-14:].any(axis=0))
    middles = [start + 14.5 for start in starts]
    assert all(min(abs(column - middle) for middle in middles) <= 6 for column in columns)


INK, FAINT, RULE = (26, 28, 33), (118, 122, 131), (222, 224, 229)


def noise(count: int, seed: int, side: int = 60) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


class Drawn:
    """A sheet that Pillow draws, every number written out."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), (255, 255, 255))
        self.pen = ImageDraw.Draw(self.image)

    def text(
        self,
        place: tuple[float, float],
        text: str,
        size: int,
        fill: tuple[int, int, int],
        anchor: str | None = None,
    ) -> None:
        font = ImageFont.load_default(size)
        self.pen.text(place, text, font=font, fill=fill, anchor=anchor)

    def paste(self, image: torch.Tensor, place: tuple[int, int]) -> None:
        levels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        self.image.paste(Image.fromarray(levels), place)

    def same(self, sheet: Image.Image) -> bool:
        return sheet.size == self.image.size and sheet.tobytes() == self.image.tobytes()


def test_everything_on_a_sheet_stands_where_it_should() -> None:
    first, second, original = noise(2, 0), noise(1, 1), noise(1, 2)[0]
    rows = [
        Row("a name", first, ("x 0.25", "amount 0.25 layers 12"), "a note of some more words", "g"),
        Row("a_much_longer_name_of_it", second, group="h"),
    ]
    sheet = contact_sheet(
        rows, ["one", "a very long head"], title="The title", original=original, cell=60
    )
    drawn = Drawn(18 + 150 + 3 * 66 - 6 + 18, 78 + 2 * 34 + 2 * (60 + 12 + 26) + 18)
    drawn.text((18, 16), "The title", 20, INK)
    columns = [168, 234, 300]
    cut = sheets._fit("a very long head", ImageFont.load_default(14), 60)
    for x, head in zip(columns, ("original", "one", cut), strict=True):
        drawn.text((x + 30, 68), head, 14, FAINT, "ms")
    for y, group in ((78, "g"), (210, "h")):
        drawn.pen.line((18, y + 8, 18 + 150 + 3 * 66 - 6, y + 8), fill=RULE)
        drawn.text((18, y + 26), group, 14, FAINT, "ls")
    drawn.text((18, 114), "a name", 14, INK)
    for number, line in enumerate(wrap(rows[0].note, ImageFont.load_default(11), 138, 6)):
        drawn.text((18, 112 + 6 + 18 + 14 * number), line, 11, FAINT)
    names = wrap(rows[1].name, ImageFont.load_default(14), 138, 2)
    assert len(names) == 2
    for number, line in enumerate(names):
        drawn.text((18, 246 + 18 * number), line, 14, INK)
    for y in (112, 244):
        drawn.paste(original, (168, y))
    for x, image in zip((234, 300), first, strict=True):
        drawn.paste(image, (x, 112))
    drawn.paste(second[0], (234, 244))
    drawn.text((264, 174), "x 0.25", 11, FAINT, "ma")
    lines = wrap("amount 0.25 layers 12", ImageFont.load_default(11), 60, 2)
    assert len(lines) == 2
    for number, line in enumerate(lines):
        drawn.text((330, 174 + 13 * number), line, 11, FAINT, "ma")
    assert drawn.same(sheet)


def test_everything_in_blocks_stands_where_it_should() -> None:
    images = noise(3, 3)
    rows = [Row(name, image[None], ("x",), "n") for name, image in zip("abc", images, strict=True)]
    sheet = contact_sheet(rows, ["head"], title="t", cell=60, blocks=2)
    block = 112 + 60
    drawn = Drawn(36 + 2 * block + 36, 78 + 2 * 66 + 18)
    drawn.text((18, 16), "t", 20, INK)
    for left in (18, 18 + block + 36):
        drawn.text((left + 112 + 30, 68), "head", 14, FAINT, "ms")
    # A row goes where its middle lies: the second one begins before the half, and ends behind it.
    places = [(18, 78), (18, 144), (18 + block + 36, 78)]
    for (x, y), name, image in zip(places, "abc", images, strict=True):
        drawn.text((x, y + 2), name, 14, INK)
        drawn.paste(image, (x + 112, y))
    assert drawn.same(sheet)


@pytest.mark.parametrize(
    ("shape", "longer", "size"),
    [
        ((20, 20), 144, (144, 144)),
        ((10, 30), 60, (60, 20)),
        ((30, 10), 60, (20, 60)),
        ((7, 20), 50, (50, 18)),
        ((20, 7), 50, (18, 50)),
        ((1, 500), 60, (60, 1)),
        ((500, 1), 60, (1, 60)),
    ],
)
def test_the_longer_side_of_a_cell(
    shape: tuple[int, int], longer: int, size: tuple[int, int]
) -> None:
    assert sheets._cell_size(torch.zeros(3, *shape), longer) == size
    assert sheets._cell_size(None, longer) == (longer, longer)


def test_small_pictures_keep_their_pixels_and_large_ones_are_smoothed() -> None:
    image = noise(1, 4, 20)[0]
    picture = to_pil(image)
    assert sheets._shrink(image, (20, 20)).tobytes() == picture.tobytes()
    for size, how in (
        ((40, 40), Image.Resampling.NEAREST),
        ((21, 21), Image.Resampling.NEAREST),
        ((10, 10), Image.Resampling.LANCZOS),
        ((20, 10), Image.Resampling.LANCZOS),
    ):
        assert sheets._shrink(image, size).tobytes() == picture.resize(size, how).tobytes()
    beyond = torch.tensor([-0.5, 0.3 / 255, 0.7 / 255, 254.4 / 255, 1.5]).expand(3, 1, 5)
    assert [to_pil(beyond).getpixel((x, 0)) for x in range(5)] == [
        (level,) * 3 for level in (0, 0, 1, 254, 255)
    ]


def test_what_does_not_fit_is_cut_with_an_ellipsis() -> None:
    font = ImageFont.load_default(14)
    text = "amount 0.25, layers"
    whole = font.getlength(text)
    assert sheets._fit(text, font, whole) == text
    cut = sheets._fit(text, font, whole - 0.01)
    assert font.getlength(text[: len(cut)] + "…") > whole - 0.01
    assert font.getlength(cut) <= whole - 0.01
    # Neither a blank nor a comma stands before the ellipsis.
    assert sheets._fit(text, font, font.getlength("amount 0.25, …")) == "amount 0.25…"
    assert sheets._fit(text, font, 0.0) == "…"
    assert wrap("one two three", font, font.getlength("one two"), 3) == ["one two", "three"]
    assert wrap("one two", font, font.getlength("one two") - 0.01, 3) == ["one", "two"]
    assert wrap("", font, 10, 2) == [""]
    assert len(wrap("a b c d e", font, 8, 3)) == 3


def test_rows_fill_blocks_evenly() -> None:
    def blocks(count: int) -> list[int]:
        rows = [Row(str(i), torch.zeros(1, 3, 8, 8)) for i in range(count)]
        placed, _ = sheets._placed(rows, 3, 10)
        return [block for block, _, item in placed if isinstance(item, Row)]

    assert blocks(6) == [0, 0, 1, 1, 2, 2]
    assert blocks(7) == [0, 0, 1, 1, 2, 2, 2]
    assert blocks(2) == [0, 1]
    assert blocks(1) == [0]
    assert blocks(0) == []
    placed, tallest = sheets._placed([Row("r", torch.zeros(1, 3, 8, 8), group="x")], 1, 10)
    assert [(block, y) for block, y, _ in placed] == [(0, 0), (0, 34)]
    assert tallest == 44


def test_a_name_has_two_lines_and_a_note_six() -> None:
    name = "a_name_of_many_words_that_would_fill_four_lines_or_five_of_its_room_on_the_sheet"
    note = " ".join(f"word{number} of a long note" for number in range(20))
    image = noise(1, 5)
    sheet = contact_sheet([Row(name, image, (), note)], ["1"], title="t", cell=60)
    large, small = ImageFont.load_default(14), ImageFont.load_default(11)
    names, notes = wrap(name, large, 138, 2), wrap(note, small, 138, 6)
    assert (len(names), len(wrap(name, large, 138, 9))) == (2, 5)
    assert (len(notes), len(wrap(note, small, 138, 6 + 9)) > 7) == (6, True)
    assert all("…" in lines[-1] for lines in (names, notes))
    drawn = Drawn(18 + 150 + 60 + 18, 78 + 72 + 18)
    drawn.text((18, 16), "t", 20, INK)
    drawn.text((198, 68), "1", 14, FAINT, "ms")
    for number, line in enumerate(names):
        drawn.text((18, 80 + 18 * number), line, 14, INK)
    for number, line in enumerate(notes):
        drawn.text((18, 78 + 6 + 36 + 14 * number), line, 11, FAINT)
    drawn.paste(image[0], (168, 78))
    assert drawn.same(sheet)
