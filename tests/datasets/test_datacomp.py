"""DataComp's tasks as one pack, on fixture shards in the published structure."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_helpers import (
    THINGS,
    datacomp_cache,
    datacomp_pack,
    encoded,
    first_seed,
    pixels_of,
    task_shards,
)
from sklearn.metrics import balanced_accuracy_score, f1_score, jaccard_score

from pytest_cliprobust import cli
from pytest_cliprobust.datasets.layouts import datacomp
from pytest_cliprobust.datasets.layouts.datacomp import OF, TASKS
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.registry import LAYOUTS
from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.properties import tasks

NAMES = (
    *("vtab-pets", "imagenet1k", "imagenetv2", "wilds-iwildcam", "wilds-fmow", "dollar_street"),
    "fairface",
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datacomp_pack(tmp_path_factory.mktemp("datacomp"))


def untouched(image: Any, size: int) -> Any:
    return image


def test_the_published_tasks_and_their_metrics() -> None:
    """38 count in the mean, and two data sets of faces stand beside them."""
    counted = {key for key, known in TASKS.items() if known.task.pack}
    assert len(counted) == OF == 38
    assert set(TASKS) - counted == {"fairface", "utkface"}
    metrics = [TASKS[key].task.metric for key in counted]
    assert {metric: metrics.count(metric) for metric in set(metrics)} == {
        "accuracy": 27,
        "balanced_accuracy": 4,
        "mean_recall_at_1": 2,
        "worst_group_accuracy": 2,
        "worst_group_top5_accuracy": 1,
        "macro_f1": 1,
        "jaccard_index": 1,
    }
    assert set(metrics) <= set(METRICS)
    for known in TASKS.values():
        assert known.task.column in ("", *known.columns)


def test_a_pack_plays_several_roles(pack: Path) -> None:
    provider = provider_of(f"datacomp:{pack}")
    named = {role: [provider.name_of(key) for key in keys] for role, keys in provider.sets.items()}
    assert named == {
        "tasks": [f"datacomp:{name}" for name in NAMES],
        "clean": ["datacomp:imagenet1k"],
        "shift": ["datacomp:imagenetv2"],
        "calibration": ["datacomp:imagenet1k:calibration"],
    }
    provider.check_paths()
    alone = provider_of(f"tasks=datacomp:{pack}")
    assert set(alone.sets) == {"tasks"}
    # One folder of it is a data set like others.
    one = provider_of(f"clean=datacomp:{pack / 'wds_vtab-pets_test'}")
    assert set(one.sets) == {"clean", "calibration"}


def test_mistakes(pack: Path, tmp_path: Path) -> None:
    for text, words in (
        (f"far_ood=datacomp:{pack}", "nothing in this pack plays far_ood; it has data for tasks, "),
        (f"tasks=mine=datacomp:{pack}", "a pack of 7 data sets has no name"),
        (f"datacomp:{tmp_path}", r"should hold folders wds_<task>_test, .* it has nothing$"),
    ):
        with pytest.raises(ClipRobustError, match=words) as caught:
            provider_of(text)
        assert "\n" not in str(caught.value)
    with pytest.raises(ClipRobustError, match="does not exist"):
        provider_of(f"datacomp:{tmp_path / 'none'}").check_paths()
    for name in "fedcba":
        (tmp_path / "things" / name).mkdir(parents=True)
    with pytest.raises(ClipRobustError, match=r"or hf_cache; it has a, b, c, d, e$"):
        provider_of(f"datacomp:{tmp_path / 'things'}")
    other = task_shards(tmp_path / "wds_vtab-petz_test", THINGS, [(0, ())])
    with pytest.raises(ClipRobustError, match=r"should be wds_<task>_test .*Did you mean"):
        LAYOUTS["datacomp"](other)
    faces = pack / "wds_fairface_test"
    shutil.copytree(faces, tmp_path / faces.name)
    (tmp_path / faces.name / "classnames.txt").write_text("gender:man\n")
    with pytest.raises(ClipRobustError, match=r"gender '1' is none of the 1 of classnames.txt"):
        LAYOUTS["datacomp"](tmp_path / faces.name)


def test_a_task_knows_its_metadata_by_name(pack: Path) -> None:
    data: Any = LAYOUTS["datacomp"](pack / "wds_wilds-fmow_test", frame=untouched, size=16)
    assert data.name == "datacomp:wilds-fmow"
    assert data.class_names == THINGS
    assert data.templates == ("a photo of a {}.", "a drawing of the {}.")
    assert set(data.groups) == {"region", "year", "y"}
    assert data.task == TASKS["wilds-fmow"].task
    row = data.ids.index("1/s0000017")
    assert data.groups["region"][row] == str(17 % 4)
    assert np.array_equal(
        data.load([row]).images[0].numpy(), pixels_of(first_seed(pack / "wds_wilds-fmow_test") + 17)
    )
    assert data.groups["y"] == tuple(map(str, data.labels))


def test_of_faces_one_question_is_asked(pack: Path) -> None:
    data: Any = LAYOUTS["datacomp"](pack / "wds_fairface_test")
    assert data.class_names == ("man", "woman")
    assert data.templates == ("a photo of a {}.",)
    assert data.groups["gender"] == tuple(map(str, data.labels))


def arrow_file(path: Path, columns: dict[str, list[Any]]) -> Path:
    """Write a table in Arrow's form."""
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        arrow.OSFile(str(path), "wb") as sink,
        arrow.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    return path


def test_pictures_with_captions_are_numbered_through(tmp_path: Path) -> None:
    images = [{"bytes": encoded(n, "png")} for n in range(3)]
    arrow_file(
        tmp_path / "a.arrow",
        {"image": images[:2], "caption": [["one", "two"], ["three"]], "x": [1, 2]},
    )
    arrow_file(tmp_path / "b.arrow", {"image": images[2:], "caption": ["four"]})
    data = datacomp._cached("c", tmp_path, size=16, frame=untouched)
    found = dict(zip(data.ids, data.captions, strict=True))
    assert found == {"0": ("one", "two"), "1": ("three",), "2": ("four",)}
    for row, name in enumerate(data.ids):
        assert np.array_equal(data.load([row]).images[0].numpy(), pixels_of(int(name)))
    assert len(set(data.sample_digests)) == 3


def test_candidates_of_a_cue(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "candidate_images": [
            [{"bytes": encoded(n, "png")} for n in (0, 1, 2)],
            [{"bytes": encoded(3, "png")}],
        ],
        "cue": ["Owl", "bat"],
        "candidates": [["a", "b", "c"], ["d"]],
        "associations": [["b", "c"], ["x"]],
    }
    arrow_file(tmp_path / "w.arrow", columns)
    data = datacomp._cached("w", tmp_path, size=16, frame=untouched)
    told = {
        name: (
            data.captions[n],
            data.groups["associated"][n],
            data.groups["candidates"][n],
            data.units[n],
        )
        for n, name in enumerate(data.ids)
    }
    assert told == {
        "0+0/0": (("An owl",), "0", "3", "0+0"),
        "0+0/1": (("An owl",), "1", "3", "0+0"),
        "0+0/2": (("An owl",), "1", "3", "0+0"),
        "0+1/0": (("A bat",), "0", "1", "0+1"),
    }
    numbers = {"0+0/0": 0, "0+0/1": 1, "0+0/2": 2, "0+1/0": 3}
    for row, name in enumerate(data.ids):
        assert np.array_equal(data.load([row]).images[0].numpy(), pixels_of(numbers[name]))
    for left_out in columns:
        rest = {name: values for name, values in columns.items() if name != left_out}
        arrow_file(tmp_path / left_out / "w.arrow", rest)
        with pytest.raises(
            ClipRobustError, match="should have columns image and caption, or those"
        ):
            datacomp._cached("w", tmp_path / left_out, size=16)


def test_the_pack_passes_its_check(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "check", f"datacomp:{pack}"]) == 0
    text = capsys.readouterr().out
    assert "tasks datacomp:vtab-pets: 25 samples" in text
    assert "clean datacomp:imagenet1k: 60 samples" in text
    assert "column region: '0', '1', '2', '3'" in text


@pytest.mark.slow
def test_figures_are_those_of_scikit_learn(pack: Path, shared_cache: Path) -> None:
    """With the model's own answers, to 1e-6; each task by its own classes and templates."""
    clip = Evaluation(
        RunConfig(("reference",), data=f"datacomp:{pack}", cache_dir=shared_cache), "reference"
    )

    def answers(view: Any) -> Any:
        return view.logits.argmax(axis=1)

    def worst(view: Any, right: Any, column: str) -> float:
        values = np.array(view.groups[column])
        return float(min(np.mean(right[values == value]) for value in set(values)))

    def five(view: Any) -> Any:
        best = np.argsort(-view.logits, axis=1)[:, :5]
        return (best == view.labels[:, None]).any(axis=1)

    def f1(view: Any) -> Any:
        known = np.unique(view.labels)
        return f1_score(view.labels, answers(view), labels=known, average="macro", zero_division=0)

    expected: dict[str, Callable[[Any], float]] = {
        "imagenet1k": lambda v: np.mean(answers(v) == v.labels),
        "imagenetv2": lambda v: np.mean(answers(v) == v.labels),
        "vtab-pets": lambda v: balanced_accuracy_score(v.labels, answers(v)),
        "wilds-iwildcam": f1,
        "wilds-fmow": lambda v: worst(v, answers(v) == v.labels, "region"),
        "dollar_street": lambda v: worst(v, five(v), "income"),
        "fairface": lambda v: worst(v, answers(v) == v.labels, "race"),
    }
    views = {view.condition.dataset.partition(":")[2]: view for view in clip.all_on("tasks")}
    assert set(views) == set(expected)
    for name, view in views.items():
        figure = tasks.score_of(view)
        assert figure.value == pytest.approx(expected[name](view), abs=1e-6), name
        assert figure.low <= figure.value <= figure.high
    # The head is of the faces' two answers, whatever clean's classes are.
    assert views["fairface"].logits.shape == (18, 2)
    assert clip.on("clean").logits.shape[1] == len(THINGS)
    # What calibrates clean is measured nowhere else.
    assert views["imagenet1k"].ids == clip.on("clean").ids
    assert len(clip.on("clean")) + len(clip.on("calibration")) == 60
    (mean,) = tasks.means_over(views.values())
    shown = [expected[name](views[name]) for name in NAMES if name != "fairface"]
    assert mean.value == pytest.approx(np.mean(shown), abs=1e-6)
    assert (mean.details["count"], mean.details["of"]) == (6, 38)


@pytest.mark.slow
def test_tasks_of_pictures_and_texts(pack: Path, tmp_path: Path, shared_cache: Path) -> None:
    pytest.importorskip("pyarrow")
    datacomp_cache(tmp_path)
    shutil.copytree(pack / "wds_imagenet1k_test", tmp_path / "wds_imagenet1k_test")
    provider = provider_of(f"datacomp:{tmp_path}")
    assert [provider.name_of(key) for key in provider.of("retrieval")] == [
        "datacomp:flickr_1k_test_image_text_retrieval"
    ]
    config = RunConfig(("reference",), data=f"datacomp:{tmp_path}", cache_dir=shared_cache)
    clip = Evaluation(config, "reference")
    views = {view.condition.dataset.partition(":")[2]: view for view in clip.all_on("tasks")}
    flickr = views["flickr_1k_test_image_text_retrieval"]
    assert flickr.captions[3] == ("thing 3", "a 3")
    assert tasks.score_of(flickr).metric == "mean_recall_at_1"
    data: Any = LAYOUTS["datacomp"](
        tmp_path / "hf_cache" / "nlphuji___winogavil", frame=untouched, size=16
    )
    assert np.array_equal(data.load([5]).images[0].numpy(), pixels_of(100))

    view = views["winogavil"]
    images = view.features.double().numpy()
    expected = []
    for start, size, prompt, right in (
        (5, 10, "A pear", 3),
        (15, 12, "An ant", 4),
        (27, 10, "A sea", 5),
    ):
        assert view.captions[start] == (prompt,)
        word = view.text_features([prompt])[0].double().numpy()
        order = np.argsort(images[start : start + size] @ word)
        belongs = (np.arange(size) >= 1) & (np.arange(size) < 3 + right - 2)
        chosen = np.isin(np.arange(size), order[-int(belongs.sum()) :])
        expected.append(jaccard_score(belongs, chosen))
    figure = tasks.score_of(view)
    assert figure.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert (figure.n, figure.units) == (3, 3)


def test_damaged_arrow_files_are_refused(tmp_path: Path) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    folder = tmp_path / "nlphuji___winogavil"
    folder.mkdir()
    (folder / "winogavil-test.arrow").write_bytes(encoded(1, "png"))
    with pytest.raises(ClipRobustError, match="is no Arrow file"):
        LAYOUTS["datacomp"](folder)
    table = arrow.table({"image": ["x"]})
    with arrow.ipc.new_stream(str(folder / "winogavil-test.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(
        ClipRobustError, match=r"should have columns image and caption.* it has image"
    ):
        LAYOUTS["datacomp"](folder)
