"""Fonts for class names, held against the fonts' own tables as fontTools reads them."""

from __future__ import annotations

import importlib.resources
import shutil
import unicodedata
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import features

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.perturbations import lettering
from pytest_cliprobust.perturbations.typographic import render_text

DEJAVU = Path(
    str(importlib.resources.files("matplotlib") / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")
)
COVERED = TTFont(DEJAVU).getBestCmap()


#: Letters that no font draws.
FILLERS = "\u115f\u1160\u3164\uffa0"


@given(st.characters(categories=["L", "N", "P", "S"], exclude_characters=FILLERS))
@example("é")
@example("к")
@example("猫")
@example("ß")
def test_a_letter_is_lacking_where_the_fonts_table_has_none(letter: str) -> None:
    # What is made of other letters may be drawn as those.
    assume(not unicodedata.decomposition(letter))
    lacking = lettering.lacking_letters(letter, str(DEJAVU))
    # Two glyphs may look alike, never a letter and what stands for none.
    assert lacking == ("" if ord(letter) in COVERED else letter)


def test_the_first_font_with_all_letters_is_taken() -> None:
    assert lettering.font_for(["cat", "dog's tail"]) is None
    assert lettering.font_for(["cat", "кошка"]) == DEJAVU
    assert lettering.font_for(["άλφα"]) == DEJAVU
    with pytest.raises(NotRun, match=r"has no 犬 \(U\+72AC\), 猫 \(U\+732B\); .*--clip-font FILE"):
        lettering.font_for(["cat", "猫", "犬"])
    with pytest.raises(NotRun, match="and 1 more letters"):
        lettering.font_for(["一二三四五六"])


def test_five_letters_are_named_and_the_others_counted() -> None:
    for letters, told in (
        ("一", r"has no 一 \(U\+4E00\); give"),
        ("一丁丂七丄", r"has no 一 [^;]*, 丄 \(U\+4E04\); give"),
        ("一丁丂七丄丅丆", r"has no 一 [^;]*, 丄 \(U\+4E04\) and 2 more letters; give"),
    ):
        with pytest.raises(NotRun, match=told):
            lettering.font_for([letters])


@pytest.mark.parametrize("found", ["nothing", "no file", "no font"])
def test_without_matplotlib_there_is_pillow_s_font_alone(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {
        "nothing": None,
        "no file": ModuleSpec("matplotlib", None, origin=None),
        "no font": ModuleSpec("matplotlib", None, origin=str(tmp_path / "__init__.py")),
    }[found]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert lettering.font_for(["cat"]) is None
    with pytest.raises(NotRun, match="a bundled font has no"):
        lettering.font_for(["кошка"])


def test_marks_that_sit_on_letters_must_be_joined_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    # A Hebrew letter, an Arabic one, a sign above and one beside its letter.
    for letter in ("\u05d0", "\u0642", "\u0301", "\u093e"):
        with pytest.raises(NotRun, match=f"U\\+{ord(letter):04X}"):
            lettering.font_for([f"a{letter}"])


def test_a_font_that_is_given_must_have_the_letters(tmp_path: Path) -> None:
    mine = tmp_path / "mine.ttf"
    shutil.copy(DEJAVU, mine)
    assert lettering.font_for(["cat"], mine) == mine
    with pytest.raises(NotRun, match=r"the font .*mine\.ttf has no 猫"):
        lettering.font_for(["猫"], mine)
    assert lettering.identity(mine) == lettering.identity(DEJAVU)
    for content, words in ((b"nothing", "give a .ttf or .otf file"), (None, "check the path")):
        mine.unlink()
        if content:
            mine.write_bytes(content)
            lettering.lacking_letters.cache_clear()
        with pytest.raises(ClipRobustError, match=words):
            lettering.face(20, str(mine))
        mine.write_bytes(b"")
    with pytest.raises(ClipRobustError, match="is a folder"):
        lettering.face(20, str(tmp_path))


def test_letters_that_must_be_joined_want_the_library_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "check", lambda name: True)
    assert lettering.font_for(["قطة"]) == DEJAVU
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(NotRun, match="must be joined to their neighbours"):
        lettering.font_for(["قطة"])
    assert lettering.font_for(["cat"]) is None


def test_what_is_written_differs_from_word_to_word() -> None:
    names = ["кошка", "собака"]
    first, second = render_text(names, font=lettering.font_for(names))
    boxes = render_text(names)
    assert not torch.equal(first, second)
    assert not torch.equal(first, boxes[0])
