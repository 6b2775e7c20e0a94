"""Contact sheets: what perturbations look like, drawn with Pillow alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageFont
    from torch import Tensor

    Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

_GROUND = (255, 255, 255)
_INK = (26, 28, 33)
_FAINT = (118, 122, 131)
_RULE = (222, 224, 229)

# Everything below is in pixels. Sizes of the fonts:
_TITLE_FONT = 20
_HEAD_FONT = 14
_NAME_FONT = 14
_SMALL_FONT = 11

_GAP = 6
_EDGE = 18
_TITLE_HEIGHT = 34
_HEADS_HEIGHT = 26
_GROUP_HEIGHT = 34
_NAME_LINE = 18
_NOTE_LINE = 14
_CAPTION_LINE = 13
_CAPTION_LINES = 2
_LABEL_WIDTH = 150
_LABEL_WIDTH_IN_BLOCKS = 112


@dataclass(frozen=True)
class Row:
    """One row of a sheet.

    Attributes:
        name: what the row shows, on the left.
        note: a second, fainter line beneath the name.
        images: (N, 3, H, W) in [0, 1] on any device, one per column from the left.
        captions: a line beneath each image (its parameters, say); may be empty.
        group: rows of one group stand together under its heading.
    """

    name: str
    images: Tensor
    captions: tuple[str, ...] = ()
    note: str = ""
    group: str = ""


@dataclass(frozen=True)
class _Layout:
    """Where things stand on a sheet, in pixels.

    Attributes:
        heads: headings of all columns, that of the original image too.
        blocks: how many blocks of rows stand side by side.
        cell: width and height of an image.
        label_width: width of the names to the left of the images.
        gap: between columns; above and below the images of a row as well.
        caption_lines: most lines beneath an image.
    """

    heads: tuple[str, ...]
    blocks: int
    cell: tuple[int, int]
    label_width: int
    gap: int
    caption_lines: int

    #: Where the rows begin, below the title and the headings of the columns.
    top = _EDGE + _TITLE_HEIGHT + _HEADS_HEIGHT

    @property
    def row_height(self) -> int:
        return self.cell[1] + 2 * self.gap + _CAPTION_LINE * self.caption_lines

    @property
    def block_width(self) -> int:
        return self.label_width + len(self.heads) * (self.cell[0] + self.gap) - self.gap

    @property
    def width(self) -> int:
        return 2 * _EDGE + self.blocks * self.block_width + (self.blocks - 1) * 2 * _EDGE

    def left(self, block: int) -> int:
        """Return where a block begins."""
        return _EDGE + block * (self.block_width + 2 * _EDGE)

    def column(self, block: int, index: int) -> int:
        """Return where a column of a block begins."""
        return self.left(block) + self.label_width + index * (self.cell[0] + self.gap)


def contact_sheet(
    rows: Sequence[Row],
    columns: Sequence[str],
    *,
    title: str,
    original: Tensor | None = None,
    cell: int = 144,
    blocks: int = 1,
) -> Image.Image:
    """Return one sheet: a row per perturbation, a column per severity, everything labelled.

    Args:
        rows: what to show; a row may have fewer images than there are columns.
        columns: headings of the columns.
        title: first line of the sheet.
        original: the image before perturbation (3, H, W): the first column of every row, or with
            several blocks a row of its own.
        cell: longer side of an image on the sheet, in pixels.
        blocks: set the rows in so many blocks side by side; the sheet is then a survey, without
            captions and notes.

    Raises:
        ValueError: a row has more images than there are columns.
    """
    for row in rows:
        if row.images.shape[0] > len(columns):
            raise ValueError(f"{row.name}: {row.images.shape[0]} images, {len(columns)} columns")
    if blocks > 1:
        rows = _survey(rows, original)
        original = None
    heads = (*(() if original is None else ("original",)), *columns)
    layout = _layout(rows, heads, original, cell, blocks)
    placed, tallest = _placed(rows, blocks, layout.row_height)
    sheet = _Sheet(layout, title, tallest)
    sheet.draw_heads()
    small = None if original is None else _shrink(original, layout.cell)
    for block, offset, item in placed:
        y = layout.top + offset
        if isinstance(item, str):
            sheet.draw_group(item, block, y)
        else:
            sheet.draw_label(item, block, y)
            sheet.draw_images(item, small, block, y)
    return sheet.image


def _survey(rows: Sequence[Row], original: Tensor | None) -> list[Row]:
    """Return rows without captions and notes, after a row for the original image (3, H, W)."""
    first = [] if original is None else [Row("original", original[None])]
    return [*first, *(Row(row.name, row.images, group=row.group) for row in rows)]


def _layout(
    rows: Sequence[Row], heads: tuple[str, ...], original: Tensor | None, cell: int, blocks: int
) -> _Layout:
    """Return the layout of a sheet; arguments as for :func:`contact_sheet`."""
    size = _cell_size(rows[0].images[0] if rows else original, cell)
    small = _font(_SMALL_FONT)
    lines = (
        len(wrap(text, small, size[0], _CAPTION_LINES))
        for row in rows
        for text in row.captions
        if text
    )
    return _Layout(
        heads=heads,
        blocks=blocks,
        cell=size,
        label_width=_LABEL_WIDTH if blocks == 1 else _LABEL_WIDTH_IN_BLOCKS,
        gap=_GAP if blocks == 1 else _GAP // 2,
        caption_lines=max(lines, default=0),
    )


def _cell_size(sample: Tensor | None, longer: int) -> tuple[int, int]:
    """Return width and height of an image (3, H, W) whose longer side is ``longer`` pixels."""
    ratio = 1.0 if sample is None else sample.shape[-2] / sample.shape[-1]
    width = longer if ratio <= 1 else max(1, round(longer / ratio))
    height = longer if ratio >= 1 else max(1, round(longer * ratio))
    return width, height


def _placed(
    rows: Sequence[Row], blocks: int, row_height: int
) -> tuple[list[tuple[int, int, str | Row]], int]:
    """Return block and offset of every row and heading, and the tallest block's height.

    The offset is from where the rows begin. Rows of a group stand together; where a block ends
    within a group, the next one repeats its heading.
    """
    groups = list(dict.fromkeys(row.group for row in rows))
    ordered = [row for group in groups for row in rows if row.group == group]
    headings = sum(1 for group in groups if group)
    share = (len(ordered) * row_height + headings * _GROUP_HEIGHT) / blocks
    placed: list[tuple[int, int, str | Row]] = []
    block, y, tallest, group = 0, 0, 0, ""
    for row in ordered:
        # A row goes where its middle lies.
        if block + 1 < blocks and y and y + row_height / 2 > share:
            block, y, group = block + 1, 0, ""
        if row.group and row.group != group:
            placed.append((block, y, row.group))
            y += _GROUP_HEIGHT
        group = row.group
        placed.append((block, y, row))
        y += row_height
        tallest = max(tallest, y)
    return placed, tallest


class _Sheet:
    """A sheet that is being drawn."""

    def __init__(self, layout: _Layout, title: str, rows_height: int) -> None:
        """Begin a sheet that has its title and room for rows ``rows_height`` pixels high."""
        from PIL import Image, ImageDraw

        font = _font(_TITLE_FONT)
        width = max(layout.width, 2 * _EDGE + round(font.getlength(title)))
        self.layout = layout
        self.image = Image.new("RGB", (width, layout.top + rows_height + _EDGE), _GROUND)
        self.pen = ImageDraw.Draw(self.image)
        self.pen.text((_EDGE, _EDGE - 2), title, font=font, fill=_INK)

    def draw_heads(self) -> None:
        """Draw the headings of the columns, over each block."""
        layout, font = self.layout, _font(_HEAD_FONT)
        width = layout.cell[0]
        for block in range(layout.blocks):
            for index, head in enumerate(layout.heads):
                place = (layout.column(block, index) + width / 2, layout.top - 10)
                text = _fit(head, font, width)
                self.pen.text(place, text, font=font, fill=_FAINT, anchor="ms")

    def draw_group(self, group: str, block: int, y: int) -> None:
        """Draw the heading of a group of rows."""
        left = self.layout.left(block)
        self.pen.line((left, y + 8, left + self.layout.block_width, y + 8), fill=_RULE)
        self.pen.text((left, y + 26), group, font=_font(_HEAD_FONT), fill=_FAINT, anchor="ls")

    def draw_label(self, row: Row, block: int, y: int) -> None:
        """Draw the name of a row, and its note beneath."""
        left, width = self.layout.left(block), self.layout.label_width - 12
        name_font, note_font = _font(_NAME_FONT), _font(_SMALL_FONT)
        names = wrap(row.name, name_font, width, 2)
        for number, line in enumerate(names):
            place = (left, y + 2 + _NAME_LINE * number)
            self.pen.text(place, line, font=name_font, fill=_INK)
        below = y + 6 + _NAME_LINE * len(names)
        for number, line in enumerate(wrap(row.note, note_font, width, 6)):
            place = (left, below + _NOTE_LINE * number)
            self.pen.text(place, line, font=note_font, fill=_FAINT)

    def draw_images(self, row: Row, original: Image.Image | None, block: int, y: int) -> None:
        """Draw the original, if there is one, and the images of a row with their captions."""
        layout = self.layout
        if original is not None:
            self.image.paste(original, (layout.column(block, 0), y))
        first = 0 if original is None else 1
        for index, image in enumerate(row.images):
            x = layout.column(block, index + first)
            self.image.paste(_shrink(image, layout.cell), (x, y))
            if index < len(row.captions):
                self._draw_caption(row.captions[index], x, y + layout.cell[1] + 2)

    def _draw_caption(self, text: str, x: int, y: int) -> None:
        """Draw what stands beneath an image that begins at ``x``."""
        width, font = self.layout.cell[0], _font(_SMALL_FONT)
        for number, line in enumerate(wrap(text, font, width, _CAPTION_LINES)):
            place = (x + width / 2, y + _CAPTION_LINE * number)
            self.pen.text(place, line, font=font, fill=_FAINT, anchor="ma")


def _shrink(image: Tensor, size: tuple[int, int]) -> Image.Image:
    """Return an image (3, H, W) as a picture of some width and height."""
    from PIL import Image

    picture = to_pil(image)
    if picture.size == size:
        return picture
    larger = size[0] > picture.size[0]
    how = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return picture.resize(size, how)


def to_pil(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in [0, 1] as a PIL image, rounded to 8 bits."""
    from PIL import Image

    data = (image.detach().float().clamp(0, 1) * 255).round().byte().cpu()
    _, height, width = data.shape
    pixels = data.permute(1, 2, 0).numpy().tobytes()
    return Image.frombytes("RGB", (width, height), pixels)


@functools.cache
def _font(size: int) -> Font:
    """Return Pillow's own font."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _fit(text: str, font: Font, width: float) -> str:
    """Return ``text``, cut with an ellipsis where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip(" ,=") + "…"


def wrap(text: str, font: Font, width: float, lines: int) -> list[str]:
    """Return ``text`` broken into at most ``lines`` lines, at blanks, and after _ and :.

    No line is wider than ``width`` pixels: what does not fit is cut, with an ellipsis.
    """
    result = [""]
    pieces: list[str] = []
    for word in re.findall(r"[^\s_:]*[_:]*\s*", text):
        too_long = font.getlength(word.rstrip()) > width
        # A class name in one word breaks before its capitals, but only if it must.
        pieces += re.split(r"(?<=[a-z])(?=[A-Z])", word) if too_long else [word]
    for piece in pieces:
        if result[-1] and font.getlength((result[-1] + piece).rstrip()) > width:
            result.append("")
        result[-1] += piece
    if len(result) > lines:
        result = [*result[: lines - 1], "".join(result[lines - 1 :])]
    return [_fit(line.rstrip(), font, width) for line in result]


def caption(parameters: Mapping[str, object]) -> str:
    """Return parameters as one short line, numbers to three digits."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in parameters.items()
    )
