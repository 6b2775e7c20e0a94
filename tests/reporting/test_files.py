"""Reports as files: which form an ending stands for, and a form that cannot be made."""

from __future__ import annotations

import errno
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from report_helpers import figures, the_run

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.gating.baseline import Baseline, bare_key
from pytest_cliprobust.reporting import files
from pytest_cliprobust.reporting.earlier import earlier_of, held_against


def test_an_ending_that_stands_for_no_form_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match=r"r\.txt: end the name in .*\.json"):
        files.write(tmp_path / "r.txt", the_run(figures((1,))))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["r.md", "r.comment.md", "r.sarif", "r.intoto.jsonl", "r.json"])
def test_the_longest_ending_decides(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = {ending: partial(told, ending) for ending in files.FORMS}
    monkeypatch.setattr(files, "FORMS", forms)
    files.write(tmp_path / name, the_run(figures((1,))))
    assert (tmp_path / name).read_text() == f"{name[1:]} beside {tmp_path}"


def told(ending: str, run: Any, folder: Path) -> str:
    return f"{ending} beside {folder}"


def test_a_fault_of_ours_costs_one_form_and_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(run: Any, folder: Path) -> str:
        return str([][0])

    monkeypatch.setitem(files.FORMS, ".json", breaks)
    with pytest.raises(Unavailable) as caught:
        files.write(tmp_path / "r.json", the_run(figures((1,))))
    line = breaks.__code__.co_firstlineno + 1
    assert str(caught.value).endswith(
        f"a fault of pytest-cliprobust (IndexError: list index out of range, test_files.py:{line})"
    )
    monkeypatch.setitem(
        files.FORMS, ".json", lambda run, folder: (_ for _ in ()).throw(MemoryError())
    )
    with pytest.raises(MemoryError):
        files.write(tmp_path / "r.json", the_run(figures((1,))))


def test_only_the_figures_that_are_asked_for_are_compared() -> None:
    """Each takes a bootstrap."""
    before = the_run(figures((59,)), "mine", fails=False)
    known = {(bare_key(r.measurement), "mine"): r.figure for r in before.records}
    run = the_run(figures((1, 2)))
    assert held_against(run, earlier_of(run)) == (None, [])
    run = replace(run, baseline=Baseline("b.safetensors", known, None))
    keys = [record.key for record in run.records]
    for wanted in (None, keys[1:3], []):
        comparison, notes = held_against(run, earlier_of(run), wanted)
        assert notes == []
        assert comparison is not None
        assert {row.key for row in comparison.rows} == set(keys if wanted is None else wanted)


@pytest.mark.parametrize("name", ["file/r.json", "folder.json"])
def test_a_place_that_cannot_be_written_is_told_before_and_after_a_run(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.json").mkdir()
    run = the_run(figures((1,)))
    with pytest.raises(ClipRobustError) as before:
        files.check(tmp_path / name)
    with pytest.raises(ClipRobustError) as after:
        files.write(tmp_path / name, run)
    assert str(before.value) == str(after.value)
    assert f"{name}: cannot be written" in str(after.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.json"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    files.check(tmp_path / "new" / "r.json")
    assert not list(tmp_path.rglob("*.json"))
    (tmp_path / "old.json").write_text("mine")
    files.check(tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text() == "mine"


def test_a_disk_that_fills_up_at_the_end_and_slips_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = the_run(figures((1,)))
    with monkeypatch.context() as patch:
        patch.setattr(files, "replace_file", full)
        with pytest.raises(Unavailable, match=r"r\.json: cannot be written"):
            files.write(tmp_path / "r.json", run)

    def slips(run: Any, folder: Path) -> str:
        raise ClipRobustError("a slip")

    monkeypatch.setitem(files.FORMS, ".json", slips)
    with pytest.raises(ClipRobustError, match=r"^a slip$"):
        files.write(tmp_path / "r.json", run)
