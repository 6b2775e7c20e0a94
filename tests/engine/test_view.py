"""Conditions and views: what was asked for is what is measured, and what the figures say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import published_trees
import pytest
import torch
from helpers import write_pictures
from model_helpers import WORDY, write_folder
from PIL import Image

from pytest_cliprobust.datasets.prepared import Prepared
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.roles import NEVER_EMBEDDED, ROLES, STAND_INS
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.engine import head
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import CachedText, Evaluation
from pytest_cliprobust.engine.steps import steps_of
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.samples import Samples, Task, shared
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.properties import accuracy, captions, corruption

pytestmark = pytest.mark.floors

CHAIN: list[str | tuple[str, int | None]] = ["kornia:RandomGrayscale", ("fog_3d", 3)]


@pytest.fixture(scope="module")
def clip(shared_cache: Path) -> Evaluation:
    """The reference model on a few samples."""
    options = RunConfig(("reference",), limit=24, profile="quick", cache_dir=shared_cache)
    return Evaluation(options, "reference")


def key(samples: Samples) -> str:
    return Measurement("mine", "reference", accuracy.accuracy_of(samples)).key


def test_a_view_is_the_samples_that_properties_take(clip: Evaluation) -> None:
    view = clip.on("clean", "fog_3d", 3)
    assert isinstance(view, Samples)
    assert len(view) == len(view.ids) == len(view.labels) == len(view.features) == 24
    assert view.cosines.shape == view.logits.shape == (24, len(view.class_names))
    assert np.array_equal(view.correct, view.logits.argmax(axis=1) == view.labels)
    assert repr(view) == "<view of clean, fog_3d at severity 3: 24 samples>"
    assert clip.on("clean", "fog_3d", 3) is view
    assert key(view) == "mine/accuracy/clean/fog_3d@3/reference"


def test_a_chain_differs_from_its_parts_and_says_both_in_its_key(clip: Evaluation) -> None:
    both = clip.on("clean", CHAIN)
    assert key(both) == "mine/accuracy/clean/kornia:RandomGrayscale+fog_3d@3/reference"
    assert both.condition.severity is None
    grey, fog = clip.on("clean", "kornia:RandomGrayscale"), clip.on("clean", "fog_3d", 3)
    turned = clip.on("clean", [*reversed(CHAIN)])
    for other in (grey, fog, clip.on("clean")):
        assert not torch.allclose(both.features, other.features, atol=1e-3)
    assert key(turned) == "mine/accuracy/clean/fog_3d@3+kornia:RandomGrayscale/reference"
    assert not torch.equal(turned.features, both.features)
    # A chain of one is that one, and a step at severity 0 changes nothing.
    assert torch.equal(clip.on("clean", [("fog_3d", 3)]).features, fog.features)
    assert torch.equal(clip.on("clean", [("contrast", 0), ("fog_3d", 3)]).features, fog.features)


def test_explicit_parameters_are_no_severity(clip: Evaluation) -> None:
    view = clip.on("clean", "gaussian_noise", deviation=0.1)
    assert key(view) == "mine/accuracy/clean/gaussian_noise(deviation=0.1)/reference"
    assert view.condition.severity is None
    third = clip.on("clean", "gaussian_noise", 3)
    assert key(third) == "mine/accuracy/clean/gaussian_noise@3/reference"
    assert not torch.equal(view.features, third.features)
    over = clip.on("clean", "gaussian_noise", 3, deviation=0.1)
    assert key(over) == "mine/accuracy/clean/gaussian_noise(deviation=0.1)@3/reference"
    assert torch.equal(over.features, view.features)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((3,), r"a name or a list of steps, .*, not 3$"),
        (([("fog_3d",)],), r"a pair such as \('fog_3d', 3\), not \('fog_3d',\)"),
        (([("fog_3d", "3")],), "a pair such as"),
        (([3],), "a pair such as"),
        ((CHAIN, 3), "have severities of their own"),
        ((CHAIN, None, {"deviation": 0.1}), "have severities of their own"),
        (("clean", 3), "need a perturbation"),
        (({"fog_3d": 3},), r"a list of steps, \[\('fog_3d', 3\), …\], not \{'fog_3d': 3\}"),
        (("fog_3d", True), "a severity is a whole number, not True"),
        (("fog_3d", 3.0), "a severity is a whole number"),
        (([("fog_3d", True)],), "a pair such as"),
        (
            ("fog_3d", None, {"extinction": "big"}),
            "parameter 'extinction' is a finite number, not 'big'",
        ),
        (("fog_3d", None, {"extinction": float("nan")}), "a finite number, not nan"),
    ],
)
def test_settings_that_contradict_each_other_are_one_line(
    arguments: tuple[Any, ...],
    words: str,
) -> None:
    with pytest.raises(ClipRobustError, match=words) as caught:
        steps_of(*arguments)
    assert "\n" not in str(caught.value)


def test_samples_that_are_none_are_one_line(clip: Evaluation) -> None:
    view = clip.on("clean")
    for wrong in (None, view, 3):
        with pytest.raises(
            ClipRobustError, match=r"clip\.on takes a role, the name of a data set or"
        ):
            clip.on(wrong)  # type: ignore[arg-type]
    for limit in ("10", 10.5, True):
        with pytest.raises(
            ClipRobustError, match=f"a limit is a whole number of samples, not {limit!r}"
        ):
            clip.on("clean", limit=limit)  # type: ignore[arg-type]
    assert clip.on(view.data, limit=None).ids == view.ids


def test_the_smaller_limit_counts_and_only_what_was_asked_for_is_in_the_condition(
    clip: Evaluation,
) -> None:
    assert len(clip.on("clean", limit=8)) == 8
    assert clip.on("clean", limit=8).condition.limit == 8
    assert len(clip.on("clean", limit=1000)) == 24
    assert clip.on("clean").condition.limit is None


def test_parts_of_a_view_carry_the_parts_name(clip: Evaluation) -> None:
    view = clip.on("clean", "contrast", 3)
    styles = view.values("style")
    assert len(styles) > 1
    parts = [view.where("style", style) for style in styles]
    assert sum(map(len, parts)) == len(view)
    for style, part in zip(styles, parts, strict=True):
        rows = [row for row, own in enumerate(view.groups["style"]) if own == style]
        assert part.ids == tuple(view.ids[row] for row in rows)
        assert np.array_equal(part.labels, view.labels[rows])
        assert np.array_equal(part.correct, view.correct[rows])
        assert part.units == tuple(view.units[row] for row in rows)
        assert key(part) == f"mine/accuracy/clean:{style}/contrast@3/reference"
        assert part.bootstrap.keys == view.keys.take(rows)
    with pytest.raises(ClipRobustError, match=f"has no style 'notto'.*There are .*{styles[0]}"):
        view.where("style", "notto")
    with pytest.raises(ClipRobustError, match=r"has no column 'colour'.*There are .*style"):
        view.where("colour", "red")
    assert view.values("colour") == ()


def test_units_are_the_drawings(shared_cache: Path) -> None:
    clip = Evaluation(RunConfig(("reference",), cache_dir=shared_cache), "reference")
    view = clip.on("clean")
    assert (len(view.ids), len(set(view.ids)), len(set(view.units))) == (1072, 1072, 268)
    for unit in list(dict.fromkeys(view.units))[:3]:
        labels = {label for label, own in zip(view.labels, view.units, strict=True) if own == unit}
        assert len(labels) == 1


def test_figures_over_several_views_say_over_which(clip: Evaluation) -> None:
    views = [
        clip.on("clean", name, severity) for name in ("contrast", "fog_3d") for severity in (1, 3)
    ]
    figures = corruption.corruption_of(clip.on("clean"), views, name="all_mine")
    for figure in figures.values():
        assert figure.condition is not None
        assert figure.condition.perturbation == "all_mine"
        assert figure.condition.over == tuple(view.condition for view in views)
        told = figure.as_dict()["condition"]
        assert told["label"] == "all_mine"
        assert [
            (inner["steps"][0]["perturbation"], inner["steps"][0]["severity"])
            for inner in told["over"]
        ] == [("contrast", 1), ("contrast", 3), ("fog_3d", 1), ("fog_3d", 3)]
        assert Condition.from_dict(told) == figure.condition
    with pytest.raises(ClipRobustError, match=r"over 2 perturbations \(contrast, fog_3d\).*name="):
        corruption.corruption_of(clip.on("clean"), views)
    # One perturbation has a name already, to which the severities belong if they are not all.
    alone = corruption.corruption_of(clip.on("clean"), views[:2])
    assert {f.condition.perturbation for f in alone.values() if f.condition} == {"contrast@1+3"}


def test_views_without_a_sample_in_common_cannot_be_paired(clip: Evaluation) -> None:
    with pytest.raises(ClipRobustError, match="clean and near_ood have no sample in common"):
        shared(clip.on("clean"), clip.on("near_ood"))
    few = shared(clip.on("clean"), clip.on("clean", "contrast", 3, limit=8))
    assert len(few.ids) == 8
    assert few.bootstrap.keys == clip.on("clean", limit=8).keys


def test_an_image_folder_is_clean_and_what_clean_stands_in_for(
    tmp_path: Path, shared_cache: Path
) -> None:
    photos = write_pictures(tmp_path / "photos", each=2)
    options = RunConfig(("reference",), data=str(photos), cache_dir=shared_cache)
    clip = Evaluation(options, "reference")
    assert len(clip.on("clean")) == 4
    # Without drawings each sample is a unit of its own.
    assert clip.on("clean").units == clip.on("clean").ids
    for role in STAND_INS:
        assert clip.on(role) is clip.on("clean")
    for role in set(ROLES) - {"clean", *STAND_INS}:
        with pytest.raises(NotRun, match=f"^needs {role} .*gives clean only") as caught:
            clip.on(role)
        assert "\n" not in str(caught.value)
    with pytest.raises(NotRun, match=r"^needs calibration"):
        _ = clip.temperature


def test_a_role_that_several_data_sets_play_needs_its_fixture() -> None:
    provider = provider_of("embedded")
    assert {role for role in ROLES if not provider.of(role)} == NEVER_EMBEDDED
    with pytest.raises(NotRun, match=r"and the embedded benchmark has none$"):
        provider.require("semantic_correspondence")
    assert len(provider.of("factors")) > 1
    with pytest.raises(ClipRobustError, match="take the fixture 'factors'"):
        provider.one("factors")


def test_steps_have_one_spelling() -> None:
    assert str(Step("fog_3d", 3)) == "fog_3d@3"
    assert str(Step("rotation", None, (("degrees", 12.5),))) == "rotation(degrees=12.5)"
    assert str(Condition("clean", (Step("fog_3d", 3),))) == "clean, fog_3d at severity 3"
    assert str(Condition("clean")) == "clean"
    # The order in which parameters are written makes no other condition.
    assert steps_of("x", parameters={"a": 1, "b": 2}) == steps_of("x", parameters={"b": 2, "a": 1})


def test_captions_and_choices_of_a_view(clip: Evaluation) -> None:
    view = clip.on("captioned")
    assert isinstance(view, Samples)
    assert len(view.captions) == len(view)
    assert view.choices == ()
    texts = [captions[0] for captions in view.captions]
    assert torch.allclose(view.text_features(texts).norm(dim=1), torch.ones(len(view)), atol=1e-5)
    assert torch.equal(view.text_features(texts), clip.text_features(texts))
    one = view.where("style", view.values("style")[0])
    kept = [i for i, name in enumerate(view.ids) if name in one.ids]
    assert one.captions == tuple(view.captions[i] for i in kept)
    assert torch.equal(one.text_features(texts), view.text_features(texts))
    both = clip.on("compositional").where("style", "noto")
    assert len(both.choices) == len(both) > 0
    assert clip.on("clean").captions == ()


def test_subgroups_are_those_that_the_data_names(clip: Evaluation, tmp_path: Path) -> None:
    view = clip.on("clean")
    assert view.subgroups == ("style", "category")
    assert view.where("style", "noto").subgroups == view.subgroups
    data = view.data
    columns = {
        "two": tuple("ab"[i % 2] for i in range(24)),
        "one": ("x",) * 24,
        "each": view.ids,
    }
    many = type("Plain", (), {"name": "mine", "digest": "d", "ids": data.ids, "groups": columns})
    assert View(
        view.condition, many(), lambda: view.features, lambda: clip.classifier
    ).subgroups == (
        "two",
        "each",
    )
    bare = View(view.condition, data, lambda: view.features, lambda: clip.classifier)
    with pytest.raises(ClipRobustError, match="clean: this view has no text encoder"):
        bare.text_features(["a cat"])


def test_each_template_alone(clip: Evaluation) -> None:
    view = clip.on("clean")
    singles = dict(clip.under_each_template(view))
    assert list(singles) == list(clip.templates)
    heads = head.template_heads(CachedText(clip.encoder), clip.phrases, clip.templates)
    for own, single in zip(heads, singles.values(), strict=True):
        assert single.ids == view.ids
        cosines = head.cosine_similarities(view.features, own)
        assert np.abs(single.cosines - cosines).max() < 1e-6
    assert np.array_equal(view.logits, clip.on("clean").logits)


def test_mistyped_class_names_are_another_head_and_another_condition(clip: Evaluation) -> None:
    view = clip.on("clean")
    mistyped = clip.under_mistyped_names(view)
    assert mistyped.ids == view.ids
    assert mistyped.condition.perturbation == "class_name_typos"
    phrases = captions.mistyped_phrases(clip.phrases, view.class_names)
    assert all(a != b for a, b in zip(phrases, clip.phrases, strict=True))
    own = head.zero_shot_head(CachedText(clip.encoder), phrases, clip.templates)
    assert np.abs(mistyped.cosines - head.cosine_similarities(view.features, own)).max() < 1e-6
    figure = accuracy.accuracy_drop(view, mistyped)
    assert figure.value == pytest.approx(float(view.correct.mean() - mistyped.correct.mean()))
    assert figure.condition == mistyped.condition
    darker = clip.on("clean", "contrast", 3)
    assert clip.under_mistyped_names(darker).condition.perturbation == "contrast@3+class_name_typos"
    # The view itself is as it was.
    assert view.condition.perturbation == "clean"


def test_mistyped_names_that_a_small_vocabulary_cannot_tell_apart_are_no_mistake(
    shared_cache: Path,
) -> None:
    """Nothing in "a rosr" and "an anchr" is a word that this model knows; the study's fleet stopped here."""
    options = RunConfig(("fleet:base",), limit=4, profile="quick", cache_dir=shared_cache)
    clip = Evaluation(options, "fleet:base")
    view = clip.on("clean")
    mistyped = clip.under_mistyped_names(view)
    rose, anchor = (view.class_names.index(name) for name in ("rose", "anchor"))
    np.testing.assert_allclose(mistyped.cosines[:, rose], mistyped.cosines[:, anchor], atol=1e-6)
    assert np.abs(view.cosines[:, rose] - view.cosines[:, anchor]).max() > 1e-3


def test_any_class_that_is_right_of_a_sample_is_a_right_answer(clip: Evaluation) -> None:
    view = clip.on("clean")
    first = int(np.flatnonzero(~view.correct)[0])  # the reference is not always right of these
    chosen = int(view.predictions[first])
    further = tuple((chosen, 0) if row == first else () for row in range(len(view)))
    several = Prepared(view.data, range(len(view)), further_labels=further)
    other = View(view.condition, several, lambda: view.features, view._classifier)
    assert np.flatnonzero(other.correct != view.correct).tolist() == [first]
    assert other.take([first]).correct.tolist() == [True]
    wrong = Prepared(view.data, range(len(view)), further_labels=((),) * len(view))
    same = View(view.condition, wrong, lambda: view.features, view._classifier)
    assert np.array_equal(same.correct, view.correct)


def test_data_that_keeps_its_classes_has_a_head_of_them(tmp_path: Path, shared_cache: Path) -> None:
    write_pictures(tmp_path / "photos", ("ant", "cat", "dog"), each=2)
    given = [str(tmp_path / "photos"), f"laion-c:{published_trees.laion_c(tmp_path / 'c')}"]
    model = str(write_folder(tmp_path / "model", WORDY))  # the reference does not know their names
    options = RunConfig(
        (model,), data=given[0], sets=read_sources(given), cache_dir=shared_cache, seed=0
    )
    clip = Evaluation(options, model)
    (view,) = clip.all_on("corrupted")
    assert view.cosines.shape == (12, 16)
    own = clip._classifier(clip.templates, view.class_names)
    assert np.array_equal(view.cosines, own.cosines(view.features, view.data))
    assert clip.on("clean").cosines.shape == (6, 3)
    assert np.array_equal(view.correct, view.cosines.argmax(axis=1) == np.array(view.labels))


def test_data_with_templates_or_classes_of_its_own_has_its_own_head(
    tmp_path: Path, shared_cache: Path
) -> None:
    write_pictures(tmp_path / "photos", ("ant", "cat", "dog"), each=2)
    write_pictures(tmp_path / "drawn", ("ant", "dog"), each=1)
    (tmp_path / "data.toml").write_text(
        '[data]\nclean = "photos"\n'
        'shift = [{source = "a=drawn", templates = ["a drawing of {}."]},\n'
        '         {source = "b=drawn", labels = ["ant", "dog"]}]\n'
        '[data.groups]\nsource = "c=drawn"\n',
        encoding="utf-8",
    )
    data = str(tmp_path / "data.toml")
    clip = Evaluation(
        RunConfig(
            ("reference",), data=data, sets=read_sources([data]), cache_dir=shared_cache, seed=0
        ),
        "reference",
    )
    drawn, part = clip.all_on("shift")
    plain = clip.on("groups")
    assert [view.condition.dataset for view in (drawn, part, plain)] == [
        f"imagefolder:{name}" for name in "abc"
    ]
    assert plain.class_names == drawn.class_names == ("ant", "cat", "dog")
    # The same pictures: what differs is the head.
    assert torch.equal(plain.features, drawn.features)
    assert not np.array_equal(plain.logits, drawn.logits)
    own = clip._classifier(["a drawing of {}."])
    assert np.array_equal(drawn.cosines, own.cosines(drawn.features, drawn.data))
    assert part.head_rows == (0, 2)
    assert part.class_names == ("ant", "dog")
    assert np.array_equal(part.logits, plain.logits[:, [0, 2]])
    told = clip.template_summaries()
    assert told["imagefolder:photos"].count == 80
    assert told["imagefolder:a"].count == 1


def test_a_single_class_has_no_head(tmp_path: Path) -> None:
    """Every answer would be right, and each accuracy 1."""
    Image.new("RGB", (24, 24), (200, 30, 30)).save(tmp_path / "a.png")
    table = tmp_path / "table.csv"
    table.write_text("image,label\na.png,cat\n", encoding="utf-8")
    config = RunConfig(("reference",), data=f"manifest:{table}", cache_dir=tmp_path / "cache")
    with pytest.raises(ClipRobustError, match="manifest:table has a single class, 'cat'"):
        Evaluation(config, "reference").on("clean").logits  # noqa: B018 - computed when asked for


def view_of(**told: Any) -> View:
    data: Any = type("Told", (), {"name": "mine", "digest": "d", "ids": ("a",), **told})()
    nothing: Any = None
    return View(Condition("mine"), data, nothing, nothing)


def test_what_data_says_of_its_measurement_is_the_views() -> None:
    silent = view_of()
    assert silent.task == Task() == view_of(task="recall").task
    told = Task("mean_per_class_recall", "country", "vtab", 3)
    assert view_of(task=told).task is told
    for name, empty, given in (
        ("limits", (), [5.0, 25.0]),
        ("limits_cm", (), [1.0, 2.0]),
        ("angle_edges", (), [0.0, 30.0]),
        ("further_labels", (), [(1, 2)]),
        ("captions", (), [("a cat",)]),
        ("choices", (), [()]),
    ):
        assert getattr(silent, name) == empty
        assert getattr(view_of(**{name: given}), name) == tuple(given)
    assert silent.head_rows is None
    assert view_of(head_rows=(2, 1)).head_rows == (2, 1)
    with pytest.raises(NotRun, match="mine: pairs are matched as they are"):
        silent.matches()
