"""Which samples are shown, with both answers, and where their pictures come from."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from report_helpers import base, head

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.reporting.facts import lines_of
from pytest_cliprobust.reporting.html.gallery import GAINED, LOST, Album, albums_of
from pytest_cliprobust.reporting.html.pictures import Pictures, Shown, data_uri, file_uri
from pytest_cliprobust.results.compare import compare


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
