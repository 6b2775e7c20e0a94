"""Conditions: the names that bounds select, what messages say, and data that comes back the same."""

from __future__ import annotations

import json

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition, Step, against, together

CLEAN = Condition("clean")
FOG = Condition("clean", (Step("fog_3d", 3),))
TURNED = Condition("clean", (Step("rotation", None, (("degrees", 12.5),)),))
CHAIN = Condition("clean", (Step("kornia:RandomGrayscale"), Step("fog_3d", 3)))
STRONGER = Condition("clean", (Step("fog_3d", 3, (("density", 0.25), ("glow", 2.0))),))


@pytest.mark.parametrize(
    ("condition", "perturbation", "severity", "text"),
    [
        (CLEAN, "clean", None, "clean"),
        (FOG, "fog_3d", 3, "clean, fog_3d at severity 3"),
        (Condition("sketch", (Step("rotation"),)), "rotation", None, "sketch, rotation"),
        (TURNED, "rotation(degrees=12.5)", None, "clean, rotation(degrees=12.5)"),
        (STRONGER, "fog_3d(density=0.25,glow=2)@3", None, "clean, fog_3d(density=0.25,glow=2)@3"),
        (CHAIN, "kornia:RandomGrayscale+fog_3d@3", None, "clean, kornia:RandomGrayscale+fog_3d@3"),
        (Condition("clean", (Step("fog_3d", 3),), label="apgd"), "apgd", None, "clean, apgd"),
    ],
    ids=str,
)
def test_what_bounds_select_and_messages_say(
    condition: Condition, perturbation: str, severity: int | None, text: str
) -> None:
    assert (condition.perturbation, condition.severity) == (perturbation, severity)
    assert str(condition) == text


@pytest.mark.parametrize(
    "condition",
    [
        CLEAN,
        CHAIN,
        STRONGER,
        Condition("clean", (Step("fog_3d", 0),), limit=0),
        FOG.part("noto"),
        together([FOG, Condition("clean", (Step("fog_3d", 5),), limit=7)]),
        together([CLEAN.part("noto"), FOG.part("noto")], "all_mine"),
    ],
    ids=str,
)
def test_a_condition_comes_back_as_it_was(condition: Condition) -> None:
    written = json.loads(json.dumps(condition.as_dict()))
    assert Condition.from_dict(written) == condition
    assert set(Condition("clean").as_dict()) == {"dataset"}


def test_a_part_knows_its_whole() -> None:
    part = Condition("clean", FOG.steps, limit=5).part("noto")
    assert part == Condition("clean:noto", FOG.steps, limit=5, part_of="clean")


def test_a_change_of_the_texts_is_named_after_what_was_done_to_the_pictures() -> None:
    told = [
        (CLEAN, "caption_typos"),
        (FOG, "fog_3d@3+caption_typos"),
        (TURNED, "rotation(degrees=12.5)+caption_typos"),
        (CHAIN, "kornia:RandomGrayscale+fog_3d@3+caption_typos"),
        (Condition("clean", FOG.steps, label="apgd"), "apgd+caption_typos"),
    ]
    for condition, name in told:
        changed = condition.in_other_words("caption_typos")
        assert (changed.perturbation, changed.severity) == (name, None)
        assert (changed.dataset, changed.steps) == (condition.dataset, condition.steps)


def test_a_perturbed_reference_is_named() -> None:
    worse = Condition("clean", (Step("fog_3d", 5),))
    assert against(worse, CLEAN) is worse
    named = against(worse, FOG)
    assert named.perturbation == "fog_3d@5-from-fog_3d@3"
    assert named.over == (FOG, worse)
    assert against(CLEAN, TURNED).perturbation == "clean-from-rotation(degrees=12.5)"


def test_what_is_over_several_conditions() -> None:
    fives = Condition("clean", (Step("fog_3d", 5),), limit=9)
    few = Condition("clean", (Step("fog_3d", 4),), limit=4)
    over = together([FOG, fives, few])
    assert (over.dataset, over.perturbation, over.severity) == ("clean", "fog_3d", None)
    assert (over.limit, over.over) == (4, (FOG, fives, few))
    assert together([FOG]).limit is None
    assert together([CLEAN, FOG], "all_mine").perturbation == "all_mine"
    assert together([FOG.part("noto")]).part_of == "clean"
    with pytest.raises(ClipRobustError, match="needs at least one"):
        together([])
    with pytest.raises(ClipRobustError, match="data sets clean and sketch: measure each apart"):
        together([FOG, Condition("sketch", FOG.steps)], "all_mine")
    with pytest.raises(
        ClipRobustError, match=r"over 2 perturbations \(clean, fog_3d\) needs a name"
    ):
        together([CLEAN, FOG])
