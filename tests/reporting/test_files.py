"""Reports as files: which form an ending stands for, and a form that cannot be made."""

from __future__ import annotations

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
