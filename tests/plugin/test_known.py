"""The names that rules may select, where the history is, and which threshold file is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from history_helpers import a_run, answers, figures

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.plugin import known, remembering
from pytest_cliprobust.plugin import session as sessions
from pytest_cliprobust.plugin.suites import mixed_names
from pytest_cliprobust.results.history import History, default_path


def options(**given: Any) -> Any:
    """Return a configuration with these options, and nothing in its ini file."""
    named = {f"--clip-{name.replace('_', '-')}": value for name, value in given.items()}
    return SimpleNamespace(getoption=named.get, getini=lambda name: "")


def test_suites_lie_in_a_folder_or_one_deeper(tmp_path: Path) -> None:
    for name in (
        "test_a.py",
        "test_z.py",
        "own/test_b.py",
        "own/deep/test_c.py",
        "own/d.py",
        "test_e.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert known.suites_in([tmp_path]) == {"a", "b", "z"}
    assert known.suites_in([tmp_path, tmp_path / "own"]) == {"a", "b", "c", "z"}


def test_what_a_rule_may_name() -> None:
    found = known.vocabularies(("mine",), ("ood",), {"view"})
    assert (found["known_suites"], found["other_suites"]) == (("ood",), {"view"})
    assert found["models"][:2] == ("mine", "reference")
    assert {"ViT-B-32", "ViT-B-32/*", "fleet:*"} <= set(found["models"])
    assert not [name for name in found["models"] if name.endswith(":")]
    assert {"fog_3d", "fog_3d(*", "kornia:*", "*+*", "caption_*"} <= set(
        found["known_perturbations"]
    )
    assert {"clean", "clean:*", "imagefolder:*", "wds:*", "navi:*"} <= set(found["known_datasets"])
    assert "accuracy" in found["known_metrics"]
    assert "quick" in found["known_profiles"]


def test_what_a_slip_is_told_from() -> None:
    own = known.names_elsewhere(RunConfig(("m",)), None)
    assert (own["datasets"], own["replaced_data"]) == ([], False)
    assert {"ViT-B-32", "ViT-B-32/openai"} <= own["known_models"]
    evaluation: Any = SimpleNamespace(dataset=lambda role: SimpleNamespace(name=f"my {role}"))
    given = known.names_elsewhere(RunConfig(("m",), data="imagefolder:x"), evaluation)
    assert given["datasets"][0] == "my clean"
    assert given["replaced_data"]


# --- The history -----------------------------------------------------------------------------------


def test_where_runs_are_kept(tmp_path: Path) -> None:
    config = RunConfig(("m",), cache_dir=tmp_path)
    assert remembering.history_path(options(history="none"), config) is None
    assert remembering.history_path(options(history="h.sqlite"), config) == Path("h.sqlite")
    assert remembering.history_path(options(), config) == default_path(tmp_path)
    kept = [
        remembering.keeps_history(options(history=name), config)
        for name in (None, "none", "h.sqlite")
    ]
    assert kept == [False, False, True]
    planted = replace(config, plant="x=1")
    assert not remembering.keeps_history(options(history="h.sqlite"), planted)


FIGURE = Figure("accuracy", 0.5, 0.4, 0.6, 10).measured_on(Condition("clean"))


def test_a_run_goes_into_the_history_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "my runs.sqlite"
    run = a_run([FIGURE])
    first = remembering.remember(run, run, options(history=str(path), tag=["one"]))
    assert first.kept.startswith("run 1 (cliprobust show 1 --history='")
    # Held against that: drift is told against it from then on, whatever comes later.
    for number, base in ((2, "1"), (3, "2"), (4, "none"), (5, "b.safetensors"), (6, "77")):
        asked = options(history=str(path), baseline=base)
        assert remembering.remember(run, run, asked).kept.startswith(f"run {number} (")
    with History(path) as history:
        entries = history.entries()
    assert [entry.number for entry in entries if entry.anchor] == [1]
    assert [tuple(entry.tags) for entry in entries[:2]] == [("one",), ()]


def test_a_run_is_kept_with_all_of_its_figures(tmp_path: Path) -> None:
    """With their outcomes; that it lies where the command looks by itself is not said."""
    made = figures(answers())
    config = replace(a_run([]).config, cache_dir=tmp_path)
    run = replace(a_run(made), config=config)
    assert remembering.remember(run, run, options()).kept == "run 1 (cliprobust show 1)"
    place = f" --history={default_path(tmp_path)}"
    told = remembering.remember(run, run, options(cache_dir=str(tmp_path)))
    assert told.kept == f"run 2 (cliprobust show 2{place})"
    with History(default_path(tmp_path)) as history:
        kept = history.run(1)
    assert len(kept.figures) == len(made)
    assert all(figure.outcomes is not None for figure in kept.figures.values())


@pytest.mark.parametrize("change", [{"records": ()}, {"config": RunConfig(("m",), plant="x=1")}])
def test_nothing_measured_or_a_planted_loss_is_not_kept(
    change: dict[str, Any], tmp_path: Path
) -> None:
    run, path = replace(a_run([FIGURE]), **change), tmp_path / "h.sqlite"
    assert remembering.remember(run, run, options(history=str(path))) is run
    assert not path.exists()


def test_only_a_history_that_the_user_named_must_be_written(tmp_path: Path) -> None:
    run = a_run([FIGURE])
    broken = tmp_path / "history.sqlite"
    broken.write_bytes(b"no database at all, but long enough to be taken for one" * 40)
    with pytest.raises(ClipRobustError):
        remembering.remember(run, run, options(history=str(broken)))
    own = replace(run, config=replace(run.config, cache_dir=tmp_path))
    told = remembering.remember(own, own, options())
    assert told.kept == ""
    assert told.notes[-1].startswith("this run is not in the history: ")
    assert own.notes == told.notes[:-1]


# --- The threshold file ----------------------------------------------------------------------------


def test_which_threshold_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, root, theirs = (tmp_path / name for name in ("here", "root", "package"))
    for folder in (here, root, theirs):
        folder.mkdir()
    monkeypatch.setattr(sessions, "suites_folder", lambda: theirs / "suites")
    monkeypatch.setattr(sessions, "installed", lambda: False)

    def path(recording: bool = False, **given: Any) -> Path | None:
        made = sessions.Session.__new__(sessions.Session)
        config = options(**given)
        config.invocation_params, config.rootpath = SimpleNamespace(dir=here), root
        made.recording, made.pytest_config = recording, config
        return made._threshold_path()

    assert path() is None
    assert path(True) == here / "thresholds.toml"
    assert path(thresholds="mine.toml") == Path("mine.toml")
    # The package's own is read, and never written.
    for folder, recorded in ((theirs, here), (root, root), (here, here)):
        (folder / "thresholds.toml").touch()
        assert path() == folder / "thresholds.toml"
        assert path(True) == recorded / "thresholds.toml"
    monkeypatch.setattr(sessions, "installed", lambda: True)
    for folder in (here, root):
        (folder / "thresholds.toml").unlink()
    assert path() is None


def test_mixed_headlines_of_the_shipped_suites_are_known_by_name() -> None:
    assert {"mixed_2d", "mixed_3d", "mixed_view"} <= set(mixed_names())
    assert all(name.startswith("mixed_") for name in mixed_names())
    assert set(mixed_names()) <= set(
        known.vocabularies(["reference"], ["view"], [])["known_perturbations"]
    )


# --- Suites elsewhere ------------------------------------------------------------------------------


def test_suites_lie_anywhere_below_and_not_in_what_is_installed(tmp_path: Path) -> None:
    for name in (
        *("test_a.py", "b_test.py", "helper.py", "deep/down/here/test_c.py", "test_d.txt"),
        *(".hidden/test_x.py", "deep/site-packages/test_x.py", "node_modules/test_x.py"),
        *("build/test_x.py", "deep/dist/test_x.py", "__pycache__/test_x.py"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    marked = "@pytest.mark.clip_suite(\"one\")\ndef test_x(): ...\n@pytest.mark.clip_suite('two')\n"
    (tmp_path / "deep" / "test_e.py").write_text(marked, encoding="utf-8")
    below = {"c", "e", "one", "two"}
    assert known.suites_below([tmp_path]) == {"a", "b_test", *below}
    assert known.suites_below([tmp_path / "deep", tmp_path / "none"]) == below
    assert known.suites_below([tmp_path / "deep" / "down", tmp_path / "build"]) == {"c", "x"}
    assert known.suites_below([]) == set()


@pytest.mark.parametrize(
    ("folders", "found"),
    [(1, "r"), (2, "ra"), (3, "rax"), (4, "raxb"), (5, "raxbc"), (6, "raxbcd"), (99, "raxbcd")],
)
def test_behind_so_many_folders_nobody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: int, found: str
) -> None:
    """In the order of their names, so that the same are left out everywhere."""
    monkeypatch.setattr(known, "FOLDERS", folders)
    for name, place in {"r": ".", "d": "d", "c": "c", "x": "a/x", "b": "b", "a": "a"}.items():
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / f"test_{name}.py").touch()
    assert known.suites_below([tmp_path]) == set(found)


def test_why_there_is_no_suite_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").touch()
    why = known.NoSuite(["accuracy", "ood"], [tmp_path])
    assert [why(name) for name in ("ood", "acc*", "mine", "m*", "*")] == [""] * 5
    assert why("z*") == "no suite is called like 'z*', here or below"
    assert why("acuracy") == (
        "no suite is called 'acuracy': there is no test_acuracy.py here or below. Did you mean 'accuracy'?"
    )
    assert why("minne").endswith("Did you mean 'mine'?")
    assert why("xyz") == "no suite is called 'xyz': there is no test_xyz.py here or below."
