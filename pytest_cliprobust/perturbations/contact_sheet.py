"""Contact sheets: what perturbations look like, drawn with Pillow alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageFont
    from torch import Tensor

_GROUND = (255, 255, 255)
_INK = (26, 28, 33)
_FAINT = (118, 122, 131)
_RULE = (222, 224, 229)
_GAP = 6
_EDGE = 18


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


def to_pil(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in [0, 1] as a PIL image, rounded to 8 bits."""
    from PIL import Image

    data = (image.detach().float().clamp(0, 1) * 255).round().byte().cpu()
    _, height, width = data.shape
    pixels = data.permute(1, 2, 0).numpy().tobytes()
    return Image.frombytes("RGB", (width, height), pixels)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _fit(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> str:
    """Return ``text``, cut with an ellipsis where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip(" ,=") + "…"


def _wrap(
    text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float, lines: int
) -> list[str]:
    """Return ``text`` broken into at most ``lines`` lines, at blanks, and after _ and :."""
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
    from PIL import Image, ImageDraw

    for row in rows:
        if row.images.shape[0] > len(columns):
            raise ValueError(f"{row.name}: {row.images.shape[0]} images, {len(columns)} columns")

    if blocks > 1:
        rows = [Row(row.name, row.images, group=row.group) for row in rows]
        if original is not None:
            rows = [Row("original", original[None]), *rows]
        original = None
    title_font, head_font, name_font, small_font = _font(20), _font(14), _font(14), _font(11)
    label_width = 150 if blocks == 1 else 112
    heads = ([] if original is None else ["original"]) + list(columns)
    sample = rows[0].images[0] if rows else original
    ratio = 1.0 if sample is None else sample.shape[-2] / sample.shape[-1]
    cell_width = cell if ratio <= 1 else max(1, round(cell / ratio))
    cell_height = cell if ratio >= 1 else max(1, round(cell * ratio))
    captions = [
        [_wrap(text, small_font, cell_width, 2) for text in row.captions if text] for row in rows
    ]
    caption_lines = max((len(lines) for row in captions for lines in row), default=0)
    gap = _GAP if blocks == 1 else _GAP // 2
    row_height = cell_height + 2 * gap + 13 * caption_lines
    block_width = label_width + len(heads) * (cell_width + gap) - gap
    placed, tallest = _placed(rows, blocks, row_height)
    top = _EDGE + 34 + 26
    width = 2 * _EDGE + blocks * block_width + (blocks - 1) * 2 * _EDGE
    width = max(width, 2 * _EDGE + round(title_font.getlength(title)))
    height = top + tallest + _EDGE
    sheet = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_EDGE, _EDGE - 2), title, font=title_font, fill=_INK)

    def left(block: int) -> int:
        return _EDGE + block * (block_width + 2 * _EDGE)

    def column(block: int, index: int) -> int:
        return left(block) + label_width + index * (cell_width + gap)

    for block in range(blocks):
        for index, head in enumerate(heads):
            draw.text(
                (column(block, index) + cell_width / 2, top - 10),
                _fit(head, head_font, cell_width),
                font=head_font,
                fill=_FAINT,
                anchor="ms",
            )
    small = None if original is None else _shrink(original, (cell_width, cell_height))
    for block, offset_y, item in placed:
        y = top + offset_y
        if isinstance(item, str):
            draw.line((left(block), y + 8, left(block) + block_width, y + 8), fill=_RULE)
            draw.text((left(block), y + 26), item, font=head_font, fill=_FAINT, anchor="ls")
            continue
        row = item
        lines = _wrap(row.name, name_font, label_width - 12, 2)
        for number, line in enumerate(lines):
            draw.text((left(block), y + 2 + 18 * number), line, font=name_font, fill=_INK)
        below = y + 6 + 18 * len(lines)
        for number, line in enumerate(_wrap(row.note, small_font, label_width - 12, 6)):
            draw.text((left(block), below + 14 * number), line, font=small_font, fill=_FAINT)
        offset = 0
        if small is not None:
            sheet.paste(small, (column(block, 0), y))
            offset = 1
        for index, image in enumerate(row.images):
            x = column(block, index + offset)
            sheet.paste(_shrink(image, (cell_width, cell_height)), (x, y))
            below_image = row.captions[index] if index < len(row.captions) else ""
            for number, line in enumerate(_wrap(below_image, small_font, cell_width, 2)):
                draw.text(
                    (x + cell_width / 2, y + cell_height + 2 + 13 * number),
                    line,
                    font=small_font,
                    fill=_FAINT,
                    anchor="ma",
                )
    return sheet


_HEADING = 34


def _placed(
    rows: Sequence[Row], blocks: int, row_height: int
) -> tuple[list[tuple[int, int, str | Row]], int]:
    """Return block and offset from the top of every row and heading, and the tallest block's height.

    Rows of a group stand together; where a block ends within a group, the next one repeats its
    heading.
    """
    groups = list(dict.fromkeys(row.group for row in rows))
    ordered = [row for group in groups for row in rows if row.group == group]
    headings = sum(1 for group in groups if group)
    share = (len(ordered) * row_height + headings * _HEADING) / blocks
    placed: list[tuple[int, int, str | Row]] = []
    block, y, tallest, group = 0, 0, 0, ""
    for row in ordered:
        # A row goes where its middle lies.
        if block + 1 < blocks and y and y + row_height / 2 > share:
            block, y, group = block + 1, 0, ""
        if row.group and row.group != group:
            placed.append((block, y, row.group))
            y += _HEADING
        group = row.group
        placed.append((block, y, row))
        y += row_height
        tallest = max(tallest, y)
    return placed, tallest


def _shrink(image: Tensor, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    picture = to_pil(image)
    if picture.size == size:
        return picture
    larger = size[0] > picture.size[0]
    how = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return picture.resize(size, how)


def caption(parameters: Mapping[str, object]) -> str:
    """Return parameters as one short line, numbers to three digits."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in parameters.items()
    )


def before_after(
    before: Tensor, after: Tensor, path: Path, *, title: str, note: str = "", limit: int = 8
) -> Path:
    """Write a sheet of images before and after a perturbation, and return its path.

    Args:
        before: (B, 3, H, W) in [0, 1].
        after: the same shape.
        path: a PNG file; its folder is made if need be.
        title: first line.
        note: the perturbation's parameters, say.
        limit: show at most so many samples.
    """
    count = min(limit, before.shape[0])
    sheet = contact_sheet(
        [
            Row("before", before[:count]),
            Row("after", after[:count], note=note),
        ],
        [str(index + 1) for index in range(count)],
        title=title,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path
