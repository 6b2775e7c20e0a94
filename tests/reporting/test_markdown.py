"""The Markdown report: what it says first, and that it fits where it is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_helpers import HARM, figures, the_run

from pytest_cliprobust.gating.baseline import Baseline, bare_key
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.reporting import files, markdown
from pytest_cliprobust.reporting.earlier import earlier_of, held_against
from pytest_cliprobust.results.run import Run


def beside(run: Run) -> Run:
    """Return the run held against one that is wrong on the last sample only."""
    before = the_run(figures((59,)), "mine", fails=False)
    known = {(bare_key(r.measurement), "mine"): r.figure for r in before.records}
    return replace(run, baseline=Baseline("thresholds.baseline.safetensors", known, None))


def test_it_says_ship_or_not_then_why() -> None:
    lines = markdown.text(beside(the_run(figures(tuple(range(12)))))).splitlines()
    assert lines[0] == "# CLIP robustness: do not ship"
    assert lines[2].startswith(
        "Accuracy on clean fell by 0.2 [0.11, 0.31], from 0.983 to 0.8; a margin of"
    )
    assert lines[2].endswith("1 of 1 bounds fail.")
    assert markdown.text(the_run(figures(()), fails=False)).startswith(
        "# CLIP robustness: no gate\n"
    )


def test_it_names_the_classes_that_lost() -> None:
    text = markdown.text(beside(the_run(figures(tuple(range(12))))))
    table = text.partition("## Classes that lost most")[2].partition("## All figures")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]
    lost = [int(row.split("|")[2]) for row in rows]
    assert sum(lost) <= 12
    assert lost == sorted(lost, reverse=True)
    assert markdown.text(the_run(figures((1,)))).count("## Classes that lost most") == 0


def test_of_two_models_of_one_run_one_is_compared_with_the_other() -> None:
    """And not with itself, whatever model of an earlier run the policy names."""
    old, new = the_run(figures((59,)), "old", fails=False), the_run(figures(tuple(range(12))))
    known = {(bare_key(r.measurement), "old"): r.figure for r in old.records}
    both = replace(
        new,
        records=(*old.records, *new.records),
        baseline=Baseline("old in this run", known, within="old"),
        unjudged=replace(new.unjudged, policy=Policy(baseline_model="elder")),
    )
    comparison, notes = held_against(both, earlier_of(both))
    assert comparison is not None
    assert notes == []
    assert {row.head.model for row in comparison.rows} == {"mine"}
    assert len(comparison.rows) == len(new.records)


def test_what_failed_stands_first_among_the_figures() -> None:
    text = markdown.text(the_run(figures(tuple(range(12)))))
    rows = [row for row in text.splitlines() if row.startswith("| `")]
    assert rows[0].startswith("| `accuracy/accuracy/clean/clean/mine` | ")
    assert rows[0].endswith("| max_decrease 0.03 | fail |")
    assert len(rows) == len(set(rows)) == len(figures((1,)))
    assert "## What was under test" in text


def test_names_do_no_harm() -> None:
    text = markdown.text(the_run(figures((1,), name=f"cat{HARM}"), f"mine{HARM}", harm=HARM))
    for line in text.replace("`", "").splitlines():
        if not line.startswith(("| ", "## ", "    ")):  # code shows tags as they are
            assert "<script" not in line
    assert "\x1b" not in text


@pytest.mark.parametrize("most", [4000, 9000])
def test_it_is_cut_where_there_is_no_room(most: int) -> None:
    run = the_run(figures((1,)))
    long = replace(run, notes=tuple(f"note ü {number}" for number in range(2000)))
    text = markdown.text(long, most=most)
    assert len(text.encode()) <= most - 1024
    assert text.startswith("# CLIP robustness: do not ship\n")
    assert "further lines. The whole is in the HTML and JSON reports" in text.splitlines()[-1]
    assert "Cut here" not in markdown.text(long)


def test_a_comment_is_shorter_than_a_summary(tmp_path: Path) -> None:
    run = the_run(figures((1,)))
    long = replace(run, notes=tuple("x" * 100 for _ in range(1000)))
    for name, most in (("run.comment.md", 65_536), ("run.md", 1024 * 1024)):
        files.write(tmp_path / name, long)
        size = len((tmp_path / name).read_bytes())
        assert size <= most
        assert (size > 65_536) == (name == "run.md")


def test_text_and_code_stand_as_they_are() -> None:
    assert markdown._plain("a|b <i>&") == "a|b &lt;i>&amp;"
    assert markdown._plain("a|b", cell=True) == "a\\|b"
    assert markdown._code("a|b") == "`a|b`"
    assert markdown._code("a|b", cell=True) == "`a\\|b`"
    assert markdown._code("a`b") == "`` a`b ``"
