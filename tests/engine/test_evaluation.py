"""What the size of a pass alone changes, from logits that are known; what options an evaluation heeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from pytest_cliprobust.datasets.depth.files import DepthFiles
from pytest_cliprobust.engine import evaluation, head
from pytest_cliprobust.engine.evaluation import CachedText, Evaluation, RunConfig
from pytest_cliprobust.engine.view import Classifier, View
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.targets.planted import SWAPPED
from pytest_cliprobust.targets.reference import data_folder

USUAL = np.array([[2.0, 0.0], [0.0, 1.0]])


def noise_of(
    usual: Any, other: Any, probability: str = "softmax", precision: str = "fp32"
) -> tuple[float, float]:
    """Return the noise of a model whose passes of the usual and of another size give these logits."""
    encoder = SimpleNamespace(
        images=lambda data: usual, regrouped=lambda data, chunk: other, precision=precision
    )
    clip: Any = SimpleNamespace(
        dataset=lambda name, limit: name,
        classifier=SimpleNamespace(cosines=lambda features, data: features, logits=lambda x: x),
        encoder=encoder,
        target=SimpleNamespace(probability=probability),
        model="mine",
    )
    noise: Any = vars(Evaluation)["noise"]
    found: tuple[float, float] = noise.func(clip)
    return found


def test_the_largest_change_of_a_probability_and_of_its_logarithm_is_noise() -> None:
    assert noise_of(USUAL, USUAL) == (0.0, 0.0)
    other = USUAL + np.array([[0.0, 1e-5], [0.0, 0.0]])
    share, nats = noise_of(USUAL, other)
    one, two = (1.0 / (1.0 + math.exp(-x)) for x in (2.0, 2.0 - 1e-5))
    assert share == pytest.approx(one - two, rel=1e-6)
    assert nats == pytest.approx(math.log(1.0 - two) - math.log(1.0 - one), rel=1e-6)
    assert noise_of(other, USUAL) == pytest.approx((share, nats))
    # A class that is next to impossible has a logarithm, too.
    assert noise_of(np.array([[0.0, -900.0]]), np.array([[0.0, -900.0]])) == (0.0, 0.0)


def test_answers_that_flip_are_noise_however_near_their_logits() -> None:
    usual, other = (np.array([[1e-9 * sign, 0.0], [2.0, 0.0]]) for sign in (1, -1))
    with pytest.raises(ClipRobustError, match=r"'mine': probabilities or answers change by 0\.5"):
        noise_of(usual, other)


@pytest.mark.parametrize(
    ("metric", "floor"),
    [
        ("accuracy", 0.25),
        ("nll", 0.5),
        ("temperature", 0.0),  # has a least value, and no largest
        ("no metric at all", 0.0),
    ],
)
def test_what_noise_widens_depends_on_the_unit(metric: str, floor: float) -> None:
    clip: Any = SimpleNamespace(noise=(0.25, 0.5))
    assert Evaluation.noise_floor(clip, metric) == floor


def test_samples_stand_beside_the_labels_and_beside_the_negative_ones() -> None:
    features = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    labels, negative = torch.eye(2), torch.tensor([[0.6, 0.8], [-1.0, 0.0], [0.0, -1.0]])
    data: Any = SimpleNamespace(name="mine", ids=("a", "b"))
    clip: Any = SimpleNamespace(negatives=SimpleNamespace(labels=labels, weights=negative))

    def view_of(rows: torch.Tensor) -> View:
        return View(Condition("mine"), data, lambda: rows, lambda: None)  # type: ignore[arg-type,return-value]

    inside, outside = Evaluation.beside_negatives(clip, view_of(features))
    np.testing.assert_allclose(inside, [[1.0, 0.0], [0.0, 1.0]], atol=1e-7)
    np.testing.assert_allclose(outside, [[0.6, -1.0, 0.0], [0.8, 0.0, -1.0]], atol=1e-7)
    with pytest.raises(ClipRobustError, match=r"mine.*b"):  # which sample it is
        Evaluation.beside_negatives(clip, view_of(features * torch.tensor([[1.0], [0.0]])))


# --- Options ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of three classes, one of them cut short."""
    for number in range(12):
        path = tmp_path / "photos" / ("ant", "cat", "dog")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), (20 * number, 255 - 20 * number, 90)).save(path)
    path.write_bytes(path.read_bytes()[:40])
    return tmp_path / "photos"


@pytest.fixture
def clip(folder: Path, tmp_path: Path) -> Callable[..., Evaluation]:
    def make(**options: Any) -> Evaluation:
        config = RunConfig(
            ("reference",), **{"data": str(folder), "cache_dir": tmp_path / "cache", **options}
        )
        return Evaluation(config, "reference")

    return make


def test_the_smaller_limit_counts(clip: Callable[..., Evaluation]) -> None:
    limited, free = clip(limit=5), clip()
    assert [len(limited.dataset("clean", limit)) for limit in (None, 3, 9)] == [5, 3, 5]
    assert [len(free.dataset("clean", limit)) for limit in (None, 3, 90)] == [12, 3, 12]


def test_what_cannot_be_read_is_left_out_where_that_is_asked_for(
    clip: Callable[..., Evaluation],
) -> None:
    left_out = clip(bad_data="skip")
    assert len(left_out.dataset("clean")) == 11
    (told,) = left_out.skipped.values()
    assert [name for name, _ in told.samples] == ["dog/11.png"]
    assert len(clip().dataset("clean")) == 12


def test_whose_templates_they_are(clip: Callable[..., Evaluation]) -> None:
    own = clip(templates=("a {}.", "the {}."), templates_file="mine.txt")
    (told,) = own.template_summaries().values()
    assert (told.name, told.count) == ("mine.txt", 2)
    (other,) = clip(templates=("a {}.", "this {}.")).template_summaries().values()
    assert other.digest != told.digest
    (told,) = clip().template_summaries().values()
    assert (told.name, told.count) == ("OpenAI's for ImageNet, as none are given", 80)
    (told,) = clip(data="embedded").template_summaries().values()
    assert (told.name, told.count) == ("the data's own", 8)


def test_fonts_and_depth_are_looked_at_before_anything_is_measured(
    clip: Callable[..., Evaluation], tmp_path: Path
) -> None:
    assert clip().encoder.depth is None
    assert isinstance(clip(depth=str(tmp_path)).encoder.depth, DepthFiles)
    with pytest.raises(ClipRobustError, match="there is no such folder"):
        clip(depth="./nowhere")
    (tmp_path / "no font").write_text("letters")
    with pytest.raises((ClipRobustError, NotRun), match="no font"):
        clip(font=tmp_path / "no font")


def test_data_with_classes_of_its_own_has_a_head_of_its_own(
    clip: Callable[..., Evaluation],
) -> None:
    made = clip(templates=("a {}.",), limit=5)
    data: Any = SimpleNamespace(class_names=("wolf", "crane"), own_classes=True)
    expected = head.zero_shot_head(CachedText(made.encoder), ["wolf", "crane"], ["a {}."])
    assert torch.equal(made.classifier_of(data).weights, expected)
    data.own_classes = False
    assert made.classifier_of(data) is made.classifier
    assert made.classifier.weights.shape[0] == 3
    # Texts of its own go with templates of its own, else with those for photographs.
    data.own_texts, data.templates = ("a wolf", "a crane"), ("{}",)
    plain = head.zero_shot_head(CachedText(made.encoder), ["a wolf", "a crane"], ["{}"])
    assert torch.equal(made.classifier_of(data).weights, plain)


@pytest.mark.parametrize("limit", [True, 1.0, 2.5, "3", [3]])
def test_a_limit_is_a_whole_number(clip: Callable[..., Evaluation], limit: Any) -> None:
    with pytest.raises(ClipRobustError, match="a limit is a whole number of samples, not"):
        clip().on("clean", limit=limit)


@pytest.mark.parametrize("dataset", [None, 3, Path("x"), ("clean",)])
def test_what_is_asked_is_a_name_or_data(clip: Callable[..., Evaluation], dataset: Any) -> None:
    with pytest.raises(ClipRobustError, match="a role, the name of a data set or a data set"):
        clip().on(dataset)


def test_numbers_of_numpy_and_data_sets_may_be_asked(clip: Callable[..., Evaluation]) -> None:
    own = clip()
    assert len(own.on("clean", limit=np.int64(4))) == 4  # type: ignore[arg-type]
    data = own.dataset("clean", 5)
    view = own.on(data)
    assert view.data is data
    assert own.on(data) is view  # as long as somebody holds it


# --- Heads and whose they are, of stand-ins -----------------------------------------------------------


class Heads:
    """An evaluation that only makes heads: their weights are their class texts' lengths."""

    templates = ("a {}.",)

    def __init__(self) -> None:
        self._heads: dict[Any, Any] = {}
        self.made: list[Any] = []
        self.checked = 0

    def check(self) -> None:
        self.checked += 1

    @property
    def classifier(self) -> Any:
        return head_of([1.0, 2.0, 3.0])

    def _classifier(self, templates: Any, labels: Any = None) -> Any:
        self.made.append((templates, labels))
        return head_of([10.0, 20.0, 30.0] if labels is None else [float(len(x)) for x in labels])


def head_of(weights: list[float]) -> Classifier:
    return Classifier(torch.tensor(weights)[:, None], 100.0, None, "softmax")


@pytest.mark.parametrize(
    ("data", "weights", "made"),
    [
        ({}, [1, 2, 3], None),
        ({"own_classes": False}, [1, 2, 3], None),
        ({"head_rows": (2, 0)}, [3, 1], None),
        ({"own_templates": ("my {}.",)}, [10, 20, 30], (("my {}.",), None)),
        ({"own_templates": ("my {}.",), "head_rows": (1,)}, [20], (("my {}.",), None)),
        ({"own_classes": True}, [3, 4], (("a {}.",), ("ant", "bear"))),
        (
            {"own_classes": True, "own_texts": ("a", "bb")},
            [1, 2],
            (tuple(open_clip.OPENAI_IMAGENET_TEMPLATES), ("a", "bb")),
        ),
        ({"own_texts": ("a", "bb"), "templates": ["its {}."]}, [1, 2], (("its {}.",), ("a", "bb"))),
        (
            {"own_texts": ("a", "bb", "ccc"), "own_templates": ("my {}.",), "head_rows": (0, 2)},
            [1, 3],
            (("my {}.",), ("a", "bb", "ccc")),
        ),
    ],
)
def test_which_head_a_data_set_has(data: Any, weights: list[float], made: Any) -> None:
    clip: Any = Heads()
    own: Any = SimpleNamespace(class_names=("ant", "bear"), **data)
    found = Evaluation.classifier_of(clip, own)
    assert found.weights[:, 0].tolist() == weights
    assert clip.made == ([] if made is None else [made])
    again = Evaluation.classifier_of(clip, own)
    assert torch.equal(again.weights, found.weights)
    assert len(clip.made) == (made is not None)  # made once
    assert clip.checked == (len(data) > 0 and data != {"own_classes": False})


def test_a_data_set_with_other_rows_has_another_head() -> None:
    clip: Any = Heads()
    for rows in ((0,), (1, 2), (0,)):
        own: Any = SimpleNamespace(class_names=("ant",), head_rows=rows)
        found = Evaluation.classifier_of(clip, own).weights[:, 0].tolist()
        assert found == [row + 1.0 for row in rows]


@pytest.mark.parametrize(
    ("plant", "texts", "phrases", "wanted"),
    [
        (None, (), None, [["ant"], ["bear"], ["cat"]]),
        (None, (), ("an ant", "a bear", "a cat"), [["an ant"], ["a bear"], ["a cat"]]),
        (
            None,
            (("ant", "emmet"), ("bear",), ("cat",)),
            None,
            [["ant", "emmet"], ["bear"], ["cat"]],
        ),
        (SWAPPED, (("ant", "emmet"), ("bear",), ("cat",)), None, None),
    ],
)
def test_what_the_classes_are_called(plant: Any, texts: Any, phrases: Any, wanted: Any) -> None:
    clean = SimpleNamespace(class_names=("ant", "bear", "cat"))
    if texts:
        clean.texts = texts
    if phrases:
        clean.phrases = phrases
    clip: Any = SimpleNamespace(dataset=lambda name: clean, config=SimpleNamespace(plant=plant))
    clip.phrases = vars(Evaluation)["phrases"].func(clip)
    found = [list(own) for own in vars(Evaluation)["texts"].func(clip)]
    if wanted is None:  # planted: each class has another's name, and one alone
        assert found == [[name] for name in clip.phrases]
        assert sorted(clip.phrases) == ["ant", "bear", "cat"]
        assert clip.phrases != clean.class_names
    else:
        assert found == wanted
        assert list(clip.phrases) == [own[0] for own in wanted]


@pytest.mark.parametrize(
    ("lmm", "model", "weights", "digest", "other"),
    [
        ("mine", "anything", ["elsewhere/x"], "d", ""),  # of others nobody says
        ("reference", "reference", ["fleet/base/x"], "d", ""),
        ("reference", "fleet:base", ["fleet/base/x"], "d", "reference"),
        ("reference", "a-link", ["reference/x"], "d", ""),
        ("reference", "a-copy", [], "own", ""),
        ("reference", "another", [], "d", "reference"),
        # Not all of them are bundled: what the weights are decides.
        ("reference", "mixed", ["reference/x", "/elsewhere/x"], "d", "reference"),
        ("reference", "mixed", ["fleet/base/x", "/elsewhere/x"], "own", ""),
    ],
)
def test_whose_encoder_the_bundled_multimodal_model_has(
    monkeypatch: pytest.MonkeyPatch, lmm: str, model: str, weights: Any, digest: str, other: str
) -> None:
    def load(name: str, **options: Any) -> Any:
        assert (name, options) == ("reference", {"device": "cpu", "precision": "fp16"})
        return SimpleNamespace(info=SimpleNamespace(digest="own"))

    monkeypatch.setattr(evaluation, "load_target", load)
    clip: Any = SimpleNamespace(
        config=RunConfig((model,), precision="fp16"),
        model=model,
        target=SimpleNamespace(
            device="cpu",
            info=SimpleNamespace(
                digest=digest, weights=tuple(data_folder() / path for path in weights)
            ),
        ),
    )
    assert Evaluation._other_encoder(clip, lmm) == other


@pytest.mark.parametrize(
    ("precision", "ceiling"), [("fp32", 0.02), ("fp16", 0.05), ("bf16", 0.15), ("int8", 0.15)]
)
def test_how_much_noise_a_precision_explains(precision: str, ceiling: float) -> None:
    """Two classes: the probability of the first moves by a known amount from a half."""
    for share, fine in ((ceiling - 1e-3, True), (ceiling + 1e-3, False)):
        shift = math.log((0.5 + share) / (0.5 - share))
        usual, other = np.array([[1e-9, 0.0]]), np.array([[shift, 0.0]])
        if fine:
            assert noise_of(usual, other, precision=precision)[0] == pytest.approx(share, abs=1e-6)
            continue
        with pytest.raises(
            ClipRobustError, match=f"than the {ceiling:g} that {precision} explains"
        ):
            noise_of(usual, other, precision=precision)


def test_noise_that_is_no_number_ends_the_run() -> None:
    with pytest.raises(ClipRobustError, match="NaN or infinite"):
        noise_of(USUAL, USUAL * np.nan)
