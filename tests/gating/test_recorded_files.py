"""What recording writes, what failing tests say and which bounds are told of, as ``files/`` has it.

See ``tests/records.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import records
from gating_helpers import FILE, HEAD, measure
from whole_runs import BOUNDS, DAY, RUNS, measured, thresholds

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating import unjudged, waivers
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.message import failure_message
from pytest_cliprobust.gating.reading import load_thresholds, parse_thresholds
from pytest_cliprobust.gating.recording import record
from pytest_cliprobust.gating.unjudged import Chosen, find_unjudged
from pytest_cliprobust.gating.unmet import Declared
from pytest_cliprobust.gating.verdict import judge

pytestmark = pytest.mark.floors

FOLDER = Path(__file__).with_name("files")

ROWS = """\
schema = 1

[defaults]
model = "mine"
dataset = "clean"

[[threshold]]  # by hand
suite = "accuracy"
metric = "accuracy"
because = "users see it"
bounds = [
    { perturbation = "clean", min = 0.5 },  # measured 0.6 [0.5, 0.7], n = 100
    { perturbation = "fog_3d", severity = [1, 3, 5], min = [0.5, 0.4, 0.1], max_decrease = 0.03 },
]

[[threshold]]
suite = "calibration"
metric = "nll"
perturbation = "clean"
max = 9.0
because = "recorded at 1.2, 95% interval 1.1 to 1.3, n = 100"

[[threshold]]
suite = "calibration"
metric = "ece"
perturbation = "clean"
max = 0.06
max_increase = 0.01
"""

#: Files that recording begins from.
FILES = {
    "nothing": HEAD,
    "rows": ROWS,
    "another profile": ROWS.replace('model = "mine"', 'model = "mine"\nprofile = "full"'),
    "a pack": 'schema = 1\nextends = ["research"]\n',
    "rules for all": BOUNDS,
    "of others": FILE,
}

#: How it records.
WAYS: dict[str, dict[str, Any]] = {
    "as it does": {},
    "wide, with noise": {"margin": 2.0, "noise": None},
    "for any model": {"generic": ("model",)},
    "for any perturbation and severity": {"generic": ("perturbation", "severity")},
    "of a profile, of ten classes": {"profile": "quick", "classes": 10},
}


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waivers, "today", lambda: DAY)


def recordings(folder: Path) -> Iterator[str]:
    """Yield what recording says and leaves, from each file in each way."""
    mine = measured("mine", 20)
    few = [one for one in mine if not one.perturbation.startswith("noise_1")][:-4]
    more = [
        *few[::2],
        mine[-1],
        measure(value=0.0, half=0.0),
        measure("shape_bias", 0.4, suite="bias", half=0.1),
        measure("ece", 0.99, suite="worst", half=0.3),
        measure("accuracy", 0.11, suite="chance", half=0.05, model="mine"),
        measure("accuracy", 0.5, suite="sizes", perturbation="fog_3d", severity=2),
        measure("accuracy", 0.4, suite="sizes", perturbation="fog_3d", severity=4),
        measure("a_metric_of_nobody", 0.4, suite="frontier", perturbation="fog_3d"),
    ]
    for (name, text), (way, how) in itertools.product(FILES.items(), WAYS.items()):
        path = folder / "t.toml"
        path.write_text(text, encoding="utf-8")
        given = dict(how)
        if "noise" in given:
            given["noise"] = {one.key: 0.01 for one in more}
        yield f"===== {name}, {way}"
        try:
            changes = record(path, more, **given)
        except ClipRobustError as error:
            yield str(error)
            continue
        yield from map(str, changes)
        written = path.read_text(encoding="utf-8")
        load_thresholds(path)
        yield f"--- t.toml\n{written}" if written != text else "--- t.toml stays"
        if way == "as it does":
            again = record(path, measured("mine", 60)[:20], dry_run=True)
            yield "--- of a worse one"
            yield from (f"{one}{' LOOSER' if one.looser else ''}" for one in again)


def messages() -> Iterator[str]:
    """Yield what a failing test would say of each figure of the made-up runs that is not green."""
    for name in list(RUNS)[:4]:
        yield f"===== {name}"
        for one in RUNS[name]().records:
            if one.verdict.status in ("fail", "inconclusive"):
                yield failure_message(one.verdict, one.measurement, ["pytest", one.test])


GRID = """\
[[threshold]]
metric = "accuracy"
because = "why"
"""


def verdicts() -> Iterator[str]:
    """Yield verdicts of one figure, near and far from its bound, under several policies."""
    policies = ("", 'inconclusive = "fail"\n', "confidence = 0.8\nrequire_bound = true\n")
    bounds = ("min = 0.5", "min = 0.4\nmax = 0.6", "max_decrease = 0.05")
    shifts = (-0.3, -0.08, -0.01, 0.0, 0.01, 0.08, 0.3)
    for policy, bound in itertools.product(policies, bounds):
        text = f"{HEAD}[policy]\n{policy}{GRID}{bound}\n"
        rules = parse_thresholds(text, "t.toml")
        yield f"===== {policy} {bound}"
        for shift, n in itertools.product(shifts, (30, 1000)):
            half = 1.0 / n**0.5
            one = measure("accuracy", 0.5 + shift, half=half, n=n)
            told = judge(one, rules.lookup(one), rules.policy, error_rate=0.01)
            yield f"{0.5 + shift:.2f} of {n}: {told.status} {told.outcome}, {told.explanation}"
            yield f"    {told.low:.4g} {told.high:.4g} {told.confidence} {told.samples_needed} {told.where}"
    unbound = parse_thresholds(f"{HEAD}[policy]\nrequire_bound = true\n", "t.toml")
    told = judge(measure(), unbound.lookup(measure()), unbound.policy)
    yield f"{told.status} {told.outcome}, {told.explanation}"


def unjudged_lines() -> Iterator[str]:
    """Yield what is said of bounds that nothing met, for runs of several kinds and policies."""
    found = measured("mine", 20)
    narrower = (
        'suite = "accuracy"\nmetric = "accuracy"\nperturbation = ["fog_3d", "mist"]\nmin = 0.7\n',
        'suite = "accuracy"\nmetric = "accuracy"\nperturbation = "snow"\nseverity = [2, 3]\nmin = 0.7\n',
        'suite = "ood"\nmetric = "auroc_mcm"\nmodel = "mine"\ndataset = "near_odd"\nmin = 0.7\n',
        'suite = "ood"\nmetric = "auroc_mcm"\nmodel = "mien"\nmin = 0.7\n',
        'suite = "ood"\nmetric = "auroc_mcm"\nmodel = "another"\nmin = 0.7\n',
        'suite = "odd"\nmetric = "auroc_msp"\nmin = 0.7\n',
        'suite = "ood"\nmetric = "auroc_msp"\nprofile = "full"\nmin = 0.7\n',
    )
    text = BOUNDS + "".join(f"[[threshold]]\n{one}" for one in narrower)
    runs: dict[str, dict[str, Any]] = {
        "whole": {},
        "skipped": {"chosen": Chosen(skipped={"depth": ["a::test_depth"], "ood": ["a::test_b"]})},
        "cut": {"chosen": Chosen(cut={"ood": ["a::test_b"], "accuracy": ["a::test_accuracy"]})},
        "picked": {"chosen": Chosen(deselected={"ood": ["a::test_auroc"]}, by_id=["accuracy"])},
        "broken": {"suites_broken": ["ood", "depth"]},
        "of other data": {
            "datasets": ["mine"],
            "replaced_data": True,
            "own_datasets": ["near_ood"],
        },
        "of known models": {"known_models": ["mien", "another"]},
        "of other profiles": {
            "of_other_profiles": {"accuracy": Declared({"clean", "fog_3d", "snow"}, {1, 2, 3, 5})}
        },
        "of no such suite": {"why_no_suite": lambda suite: f"there is no suite {suite}"},
    }
    for policy, (name, about) in itertools.product(("fail", "warn"), runs.items()):
        rules = parse_thresholds(
            text.replace("[policy]", f'[policy]\nskipped = "{policy}"\nunused = "{policy}"'),
            "t.toml",
            profile="quick",
        )
        given = {"suites_run": ["accuracy", "calibration", "ood", "depth"], "models": ["mine"]}
        for one in found:
            rules.lookup(one)
        told = find_unjudged(rules, used=(), measured=found, **{**given, **about})
        yield f"===== {name}, {policy}: {'fails' if unjudged.fails(told, told.policy) else 'does not fail'}"
        yield from (f"{level}: {line}" for level, line in unjudged.lines(told, 3))


def explained() -> Iterator[str]:
    rules = thresholds()
    ones: list[Measurement] = [
        *measured("mine", 20),
        measure("ece"),
        measure("accuracy", suite="accuracy", perturbation="fog_3d", severity=5),
    ]
    yield from (rules.explain(one, "suites/test_a.py::test_b") for one in ones[::3])
    yield from rules.policy.sourced()
    yield str(replace(rules.policy, where="", sources={}))


RECORDED = {
    "messages": messages,
    "verdicts": verdicts,
    "unjudged": unjudged_lines,
    "explained": explained,
}


@pytest.mark.parametrize("name", RECORDED)
def test_words_are_those_of_the_record(name: str) -> None:
    records.compare(FOLDER / f"{name}.txt", records.plain("\n".join(RECORDED[name]())))


def test_recording_writes_what_the_record_has(tmp_path: Path) -> None:
    said = "\n".join(recordings(tmp_path))
    records.compare(FOLDER / "recordings.txt", records.plain(said, tmp_path))
