"""Made-up runs that hold every kind of thing that reports tell of, judged as sessions judge.

Figures rest on counts and sums, so that what is told of them hangs on no library's version.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import numpy as np
from history_helpers import KEYS, answers
from history_helpers import a_run as plain_run
from report_helpers import HARM

from pytest_cliprobust.datasets.skipping import Skipped
from pytest_cliprobust.datasets.templates import TemplateSummary
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.figures.arrays import Bools
from pytest_cliprobust.figures.auroc import auroc
from pytest_cliprobust.figures.bootstrap import (
    Bootstrap,
    mean_figure,
    paired_drop_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating import waivers
from pytest_cliprobust.gating.baseline import Baseline, Provenance, bare_key
from pytest_cliprobust.gating.family import Family, settled
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.recording import RecordChange
from pytest_cliprobust.gating.stale import find_stale
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.gating.unjudged import Chosen, find_unjudged
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.gating.weak import weak_for
from pytest_cliprobust.results.data import DataSummary
from pytest_cliprobust.results.record import Evidence, Record
from pytest_cliprobust.results.run import Environment, ModelSummary, NotMeasured, Run

#: The day on which the runs were made: waivers hold until some later one.
DAY = datetime.date(2026, 11, 27)

FOGS = (1, 3, 5)

#: So many perturbations break their bound: more than any list shows.
MANY = 14

BOUNDS = """\
schema = 1
extends = ["release"]

[policy]
inconclusive = "fail"

[[threshold]]
suite = "accuracy"
metric = "accuracy"
max_decrease = 0.02
because = "users notice every fiftieth picture"

[[threshold]]
suite = "accuracy"
metric = "accuracy"
perturbation = "fog_3d"
min = 0.6
because = "cars drive in fog"

[[threshold]]
suite = "accuracy"
metric = "accuracy_drop"
max = 0.3
max_increase = 0.05

[[threshold]]
suite = "calibration"
metric = "nll"
max = 1.2

[[threshold]]
suite = "calibration"
metric = "signed_gap"
min = -0.2
max = 0.3
because = "it has been 0 for years"

[[threshold]]
suite = "corruption"
metric = "accuracy"
min = 0.9

[[threshold]]
suite = "ood"
metric = "auroc_energy"
max_decrease = 0.001

[[threshold]]
suite = "retrieval"
metric = "image_to_text_recall_at_1"
min = 0.2

[[threshold]]
suite = "accuracy"
metric = "top5_accuracy"
min = 0.9

[[threshold]]
suite = "depth"
metric = "accuracy"
min = 0.1

[[waiver]]
suite = "calibration"
metric = "nll"
reason = "the new loss is wider"
owner = "the vision team"
expires = 2026-12-31

[[waiver]]
suite = "corruption"
metric = "accuracy"
perturbation = "noise_1"
reason = "noise is next year's"
owner = "anna"
expires = 2027-02-01

[[waiver]]
suite = "accuracy"
metric = "accuracy"
perturbation = "fog_3d"
severity = 5
reason = "until spring"
owner = "bob"
expires = 2026-11-01

[[waiver]]
suite = "calibration"
metric = "signed_gap"
reason = "not needed"
owner = "carl"
expires = 2026-12-01
"""


def thresholds(text: str = BOUNDS) -> ThresholdFile:
    """Return the bounds, as a session reads them on :data:`DAY`."""
    with patch.object(waivers, "today", lambda: DAY):
        return parse_thresholds(text, "thresholds.toml", profile="quick")


def _share(
    suite: str, condition: Condition, right: Bools, metric: str = "accuracy"
) -> tuple[str, Figure]:
    figure = proportion_figure(metric, right, Bootstrap(replicates=100, keys=KEYS))
    return suite, figure.measured_on(condition)


def _of(rate: float, seed: int) -> Bools:
    return np.asarray(np.random.default_rng(seed).random(len(KEYS)) < rate)


@cache
def figures(lost: int, harm: str = "") -> list[tuple[str, Figure]]:
    """Return the figures of a model that is wrong on ``lost`` more samples, with their suites.

    One that lost any has a figure that is no number.
    """
    boot = Bootstrap(replicates=100, keys=KEYS)
    clean, right = Condition("clean"), answers(0.9, seed=1)
    right[np.flatnonzero(right)[:lost]] = False
    generator = np.random.default_rng(3)
    made = [_share("accuracy", clean, right)]
    for severity in FOGS:
        foggy = right & _of(1 - severity / 8, 10 + severity)
        fog = Condition("clean", (Step("fog_3d", severity),))
        made.append(_share("accuracy", fog, foggy))
        drop = paired_drop_figure("accuracy_drop", right, foggy, boot)
        made.append(("accuracy", drop.measured_on(fog)))
    made.append(_share("accuracy", Condition(f"sketch{harm}"), _of(0.7, 5), "top5_accuracy"))
    nats = generator.exponential(1.0, len(KEYS)) + 0.01 * lost
    nll = mean_figure("nll", nats, boot, supposed=(0.0, 5.0), unit="nats")
    made.append(("calibration", nll.measured_on(clean)))
    made.append(("calibration", Figure("signed_gap", 0.05, -0.05, 0.15, 200).measured_on(clean)))
    made.append(("calibration", Figure("ece", 0.04, 0.02, 0.07, 200).measured_on(clean)))
    for number in range(MANY):
        on = Condition("clean", (Step(f"noise_{number}"),))
        made.append(_share("corruption", on, _of(0.5 + number / 50, 20 + number)))
    made.append(_share("corruption", Condition("clean", (Step(f"grain{harm}"),)), _of(1.0, 1)))
    scores = generator.normal(1.0, 1.0, 100), generator.normal(lost / 60, 1.0, 100)
    for name in ("near_ood", "far_ood"):
        found = auroc("auroc_energy", *scores, bootstrap=replace(boot, keys=KEYS))
        made.append(("ood", found.measured_on(Condition(name))))
    if not lost:
        return made
    nan = float("nan")
    made.append(
        (
            "retrieval",
            Figure("image_to_text_recall_at_1", nan, nan, nan, 0).measured_on(Condition("pairs")),
        )
    )
    return made


def measured(model: str, lost: int, harm: str = "") -> list[Measurement]:
    """Return the measurements of one model."""
    return [Measurement(suite, model, figure) for suite, figure in figures(lost, harm)]


def provenance(models: Sequence[str], digest: str = "cd34") -> Provenance:
    """Return what else decided the figures."""
    return Provenance(
        "quick",
        0,
        precision=dict.fromkeys(models, "fp32"),
        weights={model: f"{digest}{number}" for number, model in enumerate(models)},
        templates=dict.fromkeys(models, "t"),
        data={"clean": "d"},
        perturbations={"fog_3d": "1"},
    )


def before(models: Sequence[str], harm: str = "") -> Baseline:
    """Return the run before, of which far OOD detection is not known."""
    known = {
        (bare_key(one), model): one.figure
        for model in models
        for one in measured(model, 0, harm)
        if one.dataset != "far_ood"
    }
    earlier = replace(provenance(models, "ab12"), templates=dict.fromkeys(models, "other"))
    return Baseline("thresholds.baseline.safetensors", known, earlier, provenance(models))


def records_of(
    rules: ThresholdFile, found: Sequence[Measurement], baseline: Baseline | None, harm: str = ""
) -> tuple[Record, ...]:
    """Return figures with verdicts, as the end of a session has them."""
    family, made = Family.of(found), []
    for one in found:
        rule = rules.lookup(one)
        verdict = judge(
            one,
            rule,
            rules.policy,
            baseline=baseline,
            error_rate=family.error_rate(one, rules.policy),
            noise_floor=0.0005,
            no_baseline="there is no baseline; record one with --clip-record",
        )
        weak = [] if rule is None else weak_for(rule, one, 10, None)
        test = f"suites/test_{one.suite}.py::test_{one.metric}"
        shown = Evidence(
            (("seen", f"a cat in fog{harm}"), ("severity", "5")),
            {"density": 0.25},
            f"cliprobust perturb fog_3d --severity 5{harm}",
            "pictures/fog.png",
        )
        evidence = shown if verdict.failed and one.severity == FOGS[-1] else None
        rule_id = rule.id if rule else None
        made.append(Record(one, verdict, test, rule_id, (), 0.0005, evidence, tuple(weak)))
    pairs = [(one.measurement, one.verdict) for one in made]
    after = settled(pairs, rules.policy, family)
    judged = [
        replace(one, verdict=rules.waived(one.measurement, verdict, one.test))
        for one, verdict in zip(made, after, strict=True)
    ]
    return tuple(sorted(judged, key=lambda one: one.key))


def whole(
    lost: Mapping[str, int] | None = None,
    *,
    harm: str = "",
    text: str = BOUNDS,
    compared: bool = True,
    **other: object,
) -> Run:
    """Return a run that came to its end: by model, how many samples it lost."""
    models = dict(lost or {"mine": 20})
    rules = thresholds(text)
    found = [one for model, count in models.items() for one in measured(model, count, harm)]
    baseline = before(tuple(models), harm) if compared else None
    records = records_of(rules, found, baseline, harm)
    about = {
        "suites_run": {*(one.suite for one in found), "depth"},
        "models": tuple(models),
        "chosen": Chosen(skipped={"depth": ["suites/test_depth.py::test_depth"]}),
    }
    used = {record.rule for record in records if record.rule}
    missing = find_unjudged(rules, used=used, measured=found, **about)  # type: ignore[arg-type]
    judged = [(one.measurement, one.verdict, one.test) for one in records]
    missing.stale = find_stale(rules, judged, **about)  # type: ignore[arg-type]
    summaries = {
        f"{model}": ModelSummary(
            model,
            "ViT-B-32",
            "own",
            f"cd34{number}" * 12,
            (f"a note on {model}{harm}",),
            {"team": f"vision{harm}"},
            "cpu",
            "fp32",
            encoded=1200,
            cached=300,
            noise=(0.0005, 0.001),
            probed=4,
            weights={"model.safetensors": "ab" * 32},
        )
        for number, model in enumerate(models)
    }
    run = plain_run([], next(iter(models)), suite="accuracy")
    failed = any(record.verdict.failed for record in records)
    made = replace(
        run,
        config=RunConfig(tuple(models), profile="quick", cache_dir=None),
        records=records,
        models=summaries,
        planned=20,
        not_run=(NotMeasured(f"suites/test_depth.py::test_depth[{harm}]", "depth", "needs depth"),),
        unjudged=missing,
        unjudged_fail=bool(missing.skipped),
        notes=(f"a note{harm}", "another"),
        skipped=(
            Skipped("clean", 400, tuple((f"cat/{i}.png{harm}", "truncated") for i in range(14))),
        ),
        thresholds="thresholds.toml",
        baseline=baseline,
        held_against="thresholds.baseline.safetensors" if baseline else "",
        provenance=provenance(tuple(models)),
        environment=Environment("3.11", "2.10", "here"),
        kept="run 7 in history.sqlite",
        began="2026-11-27T11:50:00+0000",
        written="2026-11-27T12:00:00+0000",
        data=DataSummary(
            {"clean": ("clean",), "far_ood": ("far_ood",)},
            {"clean": TemplateSummary("OpenAI's for ImageNet", 80, "ef56" * 8)},
            "clean",
            True,
        ),
        sections={"Accuracy": ("accuracy", "corruption"), "Calibration": ("calibration",)},
        exit_status=1 if failed else 0,
        ending="regression" if failed else "passed",
    )
    return replace(made, **other)  # type: ignore[arg-type]


def cut_short() -> Run:
    """Return a run that somebody ended, with a dead worker and a file that could not be read."""
    gone = [
        NotMeasured(f"suites/test_ood.py::test_{number}", "ood", "its worker died (out of memory)")
        for number in range(13)
    ]
    gone.append(NotMeasured("suites/test_accuracy.py::test_a", "accuracy", "interrupted"))
    run = whole(
        complete=False,
        partial=True,
        missing=tuple(gone),
        not_collected=("suites/test_broken.py",),
        exit_status=2,
        ending="interrupted",
        troubles=("the disk is full", "a worker died"),
        lacking=("the suite depth", "data for the role sketch"),
        logged=("mlflow: run 12",),
        not_logged=("--clip-logger wandb: no server",),
        mistakes=("thresholds.toml:12: an unknown key 'maxx'. Did you mean 'max'?",),
    )
    return replace(run, unjudged=replace(run.unjudged, cut=list(run.unjudged.skipped)))


def recorded() -> Run:
    """Return a run that recorded, with changes of each kind, and no bound before."""
    key = "accuracy/accuracy/clean/clean/mine"
    changes = (
        RecordChange(key, "max_decrease", 0.02, 0.03, "updated", "thresholds.toml:7"),
        RecordChange(
            key, "min", None, 0.8, "added", "thresholds.toml:9", "instead of pack release"
        ),
        RecordChange(key, "min", 0.8, 0.8, "unchanged", "thresholds.toml:9"),
        RecordChange(
            key, "max_decrease", 0.1, 0.1, "unchanged", "thresholds.toml:9", "by a person"
        ),
        RecordChange(key, "", None, None, "skipped", "thresholds.toml", "weaker than chance"),
    )
    return whole({"mine": 0}, text="schema = 1\n", compared=False, recording=True, changes=changes)


#: Runs by name.
RUNS = {
    "two models, bounds missed, waived and undecided": lambda: whole({"mine": 20, "other": 3}),
    "names that do harm": lambda: whole({f"mine{HARM}": 9}, harm=HARM),
    "nothing to compare with": lambda: whole(compared=False),
    "cut short": cut_short,
    "all is well": lambda: whole(
        {"mine": 0},
        text='schema = 1\n[[threshold]]\nmetric = "accuracy"\nmin = 0.2\n',
        skipped=(),
        not_run=(),
        notes=(),
    ),
    "no bound": lambda: whole({"mine": 0}, text="schema = 1\n", compared=False),
    "recorded": recorded,
}
