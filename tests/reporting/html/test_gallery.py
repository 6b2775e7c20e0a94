"""Which samples are shown, with both answers, and where their pictures come from."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from report_helpers import base, head

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.figures.bootstrap import Bootstrap, paired_drop_figure, proportion_figure
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.reporting.facts import Line, lines_of
from pytest_cliprobust.reporting.html.gallery import GAINED, LOST, Album, albums_of
from pytest_cliprobust.reporting.html.pictures import Pictures, Shown, data_uri, file_uri
from pytest_cliprobust.results.compare import Compared, Sides, compare

CLEAN = Condition("clean")


class Asked:
    """Draws everything, and keeps what it was asked for."""

    def __init__(self, *, draws: bool = True) -> None:
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self._draws = draws

    def draws(self, condition: Condition) -> bool:
        """Say so."""
        return self._draws

    def of(self, condition: Condition, samples: Sequence[tuple[str, str]]) -> dict[str, Shown]:
        """Return a text in place of each picture but the last."""
        self.asked.append((str(condition), list(samples)))
        return {name: Shown(name, digest) for name, digest in samples[:-1]}


@pytest.fixture(scope="module")
def data() -> EmbeddedDataset:
    return EmbeddedDataset("clean", profile="quick", limit=60)


def albums(drawing: Asked) -> tuple[Album, ...]:
    """Return the albums of a run that is wrong on the first 12 samples, where the earlier one was not."""
    now = head()
    given: Any = drawing
    return albums_of(lines_of(now, compare(base(), now)), given)


def test_what_changed_sides_on_clean_pictures_comes_first(data: EmbeddedDataset) -> None:
    asked = Asked()
    clean, fog = albums(asked)
    assert [str(one.line.measurement.condition) for one in (clean, fog)] == [
        "clean",
        "clean, fog at severity 1",
    ]
    assert (clean.lost, clean.gained) == (12, 1)
    rows = [*range(LOST), 59]
    assert [card.sample for card in clean.cards] == [data.ids[row] for row in rows]
    assert [card.lost for card in clean.cards] == [True] * LOST + [False]
    assert GAINED >= 1
    wanted = [(data.ids[row], data.sample_digests[row]) for row in rows]
    assert asked.asked == [("clean", wanted), ("clean, fog at severity 1", wanted)]
    assert [card.shown for card in clean.cards] == [*(Shown(*pair) for pair in wanted[:-1]), None]


def test_a_card_has_both_answers(data: EmbeddedDataset) -> None:
    names = ("cat", *data.class_names[1:])
    for album in albums(Asked()):
        for card, row in zip(album.cards, [*range(LOST), 59], strict=True):
            truth = data.labels[row]
            right, wrong = names[truth], names[(truth + 1) % len(names)]
            told = (wrong, right) if row == 59 else (right, wrong)
            assert card.label == right
            assert (card.before.partition(" (")[0], card.after.partition(" (")[0]) == told
            assert card.kept


def test_what_cannot_be_drawn_comes_after_what_can() -> None:
    """Here nothing can, and clean pictures come first all the same."""
    made = albums(Asked(draws=False))
    assert [str(one.line.measurement.condition) for one in made] == [
        "clean",
        "clean, fog at severity 1",
    ]


def test_of_a_run_without_an_earlier_one_there_is_nothing_to_show() -> None:
    given: Any = Asked()
    assert albums_of(lines_of(head(), None), given) == ()


# --- Made-up comparisons ---------------------------------------------------------------------------


def moved(
    condition: Condition,
    lost: int,
    gained: int = 0,
    *,
    metric: str = "accuracy",
    model: str = "m",
    **more: Any,
) -> Line:
    """Return a figure of 40 samples, the first of which were lost and the last of which were gained."""
    names = tuple(f"{n:02d}" for n in range(40))
    keys = SampleKeys(names, names, tuple(f"d{name}" for name in names))
    boot = Bootstrap(replicates=5, keys=keys)
    before, now = np.arange(40) < 40 - gained, np.arange(40) >= lost
    details = more.pop("details", ({}, {}))

    def one(right: Any, told: Any) -> Measurement:
        if metric == "accuracy":
            figure = proportion_figure(metric, right, boot)
        else:
            figure = paired_drop_figure(metric, np.ones(40, dtype=np.bool_), right, boot)
        figure = replace(figure, details={**figure.details, **told})
        return Measurement("s", model, figure.measured_on(condition))

    column = "value" if metric == "accuracy" else "shifted"
    sides = {column: Sides(names[:lost], names[40 - gained :])} if lost or gained else {}
    row = Compared(one(before, details[0]), one(now, details[1]), True, "paired", sides=sides)
    return Line(row.head, None, row, "t", "")


def fog(severity: int, name: str = "fog", dataset: str = "clean") -> Condition:
    return Condition(dataset, (Step(name, severity),))


def shown(lines: Sequence[Line], *drawn: str) -> list[tuple[str, int, int]]:
    """Return conditions with their counts; only ``drawn`` perturbations can be drawn again here."""

    class Some(Asked):
        def draws(self, condition: Condition) -> bool:
            return all(step.perturbation in drawn for step in condition.steps)

    given: Any = Some()
    made = albums_of(lines, given)
    return [(str(one.line.measurement.condition), one.lost, one.gained) for one in made]


def test_the_order_of_conditions() -> None:
    lines = [
        moved(Condition("shift"), 9),
        moved(fog(3, "mine"), 8),
        moved(fog(1), 1),
        moved(fog(2, "snow"), 4, 3),
        moved(fog(2, "rain"), 3),
        moved(Condition("clean:easy", part_of="clean"), 9),
        moved(CLEAN, 1),
        moved(Condition("other"), 10),
    ]
    assert shown(lines, "fog", "snow", "rain") == [
        ("clean", 1, 0),
        # Perturbations that can be drawn, the largest net loss first.
        ("clean, rain at severity 2", 3, 0),
        *[("clean, fog at severity 1", 1, 0), ("clean, snow at severity 2", 4, 3)],
        *[("other", 10, 0), ("shift", 9, 0), ("clean, mine at severity 3", 8, 0)],
    ]  # seven at most: the part is left out


def test_of_several_severities_the_first_is_shown_and_an_accuracy_before_its_drop() -> None:
    lines = [
        moved(fog(5), 5, metric="accuracy_drop"),
        moved(fog(3), 4),
        moved(fog(5), 9),
        moved(fog(1, "snow"), 2, 1, metric="accuracy_drop"),
        moved(Condition("sketch"), 9, metric="accuracy_drop"),  # between two data sets
        moved(Condition("clean", over=(fog(1), fog(2)), label="all_fogs"), 9),
        moved(fog(1, "rain"), 9, metric="top5"),
        moved(fog(1, "same"), 0),
        replace(moved(fog(1, "new"), 9), compared=None),
    ]
    assert shown(lines, "fog", "snow") == [
        ("clean, fog at severity 3", 4, 0),
        ("clean, snow at severity 1", 2, 1),
    ]


def test_answers_are_those_of_the_same_model_and_condition() -> None:
    def told(top: int, count: int = 40) -> dict[str, Any]:
        label = [0] * (count - 1) + [-1]
        own = {"names": ["ant", "bee", "cow"], "label": label, "top": [top] * count}
        return {"answers": own | {"probability": [0.5] * count}}

    lines = [
        moved(fog(3), 2, metric="accuracy_drop", model="n"),
        moved(fog(3), 0, model="m", details=(told(1), told(1))),
        moved(fog(3), 0, model="n", details=(told(0), told(2))),
    ]
    given: Any = Asked()
    (album,) = albums_of(lines, given)
    one = album.cards[0]
    assert (one.sample, one.label, one.before, one.after) == (
        "00",
        "ant",
        "ant (0.50)",
        "cow (0.50)",
    )
    assert (one.lost, one.kept, one.shown) == (True, True, Shown("00", "d00"))
    # Answers of one run alone, and of none.
    lines[2] = moved(fog(3), 0, model="n", details=({}, told(2)))
    (album,) = albums_of(lines, given)
    told_ = [(c.label, c.before, c.after, c.kept) for c in album.cards]
    assert told_ == [("ant", "ant", "cow (0.50)", False)] * 2
    (album,) = albums_of(lines[:2], given)
    assert [(c.label, c.before, c.after) for c in album.cards] == [("", "right", "wrong")] * 2
    (gained,) = albums_of([moved(CLEAN, 9, 4, details=({}, told(0)))], given)
    # The last sample is of no class.
    assert [(c.sample, c.lost) for c in gained.cards[-4:]] == [
        *(("07", True), ("36", False), ("37", False), ("38", False))
    ]
    assert (gained.cards[-1].before, gained.cards[-1].after) == ("wrong", "ant (0.50)")
    assert len(gained.cards) == LOST + GAINED == 11


# --- Pictures --------------------------------------------------------------------------------------


def test_only_the_runs_own_samples_are_drawn(
    data: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, digests = data.ids, data.sample_digests
    drawing = Pictures({"profile": "quick"})
    asked: list[list[int]] = []
    monkeypatch.setattr(drawing, "_drawn", lambda data, rows, condition: asked.append(list(rows)))
    drawing.of(Condition("clean"), [(ids[2], digests[2]), (ids[0], "")])
    assert not drawing.problems
    drawing.of(Condition("clean"), [(ids[2], digests[2]), (ids[1], digests[2]), ("nobody", "")])
    assert list(drawing.problems) == ["clean: some samples are others than the run's"]
    assert drawing.of(Condition("clean"), [("nobody", "")]) == {}
    assert asked == [[2, 0], [2]]
    assert drawing.of(Condition("no_such_data"), [("nobody", "")]) == {}
    assert len(drawing.problems) == 2


def test_pictures_as_they_are_and_as_they_were_perturbed(data: EmbeddedDataset) -> None:
    drawing = Pictures({"profile": "quick"})
    rows = [3, 1]
    samples = [(data.ids[row], data.sample_digests[row]) for row in rows]
    one, chain = (
        Condition("clean", steps)
        for steps in (
            (Step("gaussian_noise", 5),),
            (Step("gaussian_noise", 5), Step("gaussian_noise", 1)),
        )
    )
    plain = drawing.of(Condition("clean"), samples)
    assert list(plain) == [data.ids[row] for row in rows]
    assert len({shown.clean for shown in plain.values()}) == 2
    assert {shown.perturbed for shown in plain.values()} == {""}
    perturbed = drawing.of(one, samples)
    assert {name: shown.clean for name, shown in perturbed.items()} == {
        name: shown.clean for name, shown in plain.items()
    }
    assert all(shown.perturbed not in ("", shown.clean) for shown in perturbed.values())
    assert drawing.of(chain, samples) == plain  # of several steps only the run itself has the seeds
    assert not drawing.problems


def test_which_perturbations_are_known_here() -> None:
    drawing = Pictures({})
    assert drawing.seed == 0
    assert Pictures({"seed": 3}).seed == 3
    assert drawing.draws(Condition("clean"))
    assert drawing.draws(Condition("clean", (Step("fog", 3),)))
    assert not drawing.draws(Condition("clean", (Step("fog", 3), Step("of_a_threshold_file", 1))))


def opened(uri: str) -> Image.Image:
    """Return the picture of a page's text."""
    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize(
    ("level", "value"), [(-0.5, 0), (0.0, 0), (0.25, 64), (1.0, 255), (1.5, 255)]
)
def test_levels_are_those_of_eight_bits(level: float, value: int) -> None:
    shown = opened(data_uri(torch.full((3, 16, 16), level)))
    assert np.abs(np.asarray(shown, dtype=int) - value).max() <= 1


def test_pictures_are_shown_upright_and_small() -> None:
    image = torch.zeros(3, 40, 80)
    image[0, :, 40:] = 1.0  # red on the right
    shown = opened(data_uri(image, side=20))
    assert shown.size == (20, 10)
    assert np.asarray(shown)[5, 18, 0] > 200
    assert np.asarray(shown)[5, 2, 0] < 50
    assert opened(data_uri(image)).size == (80, 40)


def test_a_file_is_shown_at_most_so_wide(tmp_path: Path) -> None:
    Image.new("L", (40, 400), 200).save(tmp_path / "tall.png")
    Image.new("RGB", (40, 10)).save(tmp_path / "wide.png")
    assert opened(file_uri(tmp_path / "tall.png", 20)).size == (8, 80)
    assert opened(file_uri(tmp_path / "wide.png", 20)).size == (20, 5)
    assert opened(file_uri(tmp_path / "wide.png")).size == (40, 10)
    (tmp_path / "none.png").write_text("no picture")
    assert file_uri(tmp_path / "none.png") == file_uri(tmp_path / "gone.png") == ""
