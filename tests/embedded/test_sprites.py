"""The embedded benchmark's sprites: complete, well cut, attributed, and free of leaks."""

from __future__ import annotations

import csv
import hashlib
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_cliprobust.embedded import sprites

EMBEDDED = Path(sprites.__file__).parent
DATA = EMBEDDED / "data"
HELD_OUT = {style.name for style in sprites.load_styles() if style.split == "held-out"}
TRAINED_STYLES = {style.name for style in sprites.load_styles() if style.split == "train"}
LABELS = [item.name for item in sprites.load_label_classes()]
NEAR = [item.name for item in sprites.near_ood_classes()]
FAR = list(sprites.far_ood_names())


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    tables: dict[str, Any] = tomllib.loads((EMBEDDED / "classes.toml").read_text())
    return tables


@pytest.fixture(scope="module")
def provenance() -> list[dict[str, str]]:
    with (DATA / "provenance.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_there_are_enough_classes_and_drawings() -> None:
    assert 110 <= len(LABELS) <= 135
    assert len(NEAR) >= 36
    assert len(FAR) * len(HELD_OUT) >= 100
    assert len(sprites.clipart_names()) >= 80
    assert sum(len(sprites.clipart(name)) for name in sprites.clipart_names()) >= 200
    assert [item.index for item in sprites.load_label_classes()] == list(range(len(LABELS)))


def test_every_label_is_drawn_in_both_held_out_and_at_least_four_training_styles() -> None:
    assert {"noto", "twemoji"} == HELD_OUT
    assert len(TRAINED_STYLES) == 8
    for name in LABELS:
        assert all(sprites.has_sprite(style, name) for style in HELD_OUT), name
        assert sum(sprites.has_sprite(style, name) for style in TRAINED_STYLES) >= 4, name


def test_every_out_of_distribution_thing_is_drawn_in_the_held_out_styles() -> None:
    for style in HELD_OUT:
        for name in NEAR:
            assert sprites.near_ood_sprite(style, name).shape[2] == 4
        for name in FAR:
            assert sprites.far_ood_sprite(style, name).shape[2] == 4


def test_nothing_out_of_distribution_was_trained_on(tables: dict[str, Any]) -> None:
    trained = set(LABELS) | set(sprites.training_only_names())
    assert not trained & (set(NEAR) | set(FAR) | set(tables["excluded"]))
    assert len(trained) == len(LABELS) + len(sprites.training_only_names())
    assert not set(NEAR) & set(FAR)
    nouns = {item.label for item in sprites.load_label_classes()}
    nouns |= {
        tables["training_only"]["nouns"].get(name, name.replace("-", " "))
        for name in sprites.training_only_names()
    }
    assert not nouns & {item.label for item in sprites.near_ood_classes()}
    # near means: of the same super-categories
    assert {item.category for item in sprites.near_ood_classes()} <= {
        item.category for item in sprites.load_label_classes()
    }


def test_nouns_are_unique() -> None:
    nouns = [item.label for item in sprites.load_label_classes() + sprites.near_ood_classes()]
    assert len(set(nouns)) == len(nouns)


def test_tables_name_only_things_that_exist(tables: dict[str, Any]) -> None:
    training = tables["training_only"]
    assert set(training["nouns"]) <= set(training["names"])
    assert set(training["articles"]) <= set(training["names"])
    assert set(tables["icons"]) | set(tables["skip"]) <= HELD_OUT | TRAINED_STYLES


def every_entry() -> list[tuple[str, str]]:
    return [
        (path.stem, entry)
        for path in sorted((DATA / "sprites").glob("*.zip"))
        for entry in zipfile.ZipFile(path).namelist()
    ]


@pytest.mark.slow
def test_each_sprite_is_cut_out_and_fills_its_box() -> None:
    def faults(archive: str, entry: str) -> list[str]:
        pixels = sprites._load(archive, entry)
        alpha = pixels[..., 3]
        edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
        checks = {
            "dtype": pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 4,
            "size": 222 <= max(pixels.shape[:2]) <= 224 and min(pixels.shape[:2]) >= 16,
            "opaque": alpha.max() >= 250 and (alpha >= 128).mean() > 0.04,
            "touches the edges": all(edge.any() for edge in edges),
            # far-OOD symbols may be plain squares
            "transparent": archive == "far_ood" or alpha.min() == 0,
            "read-only": not pixels.flags.writeable,
        }
        return [f"{archive}/{entry}: {what}" for what, fine in checks.items() if not fine]

    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda pair: faults(*pair), every_entry())
    assert not [fault for faulty in found for fault in faulty]


def test_provenance_names_every_sprite_with_its_digest(provenance: list[dict[str, str]]) -> None:
    by_entry = {row["entry"]: row for row in provenance}
    assert len(by_entry) == len(provenance)
    assert set(by_entry) == {f"sprites/{archive}.zip/{entry}" for archive, entry in every_entry()}
    for path in sorted((DATA / "sprites").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                row = by_entry[f"sprites/{path.name}/{entry}"]
                assert hashlib.sha256(archive.read(entry)).hexdigest() == row["sha256"]
    assert all(all(row.values()) for row in provenance)
    assert {row["licence"] for row in provenance} <= {"Apache-2.0", "MIT", "CC-BY-4.0", "CC-PDDC"}


def test_only_held_out_styles_show_out_of_distribution_things(
    provenance: list[dict[str, str]],
) -> None:
    for row in provenance:
        if "_ood.zip" in row["entry"]:
            assert row["style"] in HELD_OUT
    styles = {style.name: style for style in sprites.load_styles()}
    for row in provenance:
        if row["style"] != "clipart":
            style = styles[row["style"]]
            assert (row["package"], row["version"]) == (style.package, style.version)
            assert row["licence"] == style.licence


def test_licences_ship() -> None:
    table = tomllib.loads((EMBEDDED / "styles.toml").read_text())["style"]
    for style in table.values():
        assert (DATA / "licenses" / style["licence_file"]).stat().st_size > 500
    notice = (DATA / "NOTICE.md").read_text(encoding="utf-8")
    for archive in (DATA / "sprites").glob("*.zip"):
        assert archive.name in notice


def test_data_stays_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 44 * 2**20
    assert sum(path.stat().st_size for path in (DATA / "sprites").iterdir()) < 11 * 2**20


def test_archives_are_reproducible() -> None:
    for path in (DATA / "sprites").glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        assert [info.filename for info in infos] == sorted(info.filename for info in infos)
        assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}


def test_a_slip_of_the_pen_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(sprites.UnknownSpriteError, match="Did you mean 'elephant'"):
        sprites.sprite("noto", "elefant")
    with pytest.raises(KeyError, match="Did you mean 'twemoji'"):
        sprites.sprite("twemogi", "elephant")
    with pytest.raises(sprites.UnknownSpriteError, match="Did you mean 'giraffe'"):
        sprites.near_ood_sprite("noto", "girafe")
    with pytest.raises(sprites.UnknownSpriteError, match="no drawing style 'fxemoji' here"):
        sprites.far_ood_sprite("fxemoji", "warning")
    with pytest.raises(sprites.UnknownSpriteError, match="Did you mean 'violin'"):
        sprites.clipart("violine")


def test_sprites_are_cached_and_the_digest_is_stable() -> None:
    assert sprites.sprite("noto", "elephant") is sprites.sprite("noto", "elephant")
    assert len(sprites.digest()) == 64
