"""What a page has room for: whatever a run holds, the page is bounded, and says what is left out."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from PIL import Image
from report_helpers import HARM, Elements, head
from report_helpers import base as earlier

from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.reporting.html import plots, room
from pytest_cliprobust.reporting.html.gallery import Album, Card
from pytest_cliprobust.reporting.html.page import page_of
from pytest_cliprobust.reporting.html.pictures import Shown
from pytest_cliprobust.reporting.html.sections import Group, Plot, Section, SuitePart
from pytest_cliprobust.results.compare import compare
from pytest_cliprobust.results.earlier import Earlier
from pytest_cliprobust.results.record import Evidence

LONG = f"{HARM} and so on, " * 20
MODELS, FIGURES = 12, 6000


def extreme(folder: Path) -> Earlier:
    """Return a run of twelve models of which 6,000 bounds fail, with long texts wherever there are texts."""
    picture = folder / "p.png"
    Image.effect_noise((640, 480), 90).save(picture)
    own = head(harm=HARM)
    clean = next(key for key, one in own.measurements.items() if one.metric == "accuracy")
    figure = own.measurements[clean].figure
    verdict = {**own.verdicts[clean], "explanation": LONG, "because": LONG}
    measurements = {}
    for number in range(FIGURES):
        model, suite = f"model-{number // 20 % MODELS}", f"suite {number // 20}"
        steps = (Step(f"fog{number // 5 % 4}", 1 + number % 5),)
        here = replace(figure).measured_on(Condition("clean", steps))
        one = Measurement(suite, model, here)
        measurements[one.key] = one
    reasons = [{"test": f"test_{n}", "suite": "s", "reason": LONG} for n in range(1500)]
    lists = dict.fromkeys(
        ("notes", "bounds_not_judged", "mistakes", "troubles", "not_collected"), [LONG] * 500
    )
    return replace(
        own,
        measurements=measurements,
        verdicts=dict.fromkeys(measurements, verdict),
        tests=dict.fromkeys(measurements, "test_x.py::test_x"),
        evidence=dict.fromkeys(
            measurements, Evidence((("seen", LONG),), {}, f"cliprobust {LONG}", str(picture))
        ),
        header={**own.header, **lists, "not_run": reasons, "missing": reasons},
    )


@pytest.mark.slow
def test_a_page_is_bounded_whatever_a_run_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "inline", lambda figure, name, label: Markup("<svg>" + "x" * 60_000))
    run = extreme(tmp_path)
    # A comparison of 6,000 figures takes a minute: those of which there is an earlier one are few.
    few = dict(list(run.measurements.items())[:20])
    before = replace(earlier(), measurements={**few, **earlier().measurements})
    made = page_of(run, compare(before, replace(run, measurements={**few}), base_model="model-0"))
    assert 3_000_000 < len(made.encode()) <= room.PAGE == 5_000_000
    found = Elements(made)
    words = " ".join(found.words.split())
    told = re.search(r"([\d,]+) of 6,000 figures are shown", words)
    assert told is not None
    rows = [own for own in found.all("tr") if str(own.get("id", "")).startswith("figure/")]
    assert len(rows) == int(told[1].replace(",", "")) > 50
    for text in (
        *("more drawings had no room in this page", "more bounds are missed with evidence"),
        *("more suites had no room here", "letters more: the JSON report has all", "… and "),
    ):
        assert text in words, text
    assert "6000</b><span>bounds fail" in made  # what is left out is counted
    links = {str(own["href"])[1:].split("?")[0] for own in found.all("a")}
    assert links <= {own["id"] for _, own in found.found if own.get("id")}
    assert "alert(1)" not in found.script
    pictures = [str(own["src"]) for own in found.all("img")]
    assert pictures
    for uri in pictures:  # whole: a long one is not cut as a long text is
        Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))).load()


@given(st.lists(st.integers(0, 50)), st.integers(0, 200))
def test_what_fits_is_the_longest_beginning(sizes: list[int], most: int) -> None:
    kept = room.fitting(((n, taken) for n, taken in enumerate(sizes)), most)
    assert kept == list(range(len(kept)))
    assert sum(sizes[: len(kept)]) <= most
    assert len(kept) == len(sizes) or sum(sizes[: len(kept) + 1]) > most


@given(st.text(max_size=200), st.integers(1, 100))
def test_a_long_text_is_cut_and_says_so(text: str, most: int) -> None:
    cut = room.shortened(text, most)
    assert cut.startswith(text[:most])
    if len(text) > most:
        letters = "letter" if len(text) == most + 1 else "letters"
        assert f" … ({len(text) - most:,} {letters} more: " in cut
    else:
        assert cut == text
    assert room.size(text) == len(text.encode("utf-8", "replace"))


def test_a_list_says_how_many_are_left_out() -> None:
    assert room.listed(["a", "b"]) == ["a", "b"]
    assert room.listed(["a" * 900] * 5, 2500) == [
        *["a" * 900] * 2,
        "… and 3 more: the JSON report has all (--clip-report report.json)",
    ]


def part(name: str, sizes: list[list[int]], *, fails: bool = False) -> SuitePart:
    """Return a suite whose drawings take so many bytes, group by group."""

    class Suite(SuitePart):
        failed = int(fails)

    groups = (
        Group(f"{name}{n}", tuple(Plot(partial(Markup, "x" * s)) for s in own))
        for n, own in enumerate(sizes)
    )
    return Suite(name, (), tuple(groups))


def shown(sections: tuple[Section, ...]) -> dict[str, int]:
    return {g.title: len(g.plots) for section in sections for s in section.suites for g in s.groups}


def test_what_fails_is_drawn_first_and_no_suite_takes_all() -> None:
    own = [
        Section("x", "X", (part("a", [[10, 10], [10]]), part("b", [[10], [10]]))),
        Section("y", "Y", (part("c", [[10, 10]], fails=True),)),
    ]
    assert shown(room.drawn(own, 70)) == {"a0": 2, "a1": 1, "b0": 1, "b1": 1, "c0": 2}
    assert shown(room.drawn(own, 50)) == {"a0": 2, "a1": 0, "b0": 1, "b1": 0, "c0": 2}
    made = room.drawn(own, 15)
    assert shown(made) == {"a0": 0, "a1": 0, "b0": 0, "b1": 0, "c0": 1}
    assert made[1].suites[0].groups[0].note == "1 more drawing had no room in this page."


def test_too_many_suites_are_counted_those_that_fail_stay(monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "SUITES", 2)
    own = [Section("x", "X", (part("a", []), part("b", []), part("c", [], fails=True)))]
    (made,) = room.drawn(own)
    assert [suite.name for suite in made.suites] == ["a", "c"]
    assert [suite.name for suite in made.hidden] == ["b"]
    assert made.failed == 1


def test_cards_of_the_first_albums_stay() -> None:
    card = Card("s", True, "", "", "", True, Shown("x" * 10, "y" * 10))
    line: Any = None
    albums = (Album(line, 9, 0, (card, card)), Album(line, 5, 0, (card, card)))
    assert [len(album.cards) for album in room.samples(albums, 80)] == [2, 2]
    assert [len(album.cards) for album in room.samples(albums, 65)] == [2, 1]
    (first,) = room.samples(albums, 30)
    assert (first.lost, len(first.cards)) == (9, 1)
    bare = replace(card, shown=None)
    assert len(room.samples((Album(line, 1, 0, (bare,)),), 0)) == 1
