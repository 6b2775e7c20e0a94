"""What is said of two things side by side is true of the picture, and what is called false is not."""

from __future__ import annotations

import colorsys
import re
from collections import Counter
from dataclasses import replace

import pytest
import torch

from pytest_cliprobust.datasets import embedded
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.embedded import composer, sprites
from pytest_cliprobust.embedded.two_things import KINDS, Thing, choices_of, relations, shuffled

ANT = Thing("an", "ant", "red")
SKIS = Thing("a pair of", "skis", "blue")
OWL = Thing("an", "owl")


@pytest.fixture(scope="module")
def data() -> EmbeddedDataset:
    return EmbeddedDataset("compositional", profile="full", size=96)


def test_articles() -> None:
    assert (ANT.named, SKIS.named) == ("an ant", "a pair of skis")
    assert (ANT.coloured("red"), SKIS.coloured("blue")) == ("a red ant", "a pair of blue skis")
    assert relations(ANT, SKIS) == (
        "an ant to the left of a pair of skis",
        "a pair of skis to the right of an ant",
    )


def test_each_kind_is_wrong_in_its_own_way() -> None:
    by_kind = {choice.kind: choice for choice in choices_of("p", ANT, SKIS, OWL)}
    assert tuple(by_kind) == KINDS
    for kind in ("relation", "swap", "attribute", "order"):
        choice = by_kind[kind]
        (false,) = choice.false
        assert false != choice.true
        words = [sorted(re.findall(r"[a-z]+", text)) for text in (choice.true, false)]
        if kind == "relation":  # one word for another
            assert len(set(words[0]) ^ set(words[1])) == 2
        else:
            assert Counter(w for w in words[0] if w not in ("a", "an")) == Counter(
                w for w in words[1] if w not in ("a", "an")
            )
    assert "owl" in by_kind["object"].false[0]
    assert "owl" not in by_kind["object"].true
    assert "no owl" in by_kind["negation"].true
    assert "owl" not in by_kind["negation"].false[0]


def test_what_is_true_of_one_picture_of_a_pair_is_false_of_the_other(data: EmbeddedDataset) -> None:
    """So a model that does not look at the picture has half of these right, exactly."""
    for row in range(0, len(data), 2):
        one, other = data.choices[row], data.choices[row + 1]
        for kind in ("relation", "swap", "attribute"):
            place = KINDS.index(kind)
            assert one[place].true == other[place].false[0]
            assert one[place].false == (other[place].true,)


def test_no_two_classes_come_together_twice(data: EmbeddedDataset) -> None:
    pairs = [
        frozenset(both)
        for both in zip(data.groups["class"][::2], data.groups["second"][::2], strict=True)
    ]
    assert len(set(pairs)) == len(pairs)
    assert all(len(pair) == 2 for pair in pairs)
    for row, own in enumerate(data.choices):
        absent = re.search(r"no (.*?)( in the scene)?\.", own[KINDS.index("negation")].true)
        assert absent is not None
        shown = {data.groups["class"][row], data.groups["second"][row]}
        by_label = {c.label: c.name for c in sprites.load_label_classes()}
        assert by_label[absent.group(1)] not in shown
    # A picture of two drawings stands and falls with both: the two pictures of a pair are one unit.
    assert data.units[0] == data.units[1] != data.units[2]
    assert data.unit == "pair"


def test_captions_name_one_picture_each(data: EmbeddedDataset) -> None:
    every = [caption for own in data.captions for caption in own]
    assert len(set(every)) == len(every)
    assert {len(own) for own in data.captions} == {5}


@pytest.mark.parametrize("row", range(0, 40, 3))
def test_the_picture_shows_it(data: EmbeddedDataset, row: int) -> None:
    """The left thing is left, the right one right, both inside the frame, apart, in their colours."""
    recipe = data._recipes[row]
    assert isinstance(recipe, embedded._TwoThings)
    scene = data._scene(recipe)
    left, right = scene.objects
    windows = []
    for item in (left, right):
        x, y = zip(*(scene.camera.project(corner)[:2] for corner in item.corners()), strict=True)
        assert min(*x, *y) >= 0.0
        assert max(*x, *y) <= 96.0
        windows.append((min(x), max(x)))
    assert windows[0][1] < windows[1][0]
    picture = data.load([row]).images[0]
    mask = data.load([row]).mask
    assert mask is not None
    assert mask[0, 0, :, 48:].sum() == 0  # the main thing is the left one, wholly in its half
    bare = composer.compose(replace(scene, objects=()), scene.camera).image
    changed = (picture.int() - bare.int()).abs().sum(0) > 90
    for half, tint in ((slice(0, 48), recipe.tints[0]), (slice(48, 96), recipe.tints[1])):
        pixels = picture[:, :, half][:, changed[:, half]].T.double() / 255.0
        hues = torch.tensor([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels.tolist()])
        away = (hues - composer.TINTS[tint]).abs()
        assert float(torch.minimum(away, 1.0 - away).median()) < 0.05


def test_colours_are_said_of_the_things_that_have_them(data: EmbeddedDataset) -> None:
    for row in range(20):
        recipe = data._recipes[row]
        assert isinstance(recipe, embedded._TwoThings)
        left, right, _ = embedded._things(recipe)
        true = data.choices[row][KINDS.index("attribute")].true
        assert f"{recipe.tints[0]} {left.label}" in true
        assert f"{recipe.tints[1]} {right.label}" in true


def test_words_in_another_order() -> None:
    for number in range(50):
        mixed = shuffled("one two.", f"s{number}")
        assert mixed == "two one."
    assert sorted(shuffled("a b c d", "s").split()) == list("abcd")
    assert shuffled("a b c d", "s") == shuffled("a b c d", "s")
    with pytest.raises(ValueError, match="one order only"):
        shuffled("so so so.", "s")


def test_samples_are_known_by_their_captions_too(
    data: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are compared on equal samples only: another caption is another sample, of the same picture."""
    monkeypatch.setattr(
        embedded, "captions_of", lambda pair, left, right: (f"{left.named} there.",)
    )
    other = EmbeddedDataset("compositional", profile="full", size=96)
    assert other.sample_keys == data.sample_keys
    assert not set(other.sample_digests) & set(data.sample_digests)
