"""The Markdown report: what it says first, and that it fits where it is shown."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from report_helpers import HARM, figures, the_run

from pytest_cliprobust.errors import one_line
from pytest_cliprobust.gating.baseline import Baseline, bare_key
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.waivers import Waived
from pytest_cliprobust.reporting import facts, files, markdown
from pytest_cliprobust.reporting.earlier import earlier_of, held_against
from pytest_cliprobust.results.run import NotMeasured, Run


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


def test_all_failures_that_are_shown_and_how_many_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    run = the_run(figures((1, 2)))
    verdict = run.records[0].verdict
    records = tuple(replace(record, verdict=verdict) for record in run.records)
    failed = replace(run, records=records)
    count = len(records)
    more = "first in the table of all figures."
    for shown, told in (
        (count, None),
        (count + 1, None),
        (count - 1, f"1 more stands {more}"),
        (1, f"{count - 1} more stand {more}"),
    ):
        monkeypatch.setattr(facts, "WORST", shown)
        part = markdown.text(failed).partition("## What failed")[2].partition("\n## ")[0]
        assert part.count("\n| `") == min(shown, count)
        assert (told in part) if told else (more not in part)


def test_every_note_is_told() -> None:
    told = markdown._remarks(replace(the_run(figures((1,))), notes=("a",), not_run=()), ["b", "c"])
    assert told[1:] == [*(f"- **note**: {note}" for note in "abc"), ""]


def test_it_names_the_classes_that_lost() -> None:
    text = markdown.text(beside(the_run(figures(tuple(range(12))))))
    table = text.partition("## Classes that lost most")[2].partition("## All figures")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]
    lost = [int(row.split("|")[2]) for row in rows]
    assert sum(lost) <= 12
    assert lost == sorted(lost, reverse=True)
    assert markdown.text(the_run(figures((1,)))).count("## Classes that lost most") == 0


def test_what_failed_comes_before_classes_and_notes() -> None:
    noted = replace(beside(the_run(figures(tuple(range(12))))), notes=("a note",))
    text = markdown.text(noted)
    first = text.partition("## What failed")[2].partition("## Classes that lost")[0]
    (row,) = (line for line in first.splitlines() if line.startswith("| `"))
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert cells[0] == "`accuracy/accuracy/clean/clean/mine`"
    assert cells[2:] == ["0.983", cells[3], "max_decrease 0.03", "`thresholds.toml:51`"]
    assert re.fullmatch(r"−0\.18\d \[−0\.\d+, −0\.\d+\]", cells[3])
    assert text.index("## Classes that lost most") < text.index("- **note**: a note")
    line = next(line for line in facts.lines_of(earlier_of(noted), None) if line.failed)
    table = markdown._failures([line] * 15)
    assert sum(row.startswith("| `") for row in table) == 12
    assert "3 more stand first in the table of all figures." in table


def test_without_an_earlier_run_it_says_what_is_taken_for_what() -> None:
    text = markdown.text(the_run(figures((0, 1)), fails=False))
    table = text.partition("## Most often confused, on clean pictures")[2].partition("\n\n##")[0]
    rows = [line for line in table.splitlines() if line.endswith("| 1 |")]
    assert len(rows) == 2
    assert rows[0].startswith("| cat | ")


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
    rows = text.partition("## All figures")[2].splitlines()
    rows = [row for row in rows if row.startswith("| `")]
    assert rows[0].startswith("| `accuracy/accuracy/clean/clean/mine` | ")
    assert rows[0].endswith("| max_decrease 0.03 | fail |")
    assert len(rows) == len(set(rows)) == len(figures((1,)))
    assert "## What was under test" in text


def tokens(text: str) -> list[Token]:
    """Return what Markdown makes of a report, as forges read it."""
    made = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [part for token in made for part in (token, *(token.children or ()))]


def harmful(**changes: Any) -> Run:
    """Return a run in which every name, reason and note would do harm."""
    found = the_run(figures(tuple(range(12)), name=f"cat{HARM}"), f"mine{HARM}", harm=HARM)
    waiver = Waived(f"thresholds.toml:60{HARM}", f"why{HARM}", f"who{HARM}", "2026-12-31")
    records = list(found.records)
    told = replace(
        records[1].verdict, status="waived", outcome="warn", kind="min", limit=0.5, waiver=waiver
    )
    records[1] = replace(records[1], verdict=told)
    missing = (NotMeasured(f"test_a.py::b{HARM}", "a", f"why{HARM}"),)
    return replace(found, records=tuple(records), missing=missing, complete=False, **changes)


def test_names_do_no_harm() -> None:
    text = markdown.text(beside(harmful()))
    found = tokens(text)
    assert {"table_open", "code_inline", "heading_open"} <= {token.type for token in found}
    assert not {"html_block", "html_inline", "link_open"} & {token.type for token in found}
    pictures = [token for token in found if token.type == "image"]
    assert [token.attrs["src"] for token in pictures] == ["x.png"]
    # Code and emphasis end where they began, and each row has as many cells as its head.
    plain = [token.content for token in found if token.type == "text"]
    assert any("harm.example" in words for words in plain)
    assert not any("@everyone" in words for words in plain)
    rows = " ".join(token.type for token in found).split("tr_open")[1:]
    assert {row.count("td_open") for row in rows} <= {0, 5, 6, 7}
    assert all(line.isprintable() for line in text.replace("\u200b", "").splitlines())
    assert not any(line.lstrip().startswith(("::", "##[")) for line in text.splitlines())


@pytest.mark.parametrize(
    "text", [HARM, "`", "a``b", "a\\|b", "|", "\\", "@a", "[a](b)", "[a]: b", "a<b&amp;c"]
)
def test_a_cell_shows_what_it_was_given(text: str) -> None:
    row = f"| {markdown._plain(text, cell=True)} | {markdown._code(text, cell=True)} |"
    found = tokens(f"| a | b |\n|---|---|\n{row}\n")
    cells = [token.children or [] for token in found if token.type == "inline"][2:]
    assert len(cells) == 2
    for parts in cells:
        shown = "".join(part.content for part in parts).replace("\u200b", "")
        assert shown == one_line(text)


def test_no_note_defines_where_a_link_leads() -> None:
    lines = [f"- {markdown._plain(text)}" for text in ("[a]: https://harm.example", "see [a]")]
    found = tokens("\n".join(lines))
    assert not [token for token in found if token.type == "link_open"]
    assert "[a]: https://harm.example" in "".join(token.content for token in found)


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


def test_a_text_is_cut_at_whole_lines_and_says_how_many_are_left_out() -> None:
    lines = [*("a" * 99 for _ in range(3)), "ü" * 199 + "b"]  # 100 bytes each, and 400
    whole = markdown._cut(lines, 700)
    assert whole == "\n".join(lines) + "\n"
    for most, kept, left in ((699, 3, "1 further line"), (600, 3, "1 further line")):
        *told, blank, rest = markdown._cut(lines, most).splitlines()
        assert (told, blank) == (lines[:kept], "")
        assert f"no room for more: {left}. The whole" in rest
    *told, _, rest = markdown._cut(lines, 599).splitlines()
    assert told == lines[:2]
    assert ": 2 further lines. " in rest
    assert markdown._cut(["a", "", ""], 99) == "a\n"
