"""What runs, histories and comparisons of made-up figures say, as the record has it.

That it is right is for the other tests to show. After a change that is meant, look at what differs in
``recorded.txt`` and record anew::

    RECORD=1 python -m pytest -q tests/results/test_recorded_results.py
"""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
from history_helpers import KEYS, a_run, answers, figures, keep

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results import compare, earlier, outcomes, trend
from pytest_cliprobust.results.history import History, earlier_run, series_of
from pytest_cliprobust.results.journal import Journal, journal_of, read
from pytest_cliprobust.results.outcomes import with_outcomes
from pytest_cliprobust.results.plain import finite
from pytest_cliprobust.results.record import Evidence
from pytest_cliprobust.results.run import NotMeasured, Run

pytestmark = pytest.mark.floors

RECORD = Path(__file__).with_name("recorded.txt")


def tried(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Return what a call gives, or its mistake."""
    try:
        return call(*given, **named)
    except ClipRobustError as error:
        return f"{type(error).__name__}: {error}"


def shown(value: Any) -> str:
    """Return plain data in one line, numbers to four digits."""
    if isinstance(value, str):
        return value
    return re.sub(
        r"-?\d+\.\d{5,}(e-?\d+)?",
        lambda found: f"{float(found[0]):.4g}",
        json.dumps(value, sort_keys=True, ensure_ascii=False, default=str),
    )


def plain(text: str) -> str:
    """Return a text without what other libraries say."""
    return re.sub(r"\(\w*Error: .*?\)(?=; run it|[,.]|$)", "(…)", text)


def others() -> dict[str, Run]:
    """Return a run, and runs that differ from it in one way each."""
    base = figures(answers())
    few = SampleKeys(KEYS.ids[:80], KEYS.units[:80], kind="drawing")
    strange = SampleKeys(tuple(f"other/{n}" for n in range(200)), KEYS.units, kind="scene")
    return {
        "base": a_run(base),
        "the same again": a_run(base, written="2026-11-27T12:00:00+0000"),
        "ten answers turned": a_run(figures(answers(flipped=range(10)))),
        "fifty answers turned": a_run(figures(answers(flipped=range(50)))),
        "better": a_run(figures(answers(0.97))),
        "worse": a_run(figures(answers(0.5))),
        "fewer samples": a_run(figures(answers()[:80], keys=few)),
        "other samples": a_run(figures(answers(), keys=strange)),
        "another model": a_run(base, "other", digest="cd34"),
        "another model, worse": a_run(figures(answers(0.6)), "other", digest="ef56"),
        "other weights": a_run(base, digest="cd34"),
        "another seed": a_run(figures(answers(seed=3), seed=3), seed=3),
        "another suite": a_run(base, suite="theirs"),
        "fewer figures": a_run(base[:2]),
        "no figure": a_run([]),
        "without samples": a_run([with_outcomes(one, None) for one in base]),
    }


def compared(root: Path) -> Iterator[str]:
    """Yield what a comparison with each of the runs says, both ways."""
    runs = others()
    with History(root / "history.db", create=True) as history:
        kept = {name: history.run(keep(history, run)) for name, run in runs.items()}
    for name, other in kept.items():
        pairs = {
            f"base → {name}": (kept["base"], other),
            f"{name} → base": (other, kept["base"]),
        }
        for title, pair in pairs.items():
            found = tried(compare.compare, *pair)
            if isinstance(found, str):
                yield f"{title}: {found}"
                continue
            told = found.as_dict()
            rows = told.pop("rows", told.pop("figures", []))
            yield f"{title}: {shown(told)}"
            yield f"  losses {[row.key for row in found.losses]}"
            yield from (f"  {shown(row)}" for row in rows)
    for options in (
        {"base_model": "reference", "head_model": "other"},
        {"base_model": "refrnce"},
        {"head_model": "x"},
        {"confidence": 0.5},
    ):
        found = tried(compare.compare, kept["base"], kept["another model"], **options)
        yield f"{options}: " + (found if isinstance(found, str) else shown(found.as_dict()))
    half, unlike = kept["base"].figures, kept["fifty answers turned"].figures
    for key, figure in half.items():
        sides = compare.changed_sides(figure.outcomes, unlike[key].outcomes)
        yield f"sides of {key}: {shown({name: vars(side) for name, side in sides.items()})[:400]}"


def kept_runs(root: Path) -> Iterator[str]:
    """Yield what a history says of several runs."""
    path = root / "history.db"
    runs = others()
    yield f"no file: {tried(History, path)}"
    with History(path, create=True) as history:
        for reference in ("last", "anchor", "tag:x", "1", "x", "last~1"):
            yield f"empty, {reference}: {tried(history.find, reference)}"
        yield f"empty, keys for ece: {tried(trend.keys_for, history, 'ece')}"
        numbers = {}
        for place, (name, run) in enumerate(runs.items()):
            when = f"2026-11-{place + 1:02d}T12:00:00+0000"
            changes: dict[str, Any] = {"written": when, "exit_status": place % 3}
            if name in ("better", "no figure"):
                changes["complete"] = False
            numbers[name] = keep(
                history, replace(run, **changes), *(["x"] if place % 4 == 1 else [])
            )
        yield f"numbers {numbers}"
        for tag in ("good", "x y", "", "last", "7", "a/b", "ä", "x" * 99):
            yield f"tag {tag!r:.30}: {tried(history.tag, 3, tag)}"
        yield f"tag of no run: {tried(history.tag, 99, 'y')}"
        yield f"untag: {tried(history.tag, 3, 'good', remove=True)}"
        yield f"untag again: {tried(history.tag, 3, 'good', remove=True)}"
        yield f"anchor 4: {tried(history.set_anchor, 4)}, {tried(history.set_anchor, 5, only_first=True)}"
        for entry in history.entries():
            yield f"entry {shown({k: v for k, v in vars(entry).items() if k not in ('version',)})}"
        series = series_of(document(runs["base"])["config"])
        yield f"series {series}"
        for reference in (
            *("last", "last~1", "last~30", "last~", "last~x", "anchor", "tag:x", "tag:y", "tag:"),
            *("1", "0", "99", "99999999999999999999", "-1", "", "LAST", "report.json"),
        ):
            yield (
                f"find {reference!r}: {tried(history.find, reference)}; of the series "
                f"{tried(history.find, reference, series)}"
            )
        for name in (
            "accuracy",
            "acuracy",
            "reference",
            "./reference",
            "*",
            "mine/*",
            "x",
            "other/",
        ):
            found = tried(trend.keys_for, history, name)
            yield f"keys for {name}: {shown(found)}"
        known = history.keys()
        for key, metric, model in known:
            yield f"key {key}, {metric}, {model}"
            for point in history.points(key):
                yield f"  point {shown({k: v for k, v in vars(point).items() if k != 'key'})}"
            found = tried(trend.trend_of, history, key)
            if not isinstance(found, str):
                drifts = [None if d is None else f"{d.word}, {d.how}" for d in found.drifts]
                yield f"  trend since {found.since.number}: {drifts}"
                yield f"  left out {[(one.point.number, one.why) for one in found.left_out]}"
        yield f"trend of nothing: {tried(trend.trend_of, history, 'x')}"
        for drift in trend.drifts_of(history, [key for key, *_ in known]):
            yield (
                f"drift of {drift.last.key}: {drift.first.number} to {drift.last.number}: "
                f"{drift.row and drift.row.word}; left out {[one.point.number for one in drift.left_out]}"
            )
        cut = datetime(2026, 11, 6, tzinfo=UTC)
        for options in ({"keep": 3}, {"keep": 0}, {"before": cut}, {"keep": 12, "before": cut}, {}):
            yield f"prune {options}: {history.prune(**options, try_only=True)}"
        yield f"pruned: {history.prune(keep=4)}; {[entry.number for entry in history.entries()]}"
        yield f"unanchored: {tried(history.drop_anchor, 4)}, {tried(history.find, 'anchor')}"
    for reference in ("last", "1", "gone.json", "tag:x"):
        found = tried(earlier_run, reference, path)
        yield f"earlier {reference}: " + (found if isinstance(found, str) else found.source)
    for what, content in (("text", b"no database"), ("nothing", b"")):
        file = root / f"{what}.db"
        file.write_bytes(content)
        yield f"a file of {what}: {tried(lambda file=file: History(file).entries())}"


def leaves(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value of a report; of lists the first entry's."""
    yield at
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, (*at, key))
    elif isinstance(content, list) and content:
        yield from leaves(content[0], (*at, 0))


def changed(content: Any, at: tuple[Any, ...], value: Any) -> Any:
    """Return a report with one value changed, or left out (...)."""
    content = copy.deepcopy(content)
    inner = content
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return content


#: What a value of a report is changed to; ... leaves it out.
OTHERS: tuple[Any, ...] = (..., None, -1, "x", [], {}, True, 1e9)


def reports(root: Path) -> Iterator[str]:
    """Yield what is said of a report one value of which is another."""
    made = figures(answers())[:2]
    run = a_run(made)
    blobs: dict[str, bytes] = {}
    told = json.loads(json.dumps(document(run)))
    for record, entry in zip(run.records, told["measurements"], strict=True):
        if record.figure.outcomes is not None:
            entry["outcomes"] = outcomes.to_manifest(record.figure.outcomes, blobs)
    whole = earlier.of_document(told, blobs, "the report")
    yield f"whole: {whole.models}, complete {whole.complete}, named {whole.named}"
    yield from (f"  {key}: {m.figure.interval_text()}" for key, m in whole.measurements.items())
    for at in leaves(told):
        if not at or at[0] in ("environment", "schema_url"):
            continue
        answers_of: dict[str, list[str]] = {}
        for value in OTHERS:
            found = tried(earlier.of_document, changed(told, at, value), blobs, "the report")
            said = found if isinstance(found, str) else _summary(found, whole)
            name = "gone" if value is ... else json.dumps(value)
            answers_of.setdefault(plain(said.replace(repr(value), "VALUE")), []).append(name)
        for said, names in answers_of.items():
            yield f"{'.'.join(map(str, at))} = {' or '.join(names)}: {said}"


def _summary(found: earlier.Earlier, whole: earlier.Earlier) -> str:
    different = [
        name
        for name in (
            *("measurements", "verdicts", "directions", "noise", "tests", "evidence"),
            *("models", "complete", "named", "provenance"),
        )
        if shown_of(getattr(found, name)) != shown_of(getattr(whole, name))
    ]
    return f"read; other {', '.join(different) or 'nothing'}"


def shown_of(value: Any) -> str:
    return re.sub(r"0x[0-9a-f]+|outcomes=.*?(?=, \w+=|\))", "", str(value))


def journals(root: Path) -> Iterator[str]:
    """Yield what a journal holds while a run goes on and after it."""
    report = root / "some.report.json"
    yield f"called {journal_of(report).name}"
    yield f"not there: {read(journal_of(report))}"
    run = a_run(figures(answers()))
    journal = Journal(report)
    journal.add(run.records[:2])
    journal.add([])
    journal.add(run.records[1:])
    found = read(journal_of(report))
    yield f"keys {[entry['key'] for entry in found]}"
    yield f"fields {sorted(found[0])}"
    content = journal_of(report).read_bytes()
    for how, other in {
        "cut": content[: len(content) // 2],
        "with a line of nonsense": b"nonsense\n" + content,
        "with other JSON": b'[1]\n{"a": 1}\n3\n' + content,
        "with a line twice": content + content.splitlines()[-1] + b"\n",
        "no text": b"\xff\xfe" + content,
    }.items():
        journal_of(report).write_bytes(other)
        yield f"{how}: {len(read(journal_of(report)))} records"
    journal_of(report).write_bytes(content)
    journal.close([record.key for record in run.records[:1]])
    yield f"closed with one written: there {journal_of(report).is_file()}"
    again = Journal(report)
    again.add(run.records)
    again.leave()
    yield f"left: there {journal_of(report).is_file()}, {len(read(journal_of(report)))} records"
    last = Journal(report)
    last.add(run.records)
    last.close([record.key for record in run.records])
    yield f"closed with all written: there {journal_of(report).is_file()}"


def runs_and_records(root: Path) -> Iterator[str]:
    """Yield what runs and records say of themselves."""
    run = a_run(figures(answers()))
    for record in run.records:
        told = record.as_dict()
        yield f"record {shown(told)[:900]}"
        yield f"  in one line: {record.one_line()}"
        yield f"  unnamed: {record.unnamed().figure.outcomes is None}"
        again = type(record).from_dict(json.loads(json.dumps(told)))
        yield f"  comes back: {shown(again.as_dict()) == shown(told)}"
    numbers = {"a": float("nan"), "b": [float("inf"), -1.5, 3], "c": (True, None, "nan"), "d": {}}
    yield f"finite {finite(numbers)}"
    evidence = Evidence.from_dict(json.loads(json.dumps(_evidence().as_dict())))
    yield f"evidence {shown(evidence.as_dict())}, comes back {evidence == _evidence()}"
    changes: dict[str, dict[str, Any]] = {
        "as it is": {},
        "required": {"config": RunConfig(("reference",), required=("clean",))},
        "not run": {"not_run": (NotMeasured("t.py::a", "mine", "needs depth"),)},
        "without records": {"records": ()},
        "of two models": {"config": RunConfig(("reference", "other"), against="other")},
    }
    for name, change in changes.items():
        one = replace(run, **change)
        yield (
            f"{name}: judged {one.judged}, undecided {one.undecided}, too many "
            f"{one.too_many_undecided}, gates nothing {one.gates_nothing}, lacks a bound "
            f"{one.lacks_a_bound}, not compared {len(one.not_compared)}, waived {len(one.waived)}"
        )
    told = document(run)
    told.pop("environment", None)
    told.pop("pytest_cliprobust", None)
    yield f"document {shown({k: v for k, v in told.items() if k != 'measurements'})}"


def _evidence() -> Evidence:
    return Evidence((("samples", "cat/1, cat/2"),), {"angle": 0.25}, "pytest -k it", "a b.png")


def columns(root: Path) -> Iterator[str]:
    """Yield what columns of outcomes become as bytes, and again."""
    arrays = {
        "bools": np.array([True, False, True, True, False] * 3),
        "no bools": np.array([], dtype=bool),
        "floats": np.array([0.1, -2.5, np.nan, np.inf]),
        "whole": np.array([3, -1, 2**40]),
        "small": np.array([1, 2, 3], dtype=np.uint8),
        "rows": np.arange(6.0).reshape(2, 3),
    }
    for name, column in arrays.items():
        raw = tried(outcomes.array_to_bytes, column)
        if isinstance(raw, str):
            yield f"{name}: {raw}"
            continue
        back = outcomes.array_from_bytes(raw)
        yield f"{name}: {len(raw)} bytes, {raw[:24]!r}, {outcomes.digest_of(raw)[:12]}"
        yield f"  back: {back.dtype} {back.tolist()}"
    for keys in (
        SampleKeys(("a", "b"), ("u", "u"), kind="drawing"),
        SampleKeys(("ä\n", ""), ("1", "2"), kind="sample"),
        KEYS,
    ):
        again = outcomes.keys_from_bytes(outcomes.keys_to_bytes(keys))
        yield f"keys: back {again.ids[:2]}, {again.units[:2]}, {again.kind}"
        hidden = outcomes.pseudonymous(keys)
        yield f"  hidden: {hidden.ids[:2]}, {hidden.units[:2]}, {hidden.kind}"


PARTS: dict[str, Callable[[Path], Iterator[str]]] = {
    "compared": compared,
    "history": kept_runs,
    "reports": reports,
    "journals": journals,
    "runs": runs_and_records,
    "columns": columns,
}


def recorded(part: str) -> list[str]:
    """Return what is recorded of one part."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        lines = [str(line).replace(str(root), "ROOT") for line in PARTS[part](root)]
        return [plain(line) for line in lines]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_said_is_what_the_record_says(part: str) -> None:
    records.check(RECORD, PARTS, part, recorded(part))
