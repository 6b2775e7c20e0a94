"""mCE against the published tables, on columns and on views; and what it takes to be one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import corruption_error as ce
from pytest_cliprobust.targets.fleet import fleet_names

SEVERITIES = (1, 2, 3, 4, 5)

#: Hendrycks & Dietterich 2019, table 1: CE in percent by corruption, in the order of AlexNet's errors, the
#: clean error, and mCE.
PUBLISHED = {
    "ResNet-18": ((87, 88, 91, 84, 91, 87, 89, 86, 84, 78, 69, 78, 90, 80, 85), 0.302, 0.847),
    "ResNet-50": ((80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77), 0.239, 0.767),
}

TWO = ce.ReferenceErrors("mine", "photos", 2, 0.25, {"fog": 0.5, "snow": 0.75}, "measured here")


def alexnet() -> ce.ReferenceErrors:
    (found,) = (known for known in ce.load_errors() if known.model == "AlexNet")
    return found


def view(right: np.ndarray, *steps: Step, name: str = "photos", first: int = 0) -> SampleArrays:
    """Return samples of two classes with these answers."""
    logits = np.stack([right, ~right], axis=1).astype(np.float64)
    ids = tuple(f"{first + row:05d}" for row in range(len(right)))
    return SampleArrays(Condition(name, steps), ids, np.zeros(len(ids), dtype=np.int64), logits)


def share(error: float, count: int) -> np.ndarray:
    """Return answers of which a share is wrong."""
    return np.arange(count) >= round(error * count)


def by_name(figures: list[Figure]) -> dict[tuple[str, str, str], float]:
    return {
        (f.metric, f.condition.dataset, f.condition.perturbation): f.value
        for f in figures
        if f.condition is not None
    }


def test_alexnets_published_errors() -> None:
    errors = alexnet().errors
    assert len(errors) == 15
    # Their mean is the 78.9% of the benchmark's paper; the sum shows any changed digit.
    assert sum(errors.values()) == pytest.approx(11.834896, abs=1e-9)
    assert round(sum(errors.values()) / 15, 3) == 0.789
    assert round(alexnet().clean, 3) == 0.435


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_table(model: str) -> None:
    each, clean_error, mce = PUBLISHED[model]
    known, count = alexnet(), 2000
    views = [
        view(share(own / 100 * error, count), Step(kind, severity))
        for (kind, error), own in zip(known.errors.items(), each, strict=True)
        for severity in SEVERITIES
    ]
    clean = view(share(clean_error, count))
    found = by_name(ce.corruption_error_of(clean, views, name="all_mine", reference=known))
    # The paper rounds each CE to whole percent.
    assert found["mce", "photos", "all_mine"] == pytest.approx(mce, abs=0.005)
    for kind, own in zip(known.errors, each, strict=True):
        assert found["ce", "photos", kind] == pytest.approx(own / 100, abs=0.001)
    # From AlexNet to ResNet hardly anything changed in relative robustness: the paper's finding.
    assert found["relative_mce", "photos", "all_mine"] == pytest.approx(1.04, abs=0.02)


def test_by_hand() -> None:
    clean = view(np.array([True, True, True, False]))
    views = [
        view(np.array(answers), Step(kind, severity))
        for kind, answers in (("fog", [True, True, False, False]), ("snow", [False] * 4))
        for severity in SEVERITIES
    ]
    extra = view(np.array([False] * 4), Step("spatter", 1))
    figures = ce.corruption_error_of(clean, [*views, extra], name="all_both", reference=TWO)
    found = by_name(figures)
    assert found == {
        ("ce", "photos", "fog"): 1.0,
        ("ce", "photos", "snow"): pytest.approx(4 / 3),
        ("mce", "photos", "all_both"): pytest.approx(7 / 6),
        ("relative_ce", "photos", "fog"): 1.0,
        ("relative_ce", "photos", "snow"): pytest.approx(1.5),
        ("relative_mce", "photos", "all_both"): pytest.approx(1.25),
    }
    for figure in figures:
        assert figure.n == 4
        assert figure.details["baseline"] == "mine"
        assert figure.details["source"] == "measured here"
        assert figure.low <= figure.value <= figure.high


def test_relative_errors_need_a_reference_that_loses_something() -> None:
    clean = view(np.array([True] * 4))
    views = [
        view(np.array([False] + [True] * 3), Step(kind, severity))
        for kind in TWO.errors
        for severity in SEVERITIES
    ]
    for fog, relative in ((0.31, True), (0.29, False)):
        known = replace(TWO, errors={**TWO.errors, "fog": fog})
        found = by_name(ce.corruption_error_of(clean, views, name="all_both", reference=known))
        kinds = {metric for metric, *_ in found}
        assert kinds == {"ce", "mce"} | ({"relative_ce", "relative_mce"} if relative else set())


def test_views_are_reduced_to_what_they_share() -> None:
    clean = view(np.array([True] * 6))
    views = [
        view(np.array([False] * 2 + [True] * 3), Step(kind, severity), first=1)
        for kind in TWO.errors
        for severity in SEVERITIES
    ]
    (mce,) = (
        f
        for f in ce.corruption_error_of(clean, views, name="all_both", reference=TWO)
        if f.metric == "mce"
    )
    assert mce.n == 5
    assert mce.value == pytest.approx((0.4 / 0.5 + 0.4 / 0.75) / 2)
    # What is lost is lost of the same pictures: the first of the clean ones, which is wrong, is not there.
    wrong = view(np.array([False] + [True] * 5))
    found = by_name(ce.corruption_error_of(wrong, views, name="all_both", reference=TWO))
    assert found["relative_ce", "photos", "fog"] == pytest.approx((0.4 - 0.0) / (0.5 - 0.25))
    assert found["relative_ce", "photos", "snow"] == pytest.approx((0.4 - 0.0) / (0.75 - 0.25))


def test_a_part_is_no_mean_corruption_error() -> None:
    clean = view(np.array([True] * 4))
    views = [view(np.array([True] * 4), Step("fog", severity)) for severity in SEVERITIES]
    with pytest.raises(NotRun, match=r"2 corruptions .* snow@1, snow@2, snow@3 and 2 more"):
        ce.corruption_error_of(clean, views, name="all_both", reference=TWO)
    with pytest.raises(NotRun, match=r"missing are fog@5, snow@1"):
        ce.corruption_error_of(clean, views[:4], name="all_both", reference=TWO)


def test_errors_hold_for_their_data_alone() -> None:
    clean = view(np.array([True] * 4))
    with pytest.raises(NotRun, match=r"no reference model's errors for photos \(2 classes\)"):
        ce.corruption_error_of(clean, [], name="all_mine")
    named = replace(clean, condition=Condition("imagenet-c"))
    with pytest.raises(NotRun, match="no reference model's"):
        ce.errors_for(named)
    thousand = replace(named, class_names=tuple(map(str, range(1000))))
    assert ce.errors_for(thousand).model == "AlexNet"


def corrupted(clean_ids: str, kinds: tuple[str, ...] = ("fog", "snow")) -> SampleArrays:
    """Return every second picture of each kind and severity answered wrongly."""
    rows = [(kind, s, own) for kind in kinds for s in SEVERITIES for own in clean_ids]
    right = np.array([clean_ids.index(own) % 2 == 0 for *_, own in rows])
    made = view(right, name="published")
    return replace(
        made,
        ids=tuple(f"{kind}/{s}/{own}" for kind, s, own in rows),
        units=tuple(own for *_, own in rows),
        groups={
            "corruption": tuple(kind for kind, *_ in rows),
            "severity": tuple(str(s) for _, s, _ in rows),
            "clean_id": tuple(own for *_, own in rows),
        },
    )


def test_pictures_corrupted_by_others() -> None:
    clean = replace(view(np.array([True] * 4)), ids=tuple("abcd"), units=tuple("abcd"))
    found = by_name(ce.corruption_error_in(clean, corrupted("abcd"), reference=TWO))
    assert found["mce", "published", "clean"] == pytest.approx((1.0 + 0.5 / 0.75) / 2)
    assert found["ce", "published:snow", "clean"] == pytest.approx(0.5 / 0.75)
    assert found["relative_mce", "published", "clean"] == pytest.approx((2.0 + 1.0) / 2)
    # Without the clean pictures nothing says how much was lost.
    other = replace(clean, ids=tuple("wxyz"))
    alone = by_name(ce.corruption_error_in(other, corrupted("abcd"), reference=TWO))
    assert {metric for metric, *_ in alone} == {"ce", "mce"}
    assert alone["mce", "published", "clean"] == found["mce", "published", "clean"]


def test_pictures_count_that_are_there_throughout() -> None:
    whole = corrupted("abcd")
    kept = [row for row in range(len(whole.ids)) if whole.ids[row] != "snow/3/b"]
    some = replace(
        whole,
        ids=tuple(whole.ids[row] for row in kept),
        units=tuple(whole.units[row] for row in kept),
        labels=whole.labels[kept],
        logits=whole.logits[kept],
        groups={name: tuple(own[row] for row in kept) for name, own in whole.groups.items()},
    )
    clean = replace(view(np.array([True] * 4)), ids=tuple("abcd"))
    figures = ce.corruption_error_in(clean, some, reference=TWO)
    assert {figure.n for figure in figures} == {3}
    with pytest.raises(NotRun, match="mCE needs pictures under every corruption and severity"):
        ce.corruption_error_in(clean, corrupted("a"), reference=TWO)
    # Two are enough, and severities beside the five do not count.
    two = corrupted("ab")
    more = replace(two, groups={**two.groups, "severity": (*two.groups["severity"][:-2], "5", "6")})
    found = by_name(ce.corruption_error_in(clean, two, reference=TWO))
    assert found["mce", "published", "clean"] == pytest.approx((1.0 + 0.5 / 0.75) / 2)
    with pytest.raises(NotRun, match="mCE needs pictures under every"):
        ce.corruption_error_in(clean, more, reference=TWO)
    with pytest.raises(NotRun, match="missing are snow@1"):
        ce.corruption_error_in(clean, corrupted("abcd", ("fog",)), reference=TWO)
    with pytest.raises(ClipRobustError, match="no column 'clean_id'"):
        ce.corruption_error_in(
            clean,
            replace(some, groups={k: v for k, v in some.groups.items() if k != "clean_id"}),
            reference=TWO,
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[reference]]\nmodel = 'x'\n", "KeyError"),
        ("[[reference", "TOMLDecodeError"),
        (
            "[[reference]]\nmodel = 'x'\ndataset = 'd'\nclasses = 2\nclean = 0.1\nsource = 's'\n"
            "[reference.errors]\nfog = 43.5\n",
            "error 43.5 on 'fog' does not lie between 0 and 1",
        ),
        # Nothing is relative to no error.
        (
            "[[reference]]\nmodel = 'x'\ndataset = 'd'\nclasses = 2\nclean = 0.1\nsource = 's'\n"
            "[reference.errors]\nfog = 0.0\n",
            "error 0.0 on 'fog' does not lie between 0 and 1",
        ),
        (
            "[[reference]]\nmodel = 'x'\ndataset = 'd'\nclasses = 2\nclean = -0.1\nsource = 's'\n"
            "[reference.errors]\nfog = 1.0\n",
            "error -0.1 on 'clean' does not lie between 0 and 1",
        ),
    ],
)
def test_a_file_that_says_something_else(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "errors.toml"
    path.write_text(text)
    with pytest.raises(ClipRobustError, match=said):
        ce.load_errors(path)
    with pytest.raises(ClipRobustError, match="cannot read reference errors"):
        ce.load_errors(tmp_path / "none.toml")


def test_a_reference_may_be_wrong_throughout(tmp_path: Path) -> None:
    path = tmp_path / "errors.toml"
    path.write_text(
        "[[reference]]\nmodel = 'x'\ndataset = 'd'\nclasses = 2\nclean = 1\nsource = 's'\n"
        "[reference.errors]\nfog = 1.0\nsnow = 0.5\n"
    )
    errors = {"fog": 1.0, "snow": 0.5}
    assert ce.load_errors(path) == (ce.ReferenceErrors("x", "d", 2, 1.0, errors, "s"),)


def test_the_embedded_reference_is_a_model_that_ships() -> None:
    (embedded,) = (known for known in ce.load_errors() if known.dataset == "clean")
    assert embedded.model in fleet_names()
    assert set(embedded.errors) == set(alexnet().errors)
