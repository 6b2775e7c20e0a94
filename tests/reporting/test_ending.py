"""What is said last of a run: nothing of one that is whole and green, else the reason that tells most."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.unjudged import Unjudged
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.gating.waivers import Waived
from pytest_cliprobust.reporting import markdown
from pytest_cliprobust.reporting.ending import ending_text, last_words, missing_lines
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import NotMeasured, Run


def record(number: int, status: Any) -> Record:
    figure = Figure("accuracy", 0.5, 0.4, 0.6, 40).measured_on(Condition(f"data{number}"))
    verdict = Verdict(status, "pass", "", "min", 0.2, "", "", "", 0.5, 0.4, 0.6, 0.95, 40)
    return Record(Measurement("mine", "reference", figure), verdict, "test_mine.py::test_mine")


def run(*statuses: str, policy: Policy | None = None, **changes: Any) -> Run:
    records = tuple(record(number, status) for number, status in enumerate(statuses))
    found = Unjudged(policy=policy or Policy())
    return replace(Run(RunConfig(("reference",)), records, {}, unjudged=found), **changes)


def test_a_whole_green_run_has_no_last_words() -> None:
    assert last_words(run("pass", "pass")) == []
    assert ending_text(run("pass")) == "passed, exit code 0"


def test_shares_are_of_what_was_judged() -> None:
    (told,) = last_words(run("inconclusive", "pass", "fail", "unbounded", "unbounded"))
    assert told.startswith("INCONCLUSIVE: 1 of the 3 figures with a bound (33%)")
    assert told.endswith("the policy's inconclusive_share allows 0.15")
    assert last_words(run("inconclusive", "pass", "fail", recording=True)) == []
    assert last_words(run("inconclusive", policy=Policy(inconclusive_share=1.0))) == []


def test_what_is_missed_without_a_failure_is_told() -> None:
    missed = [
        replace(one, verdict=replace(one.verdict, outcome="fail"))
        for one in (record(number, "fail") for number in range(5))
    ]
    green = replace(run("pass"), records=(record(9, "pass"), *missed))
    (told,) = last_words(green)
    assert told.startswith(
        "EXCUSED: 5 figures on the wrong side of a bound (mine/accuracy/data0/clean/reference, "
        "mine/accuracy/data1/clean/reference, mine/accuracy/data2/clean/reference and 2 more)"
    )
    red = replace(green, exit_status=1, ending="regression")
    assert last_words(red) == last_words(replace(green, recording=True)) == []


@pytest.mark.parametrize("records", [("unbounded",), ()])
def test_a_run_that_gates_nothing_says_so(records: tuple[str, ...]) -> None:
    (told,) = last_words(run(*records))
    assert told.startswith("warning: no ")
    assert "THIS RUN GATES NOTHING" in told
    (told,) = last_words(run(*records, policy=Policy(require_bound=True)))
    assert told.startswith("ERROR: require_bound is set, and no ")
    assert last_words(run(*records, recording=True)) == []


def test_what_is_missing_is_counted_in_the_terminal_and_listed_in_files() -> None:
    missing = tuple(
        NotMeasured(f"test_{suite}.py::test_{i}", suite, "the run ended before it began")
        for suite, count in (("ood", 3), ("view", 2))
        for i in range(count)
    )
    whole = run("pass", complete=False, missing=missing, not_collected=("test_x.py",), planned=9)
    assert last_words(whole) == [
        "PARTIAL: 5 of 9 tests did not come to their end (ood 3, view 2); 1 file could not be collected"
    ]
    assert len(missing_lines(whole)) == 6
    assert (
        missing_lines(whole, 6)[-1] == "test_x.py: could not be collected, its tests are not known"
    )
    assert missing_lines(whole, 2)[-1] == "… and 4 more"
    assert len(missing_lines(whole, 2)) == 3
    one = run("pass", complete=False, missing=missing[:1], planned=0)
    assert last_words(one) == ["PARTIAL: 1 of 1 tests did not come to its end (ood 1)"]
    text = markdown.text(whole)
    assert all(f"- {entry.test}: the run ended" in text for entry in missing)
    assert "- ending: **passed, partial, exit code 0**" in text
    data = document(whole)
    assert [entry["suite"] for entry in data["missing"]] == ["ood"] * 3 + ["view"] * 2
    assert data["because"] == last_words(whole)
    assert last_words(run("pass", complete=False)) == ["PARTIAL: the run did not end by itself"]


def test_bounds_that_wait_are_listed_once_in_markdown() -> None:
    text = "schema = 1\n" + "".join(
        f'[[threshold]]\nmetric = "ece"\nmax = 0.1\nsuite = "s{number}"\n' for number in range(13)
    )
    rules = parse_thresholds(text).rules
    for count, heading in ((12, False), (13, True)):
        found = Unjudged(cut=list(rules[:count]))
        report = markdown.text(replace(run("pass"), unjudged=found, complete=False))
        assert report.count("was not judged: a test of its suite did not") == count
        assert ("## Bounds that wait for it" in report) == heading
        assert ("13 bounds were not judged" in report) == heading


def test_bounds_that_wait_are_counted_whatever_they_wait_for() -> None:
    text = "schema = 1\n" + "".join(
        f'[[threshold]]\nmetric = "ece"\nmax = 0.1\nsuite = "s{number}"\n' for number in range(3)
    )
    rules = parse_thresholds(text).rules
    found = Unjudged(cut=list(rules[:2]), broken=list(rules[2:]))
    told = last_words(replace(run("pass"), unjudged=found, complete=False))
    assert told == ["PARTIAL: 3 bounds not judged for it"]


def test_bounds_that_nothing_judged_are_counted_by_why() -> None:
    text = "schema = 1\n" + "".join(
        f'[[threshold]]\nmetric = "ece"\nmax = 0.1\nsuite = "s{number}"\n' for number in range(3)
    )
    rules = list(parse_thresholds(text).rules)
    skipped = "NOT JUDGED: 1 of the bounds that were asked for, as their tests were skipped"
    unused = "NOT JUDGED: 2 of the bounds that were asked for, as no figure met them"
    for policy, told in (
        (Policy(skipped="fail", unused="fail"), [skipped, unused]),
        (Policy(skipped="warn", unused="fail"), [unused]),
        (Policy(skipped="fail", unused="warn"), [skipped]),
        (Policy(skipped="warn", unused="warn"), []),
    ):
        found = Unjudged(skipped=rules[:1], unused=rules[1:], policy=policy)
        assert last_words(replace(run("pass"), unjudged=found)) == told


def test_our_own_codes_are_explained_and_those_of_others_are_not() -> None:
    ours = run("pass", exit_status=7, ending="environment", troubles=("no hub",))
    assert last_words(ours) == ["ENVIRONMENT: no hub", "NOT GREEN: environment, exit code 7"]
    assert last_words(run("pass", exit_status=6, ending="too many warnings")) == []
    assert last_words(run("fail", exit_status=1, ending="regression")) == []


def lone(number: int, why: str) -> Record:
    one = record(number, "inconclusive")
    return replace(
        one, verdict=replace(one.verdict, kind="max_decrease", explanation=why, compared="")
    )


def test_bounds_on_changes_that_nothing_was_held_against_are_told_by_reason() -> None:
    def told(*reasons: str) -> list[str]:
        records = (record(9, "pass"), *(lone(n, why) for n, why in enumerate(reasons)))
        found = replace(run("pass"), records=records)
        assert len(found.not_compared) == len(reasons)
        return last_words(found)

    assert told("no baseline") == ["NOT COMPARED: 1 bound on a change not judged: no baseline"]
    assert told("b", "a", "b", "c") == [
        "NOT COMPARED: 2 bounds on a change not judged: b",
        "NOT COMPARED: 1 bound on a change not judged: a",
        "NOT COMPARED: 1 bound on a change not judged: c",
    ]
    assert told("a", "b", "c", "d", "d") == [
        "NOT COMPARED: 5 bounds on a change had nothing to be held against "
        "(mine/accuracy/data0/clean/reference, mine/accuracy/data1/clean/reference, "
        "mine/accuracy/data2/clean/reference and 2 more); the reports say why of each"
    ]


def test_a_run_without_figures_gives_the_better_reason() -> None:
    (rule,) = parse_thresholds(
        'schema = 1\n[[threshold]]\nsuite = "s"\nmetric = "ece"\nmax = 0.5\n'
    ).rules
    assert [line[:8] for line in last_words(run(complete=False))] == ["PARTIAL:"]
    assert last_words(run(mistakes=("a slip",))) == []
    strict = Policy(unused="fail")
    unmet = run(policy=strict)
    unmet = replace(unmet, unjudged=Unjudged(unused=[rule], policy=strict))
    assert [line[:11] for line in last_words(unmet)] == ["NOT JUDGED:"]
    # With figures there is no better one.
    (_, told) = last_words(run("unbounded", complete=False))
    assert "THIS RUN GATES NOTHING" in told


def test_waivers_are_counted_with_the_first_that_expires() -> None:
    def waived(number: int, where: str, expires: str) -> Record:
        one = record(number, "waived")
        waiver = Waived(where, "a reason", "me", expires)
        return replace(one, verdict=replace(one.verdict, waiver=waiver))

    first, second = waived(0, "t:1", "2027-03-01"), waived(1, "t:1", "2027-01-01")
    (told,) = last_words(replace(run("pass"), records=(record(9, "pass"), first)))
    key = "mine/accuracy/data{}/clean/reference"
    assert told == (
        f"WAIVED: 1 bound is missed under 1 waiver ({key.format(0)}); the first expires on 2027-03-01"
    )
    third = waived(2, "t:9", "2027-02-01")
    (told,) = last_words(replace(run(), records=(first, second, third)))
    assert told == (
        f"WAIVED: 3 bounds are missed under 2 waivers ({', '.join(map(key.format, range(3)))}); the first "
        "expires on 2027-01-01"
    )
    stale = [("error", "a"), ("note", "b"), ("error", "c")]
    for count, said in ((2, "1 waiver is"), (3, "2 waivers are")):
        found = replace(run("pass"), unjudged=Unjudged(stale=stale[:count]))
        assert last_words(found) == [f"WAIVERS: {said} out of date"]
