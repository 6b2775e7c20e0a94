"""Pictures with texts: Flickr30k and COCO for retrieval; SugarCrepe, ARO and Winoground for composition."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Unpack

from pytest_cliprobust.datasets.listed import Labels, Listed, Row, place_of, shuffled
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.figures.samples import Choice


@register_layout(
    "flickr30k",
    plays=("retrieval",),
    path="the folder with flickr30k_test_karpathy.txt",
    source="Young et al. 2014; split of Karpathy & Li 2015",
    licence="for research; pictures of Flickr",
    published=True,
)
def flickr30k(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return Flickr30k's test split: a line of the table is a picture and one of its captions.

    Raises:
        ClipRobustError: the table is missing or has a line of another form.
    """
    folder = Path(root)
    table = place_of(folder, "Flickr30k", "flickr30k_test_karpathy.txt")
    pictures = place_of(folder, "Flickr30k", "flickr30k-images", "images", ".")
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(table)[1:], start=2):
        name, comma, caption = line.partition(".jpg,")
        if not comma:
            raise ClipRobustError(f"{str(table)!r}, line {number}: expected PICTURE.jpg,CAPTION")
        captions.setdefault(f"{name}.jpg", []).append(caption.strip())
    return _captioned("flickr30k", pictures, captions, **options)


@register_layout(
    "coco",
    plays=("retrieval",),
    path="the folder with coco_test_karpathy.json or captions_val2014.json, and val2014",
    source="Lin et al. 2014, cocodataset.org; split of Karpathy & Li 2015",
    licence="CC BY 4.0 (captions); pictures of Flickr",
    published=True,
)
def coco(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return COCO's pictures with their captions: the 5,000 of Karpathy's test split, or all of val2014.

    Raises:
        ClipRobustError: the table is missing, or is none of COCO's captions.
    """
    folder = Path(root)
    table = place_of(
        folder,
        "COCO",
        *("coco_test_karpathy.json", "annotations/captions_val2014.json", "captions_val2014.json"),
    )
    pictures = place_of(folder, "COCO", "val2014", "images", ".")
    document = read_json(table)
    try:
        names = {image["id"]: str(image["file_name"]) for image in document["images"]}
        captions: dict[str, list[str]] = {name: [] for name in names.values()}
        for annotation in document["annotations"]:
            captions[names[annotation["image_id"]]].append(str(annotation["caption"]).strip())
    except (KeyError, TypeError) as error:
        raise ClipRobustError(
            f"{str(table)!r} is no table of COCO's captions ({brief(error)})"
        ) from None
    return _captioned("coco", pictures, captions, **options)


@register_layout(
    "sugarcrepe",
    plays=("compositional",),
    path="the folder with data (seven tables) and val2017",
    source="Hsieh et al. 2023, github.com/RAIVNLab/sugar-crepe",
    licence="MIT; pictures of COCO",
    published=True,
)
def sugarcrepe(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return SugarCrepe: a choice between a caption and a hard negative, by kind (add_att, swap_obj …).

    Raises:
        ClipRobustError: there are no tables, or an entry lacks something.
    """
    folder = Path(root)
    tables = sorted(place_of(folder, "SugarCrepe", "data", ".").glob("*_*.json"))
    pictures = place_of(folder, "SugarCrepe", "val2017", "images")
    rows = []
    for table in tables:
        for key, entry in dict(read_json(table)).items():
            name, true, false = _fields(entry, table, "filename", "caption", "negative_caption")
            choice = Choice(table.stem, true, (false,))
            rows.append(Row(f"{table.stem}/{key}", name, choices=(choice,), unit=name))
    return _posed("sugarcrepe", pictures, rows, **options)


@register_layout(
    "aro",
    plays=("compositional",),
    path="the folder with visual_genome_relation.json, visual_genome_attribution.json and images",
    source="Yuksekgonul et al. 2023, github.com/mertyg/vision-language-models-are-bows",
    licence="MIT; pictures of Visual Genome (CC BY 4.0)",
    published=True,
)
def aro(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ARO's relations and attributions: the part of the picture in the box, and two captions.

    Raises:
        ClipRobustError: neither table is there, or an entry lacks something.
    """
    folder = Path(root)
    pictures = place_of(folder, "ARO", "images")
    kinds = {
        "relation": "visual_genome_relation.json",
        "attribution": "visual_genome_attribution.json",
    }
    place_of(folder, "ARO", *kinds.values())
    rows = []
    for kind, name in kinds.items():
        table = folder / name
        entries = read_json(table) if table.is_file() else []
        for number, entry in enumerate(entries):
            path, true, false = _fields(entry, table, "image_path", "true_caption", "false_caption")
            x, y, w, h = (
                int(v) for v in _fields(entry, table, "bbox_x", "bbox_y", "bbox_w", "bbox_h")
            )
            rows.append(
                Row(
                    f"{kind}/{number}",
                    path,
                    choices=(Choice(kind, true, (false,)),),
                    unit=path,
                    box=(x, y, x + w, y + h),
                )
            )
    return _posed("aro", pictures, rows, **options)


@register_layout(
    "winoground",
    plays=("compositional",),
    path="the folder with examples.jsonl and images",
    source="Thrush et al. 2022, facebook/winoground",
    licence="META IMAGES RESEARCH LICENSE, after agreement",
    published=True,
)
def winoground(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return Winoground: pairs of pictures, each with the caption that is true of it.

    Raises:
        ClipRobustError: the table is missing, or an entry lacks something.
    """
    folder = Path(root)
    table = place_of(folder, "Winoground", "examples.jsonl", "data/examples.jsonl")
    pictures = place_of(folder, "Winoground", "images", "data/images")
    rows = []
    for number, line in enumerate(_lines(table), start=1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ClipRobustError(
                f"{str(table)!r}, line {number}: no JSON ({brief(error)})"
            ) from None
        pair = str(entry.get("id", number)) if isinstance(entry, dict) else ""
        for side in ("0", "1"):
            name, caption = _fields(entry, table, f"image_{side}", f"caption_{side}")
            columns = {"pair": pair, "tag": str(entry.get("collapsed_tag", ""))}
            path = name if name.endswith(".png") else f"{name}.png"
            rows.append(
                Row(f"{pair}/{side}", path, columns=columns, captions=(caption,), unit=pair)
            )
    # Pairs stay together, so that a prefix is of whole ones.
    data = Listed("winoground", pictures, rows, Labels(), **options)
    data.unit = "pair"
    return data


# --- What these have in common ---------------------------------------------------------------------


def _captioned(
    name: str,
    root: Path,
    captions: Mapping[str, Iterable[str]],
    **options: Unpack[LayoutOptions],
) -> Listed:
    rows = [Row(path, path, captions=tuple(texts)) for path, texts in captions.items() if texts]
    return Listed(name, root, rows, Labels(), **options)


def _posed(
    name: str,
    root: Path,
    rows: Iterable[Row],
    **options: Unpack[LayoutOptions],
) -> Listed:
    """Return choices in an order of which a prefix is a random sample over the kinds; units are pictures."""
    return Listed(name, root, shuffled(rows), Labels(), unit="picture", **options)


def _fields(entry: Any, table: Path, *names: str) -> list[str]:
    """Return values of an entry as texts.

    Raises:
        ClipRobustError: it lacks one.
    """
    if not isinstance(entry, dict) or not all(name in entry for name in names):
        raise ClipRobustError(f"{str(table)!r}: an entry lacks one of {', '.join(names)}")
    return [str(entry[name]) for name in names]


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        ClipRobustError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ClipRobustError(f"{str(path)!r} cannot be read ({brief(error)})") from None


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ClipRobustError(f"{str(path)!r} cannot be read ({brief(error)})") from None
