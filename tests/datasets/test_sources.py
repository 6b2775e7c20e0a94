"""What --clip-data says: every form of it, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.datasets.sources import (
    Settings,
    Source,
    parse_source,
    read_sources,
    read_table,
)
from pytest_cliprobust.errors import ClipRobustError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("photos", ("", None, "imagefolder", "photos")),
        ("/data/photos", ("", None, "imagefolder", "/data/photos")),
        ("shift=/data/r", ("shift", None, "imagefolder", "/data/r")),
        ("imagenet-r:/data/r", ("", None, "imagenet-r", "/data/r")),
        ("shift=imagenet-r:/data/r", ("shift", None, "imagenet-r", "/data/r")),
        ("shift=mine=imagenet-r:/data/r", ("shift", "mine", "imagenet-r", "/data/r")),
        ("mine=/data/r", ("", "mine", "imagefolder", "/data/r")),
        ("clean=embedded:clean", ("clean", None, "embedded", "clean")),
        ("./a=b:c", ("", None, "imagefolder", "./a=b:c")),
        ("/data/a:b", ("", None, "imagefolder", "/data/a:b")),
    ],
)
def test_forms(text: str, found: tuple[str, str | None, str, str]) -> None:
    source = parse_source(text)
    assert (source.role, source.name, source.layout, source.path) == found
    assert source.text == text


def test_what_lies_there_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("shift=x", "wds:y"):
        (tmp_path / name).mkdir()
        source = parse_source(name)
        assert (source.role, source.layout, source.path) == ("", "imagefolder", name)


def test_variables_and_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATA", "/disk")
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_source("far_ood=$DATA/dtd").path == "/disk/dtd"
    assert parse_source("textures:${DATA}/dtd").path == "/disk/dtd"
    assert parse_source("~/photos").path == "/home/me/photos"
    assert parse_source("photos", tmp_path).path == str(tmp_path / "photos")
    assert parse_source("$DATA/photos", tmp_path).path == "/disk/photos"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shift=", "write shift=LAYOUT:PATH"),
        ("=x", "write NAME=PATH"),
        ("far-ood=/x", "'far-ood' is nearly the role 'far_ood'"),
        ("farood=/x", "is nearly the role 'far_ood'"),
        ("a b=/x", "'a b' is none"),
        ("wds:", "names no folder; write wds:PATH"),
        ("far_ood=embedded", "one of its data sets is far_ood=embedded:NAME"),
        ("shift=wds:", "names no folder"),
        ("shift=$NOWHERE_SET/x", "variable NOWHERE_SET is not set"),
        ("shift=${NOWHERE_SET}/x", "variable NOWHERE_SET is not set"),
    ],
)
def test_mistakes(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE_SET", raising=False)
    with pytest.raises(ClipRobustError) as caught:
        parse_source(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        source = parse_source(text)
    except ClipRobustError:
        return
    assert source.role in {"", *ROLES}
    assert source.path


def test_names_are_never_paths() -> None:
    assert parse_source("shift=/a/b/photos").label == "imagefolder:photos"
    assert parse_source("manifest:/a/b/table.jsonl").label == "manifest:table"
    assert parse_source("x=manifest:/a/b/table.csv").label == "manifest:x"


def test_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("# mine\na photo of a {c}.\n\n{}\n", encoding="utf-8")
    path = tmp_path / "data.toml"
    path.write_text(
        """
        [data]
        clean = "photos"
        far_ood = ["textures:dtd", {source = "mine=/abs/x", labels = ["a", "b"]}]
        [data.shift]
        source = "sketch"
        templates = "prompts.txt"
        units = "scene"
        [data.shift.classes]
        cat = ["a cat", "a kitten"]
        dog = "a dog"
        """,
        encoding="utf-8",
    )
    clean, textures, mine, shift = read_sources([str(path)])
    assert clean == Source(
        "clean=photos", "clean", None, "imagefolder", str(tmp_path / "photos"), Settings()
    )
    assert (textures.role, textures.layout) == ("far_ood", "textures")
    assert (mine.name, mine.path, mine.settings.labels) == ("mine", "/abs/x", ("a", "b"))
    assert shift.settings.templates == ("a photo of a {}.", "{}")
    assert shift.settings.units == "scene"
    assert shift.settings.classes == {"cat": ("a cat", "a kitten"), "dog": ("a dog",)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "has no table [data]"),
        ("[data]\nfar_odd = 'x'", "Did you mean 'far_ood'"),
        ("[data]\nclean = 3", "must be"),
        ("[data.clean]\nsource = 'x'\ntemplate = ['{}']", "Did you mean 'templates'"),
        ("[data.clean]\nsource = 'x'\ntemplates = ['a photo']", "no place for the class"),
        ("[data.clean]\nsource = 'x'\nlabels = 'a'", "labels must be a list"),
        ("[data.clean]\nsource = 'x'\nunits = 3", "units must be"),
        ("[data.clean]\nsource = 'x'\nclasses = ['a']", "classes must be a table"),
        ("[data.clean]\nsource = 'x'\n[data.clean.classes]\ncat = []", "has no text"),
        ("[data", "cannot be read"),
    ],
)
def test_mistakes_in_a_toml_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "data.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ClipRobustError) as caught:
        read_table(path)
    assert words in str(caught.value)


def test_a_toml_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match="cannot be read"):
        read_sources([str(tmp_path / "data.toml")])
