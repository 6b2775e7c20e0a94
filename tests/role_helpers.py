"""A user's disk for every role, made of the embedded benchmark's pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pytest_cliprobust.datasets.embedded import EmbeddedDataset

#: Which embedded data set stands for a role, and how many samples of it are written.
SETS = {
    "clean": ("clean", 134),
    "shift": ("clipart", 24),
    "groups": ("clean", 80),
    "near_ood": ("near_ood", 24),
    "far_ood": ("far_ood", 24),
    "cue_conflict": ("cue_conflict", 24),
    "factors": ("factor-pose", 80),
    "retrieval": ("captioned", 16),
    "compositional": ("compositional", 16),
    "typographic": ("written", 24),
    "unlabelled": ("far_ood", 8),
}


def save_pictures(data: EmbeddedDataset, folder: Path, names: Sequence[str]) -> None:
    """Write the samples' pictures as PNG files of these names below a folder."""
    for start in range(0, len(names), 32):
        rows = range(start, min(start + 32, len(names)))
        for row, picture in zip(rows, data.load(list(rows)).images, strict=True):
            path = folder / names[row]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path, compress_level=1)


def write_manifest(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_role(root: Path, role: str) -> str:
    """Write the data of a role below ``root``, and return its source, relative to ``root``."""
    name, count = SETS[role]
    data = EmbeddedDataset(name, profile="full", limit=count)
    if role in ("shift", "near_ood", "far_ood", "unlabelled"):
        # Folders of classes, or of whatever.
        inner = [data.class_names[label] if label >= 0 else "things" for label in data.labels]
        save_pictures(
            data,
            root / role,
            [f"{folder}/{id_}.png" for folder, id_ in zip(inner, data.ids, strict=True)],
        )
        return f"{'pictures' if role == 'unlabelled' else 'imagefolder'}:{role}"
    names = [f"{id_}.png" for id_ in data.ids]
    save_pictures(data, root / role, names)
    write_manifest(root / role / f"{role}.jsonl", [_row(data, row) for row in range(len(data))])
    return f"manifest:{role}/{role}.jsonl"


def _row(data: EmbeddedDataset, row: int) -> dict[str, Any]:
    label = data.labels[row]
    told: dict[str, Any] = {
        "id": data.ids[row],
        "image": f"{data.ids[row]}.png",
        "unit": data.units[row],
        "label": data.class_names[label] if label >= 0 else "",
    }
    told |= {
        column: values[row]
        for column, values in data.groups.items()
        if column in ("style", "factor", "shape_label", "texture_label", "written_label", "pair")
    }
    if data.captions:
        told["caption"] = list(data.captions[row])
    if data.choices and data.choices[row]:
        first = data.choices[row][0]
        told |= {
            "caption": [first.true, *told.get("caption", [])],
            "negative_caption": list(first.false),
            "kind": first.kind,
        }
    return told


def write_roles(root: Path, roles: Sequence[str] = tuple(SETS)) -> Path:
    """Write the data of roles below ``root`` and a TOML file that names them, and return this."""
    sources = {role: write_role(root, role) for role in roles}
    lines = [f'{role} = "{source}"' for role, source in sources.items() if role != "clean"]
    classes = EmbeddedDataset("clean", profile="quick", limit=1)
    texts = zip(classes.class_names, classes.phrases, strict=True)
    path = root / "data.toml"
    path.write_text(
        "\n".join(
            [
                *("[data]", *lines, "[data.clean]", f'source = "{sources["clean"]}"'),
                f"templates = {json.dumps(list(classes.templates))}",
                *("[data.clean.classes]", *(f'"{name}" = "{text}"' for name, text in texts)),
            ]
        ),
        encoding="utf-8",
    )
    return path
