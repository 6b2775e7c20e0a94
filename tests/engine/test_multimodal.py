"""Interviews: what is asked, what is kept, and what the answers become."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import write_pictures
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pytest_cliprobust.engine import multimodal
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.engine.multimodal import Interviewer, packed, unpacked
from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.properties.multimodal import Answer, HardChoices, hard_choices
from pytest_cliprobust.targets.multimodal import MultimodalInfo
from pytest_cliprobust.targets.reference import data_folder

PHRASES = tuple(f"thing {i}" for i in range(134))


class Scripted:
    """A model that prefers the option with the brighter number, and notes what it was asked."""

    def __init__(self, digest: str = "a" * 64) -> None:
        self.info = MultimodalInfo("scripted", "llava", "a tower", digest)
        self.asked: list[tuple[str, float]] = []

    def likelihoods(
        self, images: Tensor, questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> Floats:
        assert images.dtype == torch.uint8
        means = images.float().mean((1, 2, 3))
        self.asked += list(zip(questions, means.tolist(), strict=True))
        return np.array([[-float(len(o)) - 1 / 3 for o in pair] for pair in options])

    def answers(self, images: Tensor, questions: Sequence[str]) -> list[str]:
        # Whatever stands first, or nothing that was asked for.
        return [q.partition("picture: ")[2].partition(" or ")[0] or "…" for q in questions]


def interviewed(
    clip: Evaluation, model: Any, precision: str = "fp32", phrases: Sequence[str] = PHRASES
) -> Interviewer:
    return Interviewer(lambda: model, clip.encoder, phrases, precision)


@pytest.fixture
def clip(tmp_path: Path) -> Evaluation:
    return Evaluation(RunConfig(("reference",), limit=134, cache_dir=tmp_path), "reference")


def test_the_bundled_model_says_whose_encoder_it_has(tmp_path: Path) -> None:
    """A sibling's is another than the reference's; a copy of the reference's is the same."""
    copy = shutil.copytree(data_folder() / "reference", tmp_path / "mine")
    for model, other in (("reference", ""), (str(copy), ""), ("fleet:base", "reference")):
        config = RunConfig((model,), limit=8, cache_dir=tmp_path, lmm="reference")
        clip = Evaluation(config, model)
        assert clip.multimodal._sees_through == other
        told = [note for note in clip.encoder.notes if "compares two encoders" in note]
        assert len(told) == bool(other)


CHOICES = HardChoices(
    np.array([3, 0, 7]), np.array([3, 0, 7]), np.array([100, 5, 11]), unconfused=(1,), tied=()
)


def test_both_orders_are_asked_and_answers_named(clip: Evaluation) -> None:
    model = Scripted()
    answers = interviewed(clip, model).answers(clip.on("clean"), CHOICES)
    questions = [question for question, _ in model.asked]
    assert questions[0] == (
        "Which of these is in the picture: thing 3 or thing 100? Answer with one of the two."
    )
    assert questions[3] == questions[0].replace("thing 3 or thing 100", "thing 100 or thing 3")
    # The same picture in both orders, and the right one.
    shown = clip.on("clean").data.load([3, 0, 7]).images.float().mean((1, 2, 3)).tolist()
    assert [mean for _, mean in model.asked] == pytest.approx(shown * 2)
    assert answers.likelihoods.shape == (3, 2, 2)
    assert answers.likelihoods[0, 1].tolist() == pytest.approx([-7 - 1 / 3, -9 - 1 / 3])
    assert answers.words.tolist() == [[Answer.TRUE, Answer.OTHER]] * 3
    assert answers.said[0] == ("thing 3", "thing 100")
    assert answers.about["vision_tower"] == "a tower"


def test_answers_are_kept_by_all_that_decides_them(clip: Evaluation) -> None:
    view = clip.on("clean")
    first = interviewed(clip, Scripted())
    before = first.answers(view, CHOICES)
    assert first.asked == 3
    again = interviewed(clip, Scripted())
    after = again.answers(view, CHOICES)
    assert again.asked == 0
    np.testing.assert_array_equal(before.likelihoods, after.likelihoods)
    assert before.said == after.said
    other_choices = HardChoices(CHOICES.rows, CHOICES.true, np.array([100, 5, 12]))
    for interviewer, seen, choices in (
        (interviewed(clip, Scripted("b" * 64)), view, CHOICES),
        (interviewed(clip, Scripted(), "bf16"), view, CHOICES),
        (interviewed(clip, Scripted(), phrases=[f"a {p}" for p in PHRASES]), view, CHOICES),
        (interviewed(clip, Scripted()), clip.on("clean", "contrast", 3), CHOICES),
        (interviewed(clip, Scripted()), clip.on("calibration", limit=134), CHOICES),
        (interviewed(clip, Scripted()), view, other_choices),
    ):
        interviewer.answers(seen, choices)
        assert interviewer.asked == 3


def test_pictures_are_those_of_the_condition(clip: Evaluation) -> None:
    clean, dark = Scripted(), Scripted()
    interviewed(clip, clean).answers(clip.on("clean"), CHOICES)
    interviewed(clip, dark).answers(clip.on("clean", "brightness", 5), CHOICES)
    assert all(
        lit > plain + 10 for (_, plain), (_, lit) in zip(clean.asked, dark.asked, strict=True)
    )


def test_blocks_are_asked_apart(clip: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multimodal, "BLOCK", 2)
    model = Scripted()
    interviewer = interviewed(clip, model)
    whole = interviewer.answers(clip.on("clean"), CHOICES)
    assert interviewer.asked == 3
    # The first block of a longer list is the same block.
    part = HardChoices(CHOICES.rows[:2], CHOICES.true[:2], CHOICES.other[:2])
    kept = interviewed(clip, Scripted())
    np.testing.assert_array_equal(
        kept.answers(clip.on("clean"), part).likelihoods, whole.likelihoods[:2]
    )
    assert kept.asked == 0


@pytest.mark.slow
def test_the_bundled_model_is_the_references_own_and_no_others(tmp_path: Path) -> None:
    clip = Evaluation(RunConfig(("reference",), limit=40, cache_dir=tmp_path), "reference")
    view = clip.on("lmm")
    choices = hard_choices(view, clip.phrases)
    answers = clip.multimodal.answers(view, choices)
    assert len(answers.said) == len(choices) > 0
    assert answers.about["vision_tower"] == "timm ese_vovnet19b_slim"
    named = RunConfig(("mine",), sources={"mine": "reference"}, limit=4, cache_dir=tmp_path)
    assert Evaluation(named, "mine").multimodal.model.info.name == "reference"
    other = RunConfig(
        ("other",), sources={"other": "local-dir:" + str(_copy(tmp_path))}, cache_dir=tmp_path
    )
    with pytest.raises(NotRun, match="needs --clip-lmm MODEL"):
        _ = Evaluation(other, "other").multimodal
    given_one = RunConfig(
        ("other",),
        sources={"other": "local-dir:" + str(tmp_path / "copy")},
        cache_dir=tmp_path,
        lmm="reference",
    )
    assert Evaluation(given_one, "other").multimodal.model.info.name == "reference"


def _copy(folder: Path) -> Path:
    import shutil

    from pytest_cliprobust.targets.reference import data_folder

    return Path(shutil.copytree(data_folder() / "reference", folder / "copy"))


def test_a_users_pictures_are_asked_about_by_their_class_names(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", each=3)
    options = RunConfig(("reference",), data=str(photos), cache_dir=tmp_path / "cache")
    clip = Evaluation(options, "reference")
    view = clip.on("lmm")
    assert view.class_names == ("cat", "dog")
    choices = HardChoices(np.arange(2), view.labels[:2], 1 - view.labels[:2])
    model = Scripted()
    interviewed(clip, model, phrases=clip.phrases).answers(view, choices)
    assert "cat or dog" in model.asked[0][0] or "dog or cat" in model.asked[0][0]


@given(st.lists(st.text(), max_size=5))
def test_texts_survive_the_cache(texts: list[str]) -> None:
    clean = [text.encode("utf-8", "ignore").decode() for text in texts]
    array = packed(clean)
    assert array.dtype == np.float32
    assert unpacked(array) == clean
