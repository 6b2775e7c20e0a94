"""Waivers: what may be missed for a while, what no waiver may be, and which ones are out of date."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from gating_helpers import HEAD, complaint, measure

from pytest_cliprobust.gating import waivers
from pytest_cliprobust.gating.family import settled
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.stale import find_stale
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.unjudged import Chosen, Unjudged, fails, lines
from pytest_cliprobust.gating.verdict import Verdict, judge, waivers_of

BOUND = HEAD + '[[threshold]]\nmetric = "ece"\nmax = 0.10\n'

#: At its lines 5 to 10.
WAIVER = """\
[[waiver]]
suite = "calibration"
metric = "ece"
reason = "the new tokenizer, see ticket 12"
owner = "vision team"
expires = 2026-12-31
"""


#: The test that measured all figures here.
TEST = "suites/test_calibration.py::test_clean[reference-3]"


@pytest.fixture(autouse=True)
def _on_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, date(2026, 11, 27))


def on(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    monkeypatch.setattr(waivers, "today", lambda: day)


def file(waiver: str = WAIVER, policy: str = "", **given: Any) -> ThresholdFile:
    return parse_thresholds(f"{BOUND}{waiver}{policy}", "t.toml", **given)


def verdict_of(thresholds: ThresholdFile, value: float, **where: Any) -> Verdict:
    one = measure(value=value, **where)
    return thresholds.waived(one, judge(one, thresholds.lookup(one), thresholds.policy))


def of_test(*names: str) -> str:
    """Return the waiver of tests, whatever they measure."""
    told = ", ".join(f'"{name}"' for name in names)
    return WAIVER.replace('metric = "ece"', f"test = [{told}]")


# --- What a waiver does ----------------------------------------------------------------------------


def test_a_bound_that_fails_is_waived_and_never_passed() -> None:
    found = verdict_of(file(), 0.2)
    assert (found.status, found.outcome, found.failed) == ("waived", "warn", False)
    assert found.waiver is not None
    assert found.waiver.text() == (
        "waived until 2026-12-31 by vision team: the new tokenizer, see ticket 12 (t.toml:5)"
    )
    assert (found.waiver.status, found.bound, found.where) == ("fail", "max 0.1", "t.toml:4")


@pytest.mark.parametrize("value", [0.05, 0.1])
def test_what_passes_or_is_undecided_stays_what_it_is(value: float) -> None:
    found = verdict_of(file(), value)
    assert found.status == ("pass" if value == 0.05 else "inconclusive")
    assert found.waiver is None


def test_an_undecided_bound_that_counts_as_a_failure_is_waived() -> None:
    found = verdict_of(file(policy='[policy]\ninconclusive = "fail"\n'), 0.1)
    assert found.waiver is not None
    assert (found.status, found.waiver.status) == ("waived", "inconclusive")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_cannot_be_judged_is_never_waived(value: float) -> None:
    assert verdict_of(file(), value).failed


def test_no_waiver_excuses_a_figure_without_a_bound() -> None:
    required = file(policy="[policy]\nrequire_bound = true\n")
    one = measure("nll")
    found = required.waived(one, judge(one, None, required.policy))
    assert (found.status, found.failed) == ("unbounded", True)


@pytest.mark.parametrize(
    "where", [{"suite": "ood"}, {"model": "other"}, {"severity": 3}, {"perturbation": "fog_3d"}]
)
def test_it_holds_for_what_it_selects_alone(where: dict[str, Any]) -> None:
    narrow = WAIVER.replace(
        "reason", 'model = "reference"\nperturbation = "clean"\nseverity = 5\nreason'
    )
    assert verdict_of(file(narrow), 0.2, **{"severity": 5, **where}).failed
    assert verdict_of(file(narrow), 0.2, severity=5).status == "waived"


@pytest.mark.parametrize(
    "name",
    [
        "test_clean",
        "test_clean[reference-3]",
        "test_cle*",
        "test_clean[reference-?]",
        "test_calibration.py::test_clean",
        TEST,
    ],
)
def test_it_holds_for_the_test_that_it_names(name: str) -> None:
    one = measure(value=0.2)
    thresholds = file(of_test(name))
    failed = judge(one, thresholds.lookup(one), thresholds.policy)
    assert thresholds.waived(one, failed, TEST).status == "waived"
    assert thresholds.waivers[0].id == f"suite=calibration metric=* test={name}"
    for other in ("test_fog", "test_fog[reference-3]", "test_fog[test_clean]"):
        assert thresholds.waived(one, failed, f"suites/test_calibration.py::{other}").failed
    other = "suites/test_calibration.py::test_clean[reference-30]"
    assert thresholds.waived(one, failed, other).failed == ("[" in name)


def test_a_test_and_a_metric_must_both_fit() -> None:
    both = file(WAIVER.replace("reason", 'test = "test_clean"\nreason'))
    one = measure(value=0.2)
    failed = judge(one, both.lookup(one), both.policy)
    assert both.waived(one, failed, TEST).status == "waived"
    assert both.waived(one, failed, "suites/test_calibration.py::test_fog").failed
    assert "waiver  t.toml:5" in both.explain(one, TEST)
    assert "waiver" not in both.explain(one, "suites/test_calibration.py::test_fog")
    # The one that names both is told before the one that names a metric alone.
    two = file(WAIVER + WAIVER.replace("reason", 'test = "test_clean"\nreason'))
    assert [len(w.selector.selectors) for w in two.waivers_of(one, TEST)] == [3, 2]


def test_of_two_the_narrower_one_is_told() -> None:
    wide = WAIVER.replace('"calibration"', '"cal*"').replace("vision team", "somebody")
    found = verdict_of(file(wide + WAIVER), 0.2)
    assert found.waiver is not None
    assert found.waiver.owner == "vision team"


def test_of_two_the_one_that_has_not_expired_holds() -> None:
    wide = WAIVER.replace('"calibration"', '"cal*"').replace("vision team", "somebody")
    over = WAIVER.replace("2026-12-31", "2026-11-26")
    for text in (wide + over, over + wide):
        found = verdict_of(file(text), 0.2)
        assert found.waiver is not None
        assert found.waiver.owner == "somebody"
    assert verdict_of(file(over), 0.2).failed


def test_its_last_day_is_a_day_on_which_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, date(2026, 12, 31))
    assert verdict_of(file(), 0.2).status == "waived"
    on(monkeypatch, date(2027, 1, 1))
    assert verdict_of(file(), 0.2).failed


def test_the_date_is_that_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert isinstance(waivers.today(), date)


def test_a_verdict_comes_back_from_json_with_its_waiver() -> None:
    found = verdict_of(file(), 0.2)
    told = found.as_dict()
    assert told["waiver"]["owner"] == "vision team"
    assert Verdict.from_dict(told) == found
    assert "waiver" not in replace(found, waiver=None).as_dict()
    assert found.waiver is not None
    other = replace(found, waiver=replace(found.waiver, where="t.toml:99"))
    # A waiver counts once, however many figures need it.
    counted: tuple[list[Verdict], ...] = (
        [],
        [replace(found, waiver=None)],
        [found, found],
        [found, other],
    )
    assert [waivers_of(verdicts) for verdicts in counted] == [0, 0, 1, 2]
    with pytest.raises(ValueError, match="unknown status of a waived bound 'pass'"):
        Verdict.from_dict({**told, "waiver": {**told["waiver"], "status": "pass"}})


def test_what_is_waived_stays_so_at_the_end_of_the_run() -> None:
    found = verdict_of(file(), 0.2)
    assert settled([(measure(value=0.2), found)] * 3, Policy()) == [found] * 3


# --- What no waiver may be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('reason = "the new tokenizer, see ticket 12"\n', "", 5, "[[waiver]] lacks 'reason'"),
        ('"the new tokenizer, see ticket 12"', '" "', 8, "reason must be a text, not ' '"),
        ('owner = "vision team"\n', "", 5, "[[waiver]] lacks 'owner'"),
        ('"vision team"', "7", 9, "owner must be a text, not 7"),
        ("expires = 2026-12-31\n", "", 5, "[[waiver]] lacks 'expires'"),
        ('metric = "ece"\nreason', "reason", 5, "[[waiver]] lacks 'metric'"),
        ('metric = "ece"\n', 'test = "*"\n', 7, "test of a waiver must be named"),
        ('metric = "ece"\n', "test = 1\n", 7, "test must be a name, a glob, or a list of them"),
        ('suite = "calibration"\n', "", 5, "[[waiver]] lacks 'suite'"),
        ('"calibration"', '"*"', 6, "suite of a waiver must be named: one for every suite"),
        ('"calibration"', '["calibration", "**"]', 6, "suite of a waiver must be named"),
        ('"ece"\nreason', '"?*"\nreason', 7, "metric of a waiver must be named"),
        ('"ece"\nreason', '"*"\nreason', 7, "metric must be named"),
        ('"ece"\nreason', '"eec"\nreason', 7, "unknown metric 'eec'. Did you mean 'ece'?"),
        ("2026-12-31", '"soon"', 10, "expires must be a date, 2026-12-31, not 'soon'"),
        ("2026-12-31", "2026-12-31T12:00:00", 10, "expires must be a date"),
        ("2026-12-31", '"2026-13-31"', 10, "expires is no date: month must be in 1..12"),
        ("2026-12-31", "2029-12-31", 10, "expires 2029-12-31 is too far away"),
        ("owner", "onwer", 9, "unknown key 'onwer' in [[waiver]]. Did you mean 'owner'?"),
        ("owner", "max = 0.3\nowner", 9, "unknown key 'max' in [[waiver]]"),
        ("[[waiver]]", "[waiver]", 5, "waivers are written as tables under [[waiver]]"),
    ],
)
def test_mistakes_name_their_line(old: str, new: str, line: int, words: str) -> None:
    assert old in BOUND + WAIVER
    wrong = WAIVER.replace(old, new)
    assert wrong != WAIVER
    assert complaint(BOUND + wrong).startswith(f"t.toml:{line}: {words}")


def test_one_waiver_for_the_same_figures_is_enough() -> None:
    assert complaint(BOUND + WAIVER + WAIVER).startswith(
        "t.toml:11: a waiver for the same figures stands in t.toml:5 already"
    )


def test_a_date_may_be_a_text_and_a_year_is_the_most() -> None:
    (one,) = file(WAIVER.replace("2026-12-31", '"2027-11-28"')).waivers
    assert one.expires == date(2027, 11, 28)
    assert "too far away" in complaint(BOUND + WAIVER.replace("2026-12-31", "2027-11-29"))


def test_an_unknown_suite_or_perturbation_is_a_mistake_as_in_a_rule() -> None:
    text = BOUND + WAIVER.replace("calibration", "calibraton")
    assert "Did you mean 'calibration'" in complaint(text, known_suites=["calibration"])
    text = BOUND + WAIVER.replace("reason", 'perturbation = "fgo_3d"\nreason')
    known = {"known_suites": ["calibration"], "known_perturbations": ["fog_3d"]}
    assert complaint(text, **known).startswith("t.toml:8: unknown perturbation 'fgo_3d'")


# --- Out of date -----------------------------------------------------------------------------------


def stale(
    thresholds: ThresholdFile, *values: float, where: dict[str, Any] | None = None, **changes: Any
) -> list[tuple[str, str]]:
    """Return what is said after a run with such figures, at severities 1, 2, …"""
    judged = []
    for severity, value in enumerate(values, 1):
        one = measure(value=value, severity=severity, **(where or {}))
        verdict = judge(one, thresholds.lookup(one), thresholds.policy)
        judged.append((one, thresholds.waived(one, verdict, TEST), TEST))
    given: dict[str, Any] = {"suites_run": ["calibration"], "models": ["reference"], **changes}
    return find_stale(thresholds, judged, **given)


def test_one_that_is_needed_is_not_out_of_date() -> None:
    assert stale(file(), 0.2) == []
    assert stale(file(), 0.2, 0.05) == stale(file(), 0.05, 0.2) == []
    assert stale(file(), 0.1) == []  # undecided: it may be needed yet
    assert stale(parse_thresholds(BOUND), 0.2) == []


def test_one_that_is_not_needed_any_more_fails_the_run() -> None:
    ((level, line),) = stale(file(), 0.05, 0.06)
    assert level == "error"
    assert line == (
        "t.toml:5: the waiver [suite=calibration metric=ece] is not needed any more: its 2 bounds pass; "
        "take it out"
    )


def test_each_entry_of_its_lists_counts_by_itself() -> None:
    listed = file(WAIVER.replace("reason", "severity = [1, 2]\nreason"))
    ((_, line),) = stale(listed, 0.2, 0.05)
    assert "severity=2] is not needed any more: its bound passes" in line
    ((_, line),) = stale(listed, 0.2)
    assert "severity=2] matched nothing that was judged: measured were severities 1" in line


def test_all_entries_that_are_not_needed_are_told() -> None:
    listed = file(WAIVER.replace("reason", "severity = [1, 2, 3]\nreason"))
    told = [line for _, line in stale(listed, 0.05, 0.2, 0.06)]
    assert [one.partition("severity=")[2][:2] for one in told] == ["1]", "3]"]
    assert all("is not needed any more: its bound passes; take it out" in one for one in told)
    # Where all pass it is told of as a whole.
    ((_, line),) = stale(listed, 0.05, 0.06, 0.05)
    assert "severity=1|2|3] is not needed any more: its 3 bounds pass; take it out" in line


def test_one_of_a_test_is_out_of_date_as_others_are() -> None:
    assert stale(file(of_test("test_clean")), 0.2) == []
    ((_, line),) = stale(file(of_test("test_clean")), 0.05)
    assert "test=test_clean] is not needed any more: its bound passes" in line
    ((_, line),) = stale(file(of_test("test_gone")), 0.2)
    assert line.endswith(
        "test=test_gone] matched nothing that was judged: no test of that name measured it"
    )
    # A test that was left out may be the one.
    left_out = Chosen(deselected={"calibration": ["test_gone"]})
    assert stale(file(of_test("test_gone")), 0.2, chosen=left_out) == []


def test_an_expired_one_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, date(2027, 1, 1))
    ((level, line),) = stale(file(), 0.2)
    assert level == "error"
    assert line.startswith(
        "t.toml:5: the waiver [suite=calibration metric=ece] of vision team expired: 2026-12-31 was"
    )
    # Of what was no part of the run nothing is said.
    assert stale(file(), suites_run=["ood"]) == []
    other = file(WAIVER.replace("reason", 'model = "other"\nreason'))
    assert stale(other, 0.2) == []


def test_one_that_matched_nothing_fails_the_run_as_a_bound_does() -> None:
    ((level, line),) = stale(file(), 0.2, where={"suite": "ood"})
    assert (level, "matched nothing that was judged: its suite measured nothing" in line) == (
        "error",
        True,
    )
    warned = file(policy='[policy]\nunused = "warn"\n')
    assert [level for level, _ in stale(warned)] == ["warning"]
    unbounded = file(WAIVER.replace('"ece"', '"nll"'))
    one = measure("nll")
    judged = [(one, judge(one, None, Policy()), TEST)]
    ((_, line),) = find_stale(unbounded, judged, suites_run=["calibration"], models=["reference"])
    assert line.endswith("matched nothing that was judged: what it is for has no bound")


@pytest.mark.parametrize(
    "changes",
    [
        {"suites_run": ["ood"]},
        {"models": ["other"]},
        {"suites_broken": ["calibration"]},
        {"chosen": Chosen(deselected={"calibration": ["test_calibration.py::test_x"]})},
        {"chosen": Chosen(skipped={"calibration": ["test_calibration.py::test_x"]})},
        {"chosen": Chosen(cut={"calibration": ["test_calibration.py::test_x"]})},
    ],
)
def test_of_what_did_not_run_whole_nothing_is_said(changes: dict[str, Any]) -> None:
    narrow = file(WAIVER.replace("reason", 'model = "reference"\nreason'))
    assert stale(narrow, **changes) == []
    if "models" not in changes and "suites_run" not in changes:
        assert stale(narrow, 0.05, **changes) == []


def at(*severities: int) -> str:
    """Return waivers, each for one severity, at lines 5, 12, 19, …"""
    return "".join(WAIVER.replace("reason", f"severity = {s}\nreason") for s in severities)


def where(told: list[tuple[str, str]]) -> list[str]:
    return [line.partition(": ")[0] for _, line in told]


def test_each_of_several_is_looked_at_beside_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    two = file(at(1, 2))
    assert stale(two, 0.2, 0.2) == []
    assert where(stale(two, 0.2, 0.05)) == ["t.toml:12"]
    assert where(stale(two, 0.05, 0.05)) == ["t.toml:5", "t.toml:12"]
    told = stale(file(at(4, 5)), 0.2, 0.2)
    assert where(told) == ["t.toml:5", "t.toml:12"]
    assert all("matched nothing that was judged: measured were sever" in line for _, line in told)
    on(monkeypatch, date(2027, 1, 1))
    told = stale(file(at(1, 2)), 0.2, 0.2)
    assert where(told) == ["t.toml:5", "t.toml:12"]
    assert all("expired: 2026-12-31 was its last day" in line for _, line in told)


def test_why_it_matched_nothing_is_told_of_whichever_figure_shows_it() -> None:
    at_two = of_test("test_gone").replace("reason", "severity = 2\nreason")
    ((_, line),) = stale(file(at_two), 0.2, 0.2)
    assert line.endswith("no test of that name measured it")
    thresholds = file(WAIVER.replace('"ece"', '"nll"'))
    figures = (measure(), measure("nll"))
    judged = [(one, judge(one, thresholds.lookup(one), Policy()), TEST) for one in figures]
    ((_, line),) = find_stale(thresholds, judged, suites_run=["calibration"], models=["reference"])
    assert line.endswith("matched nothing that was judged: what it is for has no bound")
    # Only another model was measured there, and of that nothing is known.
    other = file(WAIVER.replace("reason", 'model = "other"\nreason'))
    ((_, line),) = stale(other, 0.2, models=["reference", "other"])
    assert line.endswith("model=other] matched nothing that was judged")


def test_no_suite_that_did_not_run_whole_has_one_that_is_not_needed() -> None:
    thresholds = file(WAIVER + WAIVER.replace("calibration", "ood"))
    judged = [
        (one, judge(one, thresholds.lookup(one), Policy()), TEST)
        for one in (measure(value=0.05), measure(value=0.05, suite="ood"))
    ]
    suites = ["calibration", "ood"]
    given: dict[str, Any] = {"suites_run": suites, "models": ["reference"]}
    assert where(find_stale(thresholds, judged, **given)) == ["t.toml:5", "t.toml:11"]
    assert find_stale(thresholds, judged, suites_broken=suites, **given) == []


def test_an_expired_one_of_another_profile_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, date(2027, 1, 1))
    own = WAIVER.replace("reason", 'profile = "quick"\nreason')
    for profile, told in (("quick", ["t.toml:5"]), ("full", []), (None, [])):
        found = stale(file(own, profile=profile), suites_run=["calibration"])
        assert where([one for one in found if "expired" in one[1]]) == told


def test_what_is_out_of_date_is_told_and_fails() -> None:
    found = Unjudged(stale=[("warning", "a")])
    assert not fails(found, Policy())
    found = Unjudged(stale=[("warning", "a"), ("error", "b")])
    assert fails(found, Policy())
    assert lines(found) == [("warning", "a"), ("error", "b")]


def test_explaining_a_figure_names_its_waivers(monkeypatch: pytest.MonkeyPatch) -> None:
    told = file().explain(measure()).splitlines()
    assert told[-1] == (
        "  waiver  t.toml:5  until 2026-12-31, vision team: the new tokenizer, see ticket 12  "
        "[suite=calibration metric=ece]"
    )
    on(monkeypatch, date(2027, 1, 1))
    assert "expired on 2026-12-31" in file().explain(measure()).splitlines()[-1]
