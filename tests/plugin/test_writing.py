"""Whether all that a run will write can be written, before it begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.plugin.writing import check_writing
from pytest_cliprobust.results.history import History

pytestmark = pytest.mark.smoke  # none of them starts a session

#: What is in the way of one file of a run that writes two reports, records, and keeps a history.
IN_THE_WAY = {
    "r.json": "--clip-report",
    "s/r.html": "--clip-report",
    "r.json.unfinished": "--clip-report",
    "r-pictures/picture.png": "--clip-report",
    "t.toml": "--clip-record",
    "t.baseline.safetensors": "--clip-record",
    "h.sqlite": "--clip-history",
}


def check(folder: Path) -> None:
    check_writing(
        [folder / "r.json", folder / "s" / "r.html"], folder / "t.toml", folder / "h.sqlite"
    )


def test_where_nothing_is_in_the_way_nothing_is_left_behind(tmp_path: Path) -> None:
    check(tmp_path / "new")
    check_writing([])
    check_writing([], tmp_path / "t.toml")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_each_file_is_tried(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(
        ClipRobustError, match=f"^{IN_THE_WAY[name]} .*: cannot be written: "
    ) as told:
        check(tmp_path)
    assert f" {tmp_path / name}: " in str(told.value)
    # Pictures and the journal lie beside the first report alone; what was not asked for is not tried.
    check_writing([tmp_path / "s" / "other.html", tmp_path / "x.md"])


def test_a_journal_beside_a_later_report_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "s" / "r.html.unfinished").mkdir(parents=True)
    (tmp_path / "s" / "r-pictures" / "picture.png").mkdir(parents=True)
    check(tmp_path)


def test_a_history_that_is_there_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_text("something else, and more of it")
    with pytest.raises(ClipRobustError, match="not a history"):
        check(tmp_path)
    path.unlink()
    History(path, create=True).close()
    check(tmp_path)
