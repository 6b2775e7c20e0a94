"""The comparison with records: that a difference fails, is shown, and comes with the way to record anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import records

import pytest_cliprobust


def test_a_difference_fails_in_few_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECORD", raising=False)
    record = tmp_path / "record.txt"
    record.write_text("".join(f"line {number}\n" for number in range(300)), encoding="utf-8")
    then = record.read_text(encoding="utf-8")
    records.compare(record, then)
    with pytest.raises(pytest.fail.Exception) as one:
        records.compare(record, then.replace("line 7\n", "line seven\n"))
    said = str(one.value).splitlines()
    assert {"-line 7", "+line seven"} <= set(said)
    assert len(said) < 12
    assert said[-1].endswith(records.HOW)
    with pytest.raises(pytest.fail.Exception) as all_of_it:
        records.compare(record, "")
    assert f"{303 - records.SHOWN} lines more" in str(all_of_it.value)
    monkeypatch.setenv("RECORD", "1")
    with pytest.raises(pytest.skip.Exception):
        records.compare(record, "new\n")
    assert record.read_text(encoding="utf-8") == "new\n"


def test_what_differs_between_machines_is_replaced(tmp_path: Path) -> None:
    text = f"{tmp_path}/a.md  \n{'ab12' * 8} {pytest_cliprobust.__version__} 0.123456789 0.1235 1234567890123"
    assert records.plain(text, tmp_path) == (
        "<folder>/a.md\n<digest> <version> 0.1235 0.1235 1234567890123\n"
    )
