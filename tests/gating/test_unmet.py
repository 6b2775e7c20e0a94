"""Why a bound met no figure: what was measured instead, which names are slips, which data is other data."""

from __future__ import annotations

from typing import Any

import pytest
from gating_helpers import HEAD, block, measure

from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.rules import Rule
from pytest_cliprobust.gating.unmet import (
    Declared,
    is_for_other_data,
    is_in_another_profile,
    mentions,
    names_of,
    reason,
    slip_of_a_model,
)


def rule(**selector: Any) -> Rule:
    return parse_thresholds(HEAD + block(selector), "t.toml").rules[0]


RUN = [
    measure(perturbation="fog_3d", severity=3),
    measure(dataset="sketch"),
    measure("nll", suite="likelihood", dataset="sketch"),
    measure(perturbation="fog_3d", severity=1),
]


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ({}, ""),
        ({"dataset": "sketch"}, ""),
        ({"dataset": ["none", "sketch"]}, ""),
        # What was measured on other data, or of other metrics, does not count for the next field.
        (
            {"dataset": "scetch"},
            "suite calibration was measured on the data sets clean, sketch. Did you mean 'sketch'?",
        ),
        ({"dataset": "s[ck]*x"}, "suite calibration was measured on the data sets clean, sketch."),
        ({"dataset": "xyz"}, "suite calibration was measured on the data sets clean, sketch."),
        (
            {"dataset": "sketch", "perturbation": "fog_3d"},
            "suite calibration measured the perturbations clean.",
        ),
        (
            {"dataset": "clean", "perturbation": "fog"},
            "suite calibration measured the perturbations fog_3d. Did you mean 'fog_3d'?",
        ),
        ({"perturbation": "fog_3d", "severity": [2, 4]}, "measured were severities 1, 3"),
        ({"perturbation": "fog_3d", "severity": [1, 4]}, ""),
        ({"dataset": "sketch", "severity": 1}, "it was measured at no severity"),
    ],
)
def test_what_was_measured_instead(selector: dict[str, Any], said: str) -> None:
    assert reason(rule(**selector), RUN) == said


def test_a_suite_without_figures_and_one_of_other_metrics() -> None:
    assert reason(rule(), []) == "its suite measured nothing"
    brier = Rule(0, 1, "t.toml", {"metric": ("nl",)})
    assert reason(brier, RUN[:2]) == "suite calibration measures ece."
    assert reason(brier, RUN) == (
        "suite calibration or likelihood measures ece, nll. Did you mean 'nll'?"
    )


@pytest.mark.parametrize(("count", "more"), [(12, ""), (13, ", and 1 more"), (20, ", and 8 more")])
def test_a_dozen_names_are_listed(count: int, more: str) -> None:
    run = [measure(perturbation=f"p{number:02}") for number in range(count)]
    listed = ", ".join(f"p{number:02}" for number in range(12))
    assert reason(rule(perturbation="zzz"), run + run) == (
        f"suite calibration measured the perturbations {listed}{more}."
    )


@pytest.mark.parametrize(
    ("pattern", "slip"),
    [
        ("vit-b-32", "vit-b-32"),  # the architecture with its default weights
        ("ViT-B-32/laion2b_s34b_b97k", "ViT-B-32/laion2b_s34b_b97k"),
        ("ViT-B-3", None),
        ("ViT-L-14/laion2b_s34b_b79k", None),
        ("mine", "mine"),
        ("myne", None),  # known: a model of its own
        ("vit_b*", "vit_b*"),
        ("VlT-B-32*", "VlT-B-32*"),
        ("RN*", None),
    ],
)
def test_a_bound_for_nearly_the_tested_model(pattern: str, slip: str | None) -> None:
    tested = ["another", "ViT-B-32/laion2b_s34b_b79k", "minne"]
    wanted = tested[2] if pattern == "mine" else tested[1]
    said = "" if slip is None else f"the model under test is {wanted!r}, not {pattern!r}"
    assert slip_of_a_model(rule(model=pattern), tested, {"myne"}) == said
    # Any of a list may be the one.
    assert slip_of_a_model(rule(model=[pattern, "aaa"]), tested, {"myne"}) == said
    assert slip_of_a_model(rule(), tested, ()) == ""


OWN = ("clean", "near_ood")
PUBLISHED = ("imagenet", "objectnet")


def other(
    dataset: Any, *measured: str, replaced: bool = False, published: tuple[str, ...] = PUBLISHED
) -> bool:
    return is_for_other_data(
        rule(dataset=dataset), measured, OWN, replaced=replaced, published=published
    )


def test_a_bound_for_any_data_or_for_what_was_measured_is_for_this_run() -> None:
    assert not other(None, "clean")
    assert not other("clean", "clean")
    assert not other(["objectnet", "cl*"], "clean")
    assert not other("clean", "x", "clean", replaced=True)


def test_where_the_users_data_took_the_place_of_the_bundled_its_bounds_are_for_other_data() -> None:
    assert other("clean", "imagefolder:photos", replaced=True)
    assert other(["clean", "near_ood"], "imagefolder:photos", replaced=True)
    assert other("clean:part", "imagefolder:photos", replaced=True)
    assert not other("clean", "imagefolder:photos")
    # Each of a list must be; a name of nobody's may be a slip.
    assert not other(["clean", "nearood"], "imagefolder:photos", replaced=True)
    assert not other(["aclean", "clean"], "imagefolder:photos", replaced=True)
    assert not other("nearood", "imagefolder:photos", replaced=True)


def test_published_data_that_was_not_measured_is_other_data() -> None:
    assert other("imagenet", "clean")
    assert other("imagenet:v2", "clean")
    assert other(["imagenet", "objectnet"], "clean")
    assert not other("imagenet", "clean", published=())
    # Beside another part of the same it may be a slip, unless its part is another one.
    assert not other("imagenet", "imagenet:v2")
    assert other("imagenet:v3", "imagenet:v2")
    assert other("imagenet:sketches", "imagenet:v2")
    assert not other("imagenet:sketchs", "imagenet:v2", "imagenet:sketches")
    assert not other(["imagenet", "clan"], "imagefolder:photos")


@pytest.mark.parametrize(
    ("tail", "measured", "is_other"),
    [
        ("birds", "imagefolder:photos", True),
        ("photoz", "imagefolder:photos", False),
        # One letter in three may be wrong, of short names one, and never more than the name has.
        ("phxtoz", "imagefolder:photos", False),
        ("xhxtox", "imagefolder:photos", True),
        ("ab", "imagefolder:ac", False),
        ("ab", "imagefolder:cd", True),
        ("photographs_of_birds", "imagefolder:photograph_of_birdz", False),
        ("photos", "photos", True),  # without a folder there is nothing to be near to
    ],
)
def test_another_folder_is_other_data_unless_its_name_is_a_slip(
    tail: str, measured: str, is_other: bool
) -> None:
    assert other(f"imagefolder:{tail}", "clean:x_y_z_0", measured) is is_other
    # Data of the run's own kinds is no folder.
    assert not other(f"clean:{tail}", measured)
    assert other(["imagefolder:" + tail, "imagefolder:0123456789"], measured) is is_other


def test_tests_are_told_apart_by_the_names_of_a_rule() -> None:
    assert list(names_of(rule(perturbation="fog_3d", dataset="sketch"))) == ["fog_3d", "sketch"]
    assert list(names_of(rule(perturbation="clean", dataset="clean"))) == []
    assert list(names_of(rule(perturbation=["fog", "snow"], dataset="s*"))) == []
    assert list(names_of(rule(perturbation="[[]x]"))) == ["[x]"]
    assert list(names_of(rule())) == []


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ("a.py::test_x[fog-3]", True),
        ("a.py::test_x[reference-fog]", True),
        ("a.py::test_x[fog_3d-3]", False),
        ("a.py::test_x[a_fog]", False),
        ("a.py::test_fog", False),
        ("fog.py::test_x[3]", False),
        ("a.py::test_x[fo.g-3]", False),
        ("a.py::test_x[a[fog]]", True),
    ],
)
def test_a_name_among_the_parameters_of_a_test(test: str, found: bool) -> None:
    assert mentions([test], "fog") is found
    assert mentions(["b.py::test_y[1]", test], "fog") is found
    assert not mentions([test], "f.g")


def test_what_only_another_profile_measures() -> None:
    names = Declared({"fog_3d", "aspect_squash", "clean"})
    assert is_in_another_profile(rule(perturbation="aspect_squash"), names, RUN)
    assert is_in_another_profile(rule(perturbation="aspect_squash@1+3+5"), names, RUN)
    assert is_in_another_profile(rule(perturbation=["fog_3d", "aspect_*"]), names, RUN)
    assert not is_in_another_profile(rule(perturbation="fog_3d"), names, RUN)
    assert not is_in_another_profile(rule(perturbation="fog_3d@1+3"), names, RUN)
    assert not is_in_another_profile(rule(perturbation="snow"), names, RUN)
    assert not is_in_another_profile(rule(), names, RUN)


def test_severities_that_only_another_profile_measures() -> None:
    declared = Declared({"snow"}, {1, 3, 5})
    had = [measure("accuracy", perturbation="snow", severity=3)]
    assert is_in_another_profile(rule(perturbation="snow", severity=1), declared, had)
    assert is_in_another_profile(rule(perturbation="s*", severity=[1, 5]), declared, had)
    assert is_in_another_profile(rule(severity=5), declared, had)
    # One of them was measured, no profile measures it, or it is a slip of the perturbation's name.
    assert not is_in_another_profile(rule(perturbation="snow", severity=[1, 3]), declared, had)
    assert not is_in_another_profile(rule(perturbation="snow", severity=2), declared, had)
    assert not is_in_another_profile(rule(perturbation="snw", severity=1), declared, had)
    assert not is_in_another_profile(rule(perturbation="snow"), declared, had)
    assert not is_in_another_profile(rule(perturbation="snow", severity=1), Declared({"snow"}), had)
    assert not is_in_another_profile(rule(severity=1), declared, [])
