"""Captions said otherwise: what changes and what stays, and what retrieval loses by it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from captioned import told
from hypothesis import given
from hypothesis import strategies as st

from pytest_cliprobust.embedded.captions import CAPTION_TEMPLATES, TRAINING_TEMPLATES
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.properties import captions, retrieval

WORDS = st.lists(st.text("abcdefghij", min_size=1, max_size=9), min_size=1, max_size=8)


def distance(one: str, other: str) -> int:
    """Return the least number of letters put in, taken out, replaced or exchanged (Damerau 1964)."""
    table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
    table[:, 0], table[0] = range(len(one) + 1), range(len(other) + 1)
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            best = min(
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (one[i - 1] != other[j - 1]),
            )
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                best = min(best, table[i - 2, j - 2] + 1)
            table[i, j] = best
    return int(table[-1, -1])


@given(WORDS, st.text(max_size=5))
def test_a_typing_mistake_changes_one_letter_of_one_word(words: list[str], name: str) -> None:
    caption = " ".join(words) + "."
    changed = captions.with_typos(caption, name)
    assert changed == captions.with_typos(caption, name)
    if all(len(word) < 2 for word in words):
        assert changed == caption
        return
    assert distance(caption, changed) == 1
    differ = [
        (old, new) for old, new in zip(words, changed[:-1].split(), strict=True) if old != new
    ]
    ((old, new),) = differ
    assert old[0] == new[0]
    assert len(old) >= captions.SHORTEST or max(map(len, words)) < captions.SHORTEST


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_class_names_are_mistyped_inside_their_phrases(words: list[list[str]]) -> None:
    names = [" ".join(own) for own in words]
    changed = captions.mistyped_phrases([f"xx {name} yy" for name in names], names)
    assert changed == tuple(f"xx {captions.with_typos(name, name)} yy" for name in names)
    # A phrase that does not hold the name: the mistake is anywhere in it.
    other = captions.mistyped_phrases(["the striped predator"], ["tiger"])
    assert distance("the striped predator", other[0]) == 1
    # Equal names stay equal, and as many phrases as names are needed.
    crane, again = captions.mistyped_phrases(["a crane", "a crane"], ["crane", "crane"])
    assert crane == again != "a crane"
    with pytest.raises(ValueError, match="zip"):
        captions.mistyped_phrases(["a crane"], [])


def test_several_mistakes_are_in_several_words() -> None:
    caption = "three yellow elephants sleep under bridges"
    for count in range(7):
        changed = captions.with_typos(caption, "x", count)
        pairs = zip(caption.split(), changed.split(), strict=True)
        assert sum(old != new for old, new in pairs) == count
    assert len({captions.with_typos(caption, str(i)) for i in range(40)}) > 20


def test_every_kind_of_mistake_is_made() -> None:
    made = {captions.with_typos("horse", str(i)) for i in range(300)}
    assert {"hore", "horrse", "hosre", "hirse", "hpse"} & made
    assert "hors" in made  # left out
    assert "hoorse" in made  # doubled
    assert "hrose" in made  # exchanged
    assert {"hprse", "hirse"} & made  # hit beside


def test_short_words_stay_words_and_keys_at_the_edge_have_neighbours() -> None:
    made = {captions.with_typos("ow", str(i)) for i in range(200)}
    assert {"oww", "oq", "oe"} <= made
    assert min(map(len, made)) == 2
    assert "xo" in {captions.with_typos("xp", str(i)) for i in range(200)}
    # More mistakes than words: some are in words that have one.
    assert len(captions.with_typos("an", "x", 6)) >= 2


@pytest.mark.parametrize(
    ("word", "made"),
    [
        # Of each kind; then those that change nothing at their place, so that the next kind is made: no
        # letter is left out of two, the last is exchanged with none, and two alike stay as they are.
        ("elephant", {0: "elephannt", 1: "eephant", 2: "elepjant", 4: "elpehant", 48: "elephanr"}),
        ("Zebra", {1: "Zera", 2: "Zebrs", 4: "Zerba", 30: "Zebrs"}),
        ("moon", {0: "mooon", 1: "mon", 2: "mopn", 6: "mono", 4: "mpon"}),
        ("ow", {0: "oww", 1: "oww", 2: "oe", 4: "oe"}),
    ],
)
def test_a_mistake_is_the_same_in_every_run_and_version(word: str, made: dict[int, str]) -> None:
    # Another one would be another figure, and no change of the model.
    assert {name: captions.with_typos(word, str(name)) for name in made} == made


def test_letters_of_no_keyboard_are_mistyped_otherwise() -> None:
    for word in ("日本語文字", "ёжик"):
        made = {captions.with_typos(word, str(i)) for i in range(60)}
        assert {distance(word, other) for other in made} == {1}
        assert len(made) > 6


def test_a_paraphrase_is_the_same_in_every_run_and_version() -> None:
    assert [captions.paraphrased("A photo of the Eiffel Tower", str(i)) for i in (7, 1, 0, 2)] == [
        "this picture shows the Eiffel Tower",
        "what can be seen here is the Eiffel Tower",
        "the Eiffel Tower, in a picture",
        "we see the Eiffel Tower",
    ]
    # With a full stop where there was one, without what stands around it.
    assert captions.paraphrased("Two dogs run on grass.", "0") == (
        "two dogs run on grass, in a picture."
    )
    assert captions.paraphrased(" there are three cats in the scene. ", "1") == (
        "what can be seen here is three cats."
    )
    assert captions.paraphrased("TV on a table", "7") == "this picture shows TV on a table"
    assert captions.paraphrased("a drawing of ", "7") == "this picture shows a drawing of"


@pytest.mark.parametrize("template", sorted({*CAPTION_TEMPLATES, *TRAINING_TEMPLATES}))
def test_a_paraphrase_keeps_what_is_shown(template: str) -> None:
    for name in map(str, range(12)):
        caption = template.replace("{}", "an ant to the left of a pair of skis")
        said = captions.paraphrased(caption, name)
        assert "an ant to the left of a pair of skis" in said
        assert said != caption
        assert said.endswith(".")
        assert not re.search(r"drawing|icon|cartoon|clip art|sketch|illustration", said)


def test_paraphrases_of_peoples_captions() -> None:
    texts = {
        "Two dogs run on grass .": "two dogs run on grass",
        "A photo of the Eiffel Tower": "the Eiffel Tower",
        "TV on a table": "TV on a table",
        "There are three cats.": "three cats",
        "a black and white photo of a man": "a man",
        "a drawing of ": "a drawing of",
    }
    for caption, shown in texts.items():
        assert shown in captions.paraphrased(caption, "x")


@given(st.text(max_size=30), st.text(max_size=4))
def test_any_caption_can_be_changed(caption: str, name: str) -> None:
    for change in captions.CHANGES.values():
        assert isinstance(change(caption, name), str)


def test_the_drop_is_of_the_captions_that_found_their_image() -> None:
    names = [f"animal{word}" for word in ("alpha", "bravo", "delta", "gamma")]
    texts = dict(zip(names, np.eye(4), strict=True))
    own = tuple((name,) for name in names)
    samples = told(np.eye(4), texts, captions=own)
    keys = retrieval.caption_keys(samples.bootstrap.keys, np.arange(4)).ids
    # Misspelt, the first two still mean the same, the others something else.
    for place, (name, key) in enumerate(zip(names, keys, strict=True)):
        wrong = captions.with_typos(name, key)
        assert wrong != name
        texts[wrong] = np.eye(4)[place if place < 2 else 3 - place]
    found = captions.caption_drop(samples, "caption_typos")
    assert found.value == 0.5
    assert (found.details["lost"], found.details["gained"]) == (2, 0)
    assert found.n == 4
    assert found.condition == Condition("mine", label="caption_typos")
    assert found.condition.perturbation == "caption_typos"
    # What was done to the pictures stays in the name.
    noisy = replace(samples, condition=Condition("mine", (Step("fog_3d", 3),)))
    under = captions.caption_drop(noisy, "caption_typos").condition
    assert under is not None
    assert under.perturbation == "fog_3d@3+caption_typos"
    assert under.severity is None
