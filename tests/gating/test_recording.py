"""Recording: bounds from a run, and nothing else of the file changes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gating_helpers import FILE, HEAD, block, condition, measure
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating import editing, toml
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.reading import load_thresholds
from pytest_cliprobust.gating.recording import record
from pytest_cliprobust.gating.verdict import judge


def test_a_record_changes_only_what_it_must(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = """\
# Gates of the release
schema = 1

[[threshold]]   # exact
  suite = "calibration"
  metric = "ece"   # the metric
  dataset = "clean"
  perturbation = "clean"
  model = "reference"
  max   =  0.10    # tight
  max_increase = 0.01
  because = "users see it"

[policy]        # stands between rules
confidence = 0.95

[[threshold]]
metric = "accurac[y]"
min = 0.5
max_decrease = 0.02
# the end"""
    path.write_text(text)
    path.chmod(0o640)
    changes = record(path, [measure(), measure("accuracy", 0.8, suite="corruption")])
    after = path.read_text()
    added = """

[[threshold]]
suite = "corruption"
metric = "accuracy"
dataset = "clean"
model = "reference"
bounds = [
    { perturbation = "clean", min = 0.76, max_decrease = 0.02 },  # measured 0.8 [0.78, 0.82], n = 1000
]
"""
    assert after == text.replace("max   =  0.10 ", "max   =  0.19 ") + added
    assert [str(change).replace(str(path), "t.toml") for change in changes] == [
        "t.toml:10: max 0.1 → 0.19 (calibration/ece/clean/clean/reference)",
        "t.toml:29: min 0.5 → 0.76 (corruption/accuracy/clean/clean/reference, instead of t.toml:19)",
        "t.toml:29: max_decrease 0.02 stays (corruption/accuracy/clean/clean/reference)",
    ]
    assert [change.action for change in changes] == ["updated", "added", "unchanged"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["t.toml"]


OLD_STYLE = """\
schema = 1

[[threshold]]
suite = "calibration"
metric = "ece"
dataset = "clean"
perturbation = "clean"
model = "reference"
{}
because = "recorded at 0.15, 95% interval 0.13 to 0.17, n = 1000"
"""


def test_a_recorded_reason_is_renewed_and_a_missing_bound_added(tmp_path: Path) -> None:
    """A table that is a rule itself keeps its form."""
    path = tmp_path / "t.toml"
    path.write_text(OLD_STYLE.format("max_increase = 0.05"))
    (change,) = record(path, [measure(value=0.3)])
    assert (change.old, change.action) == (None, "updated")
    text = path.read_text()
    assert 'because = "recorded at 0.3, 95% interval 0.28 to 0.32, n = 1000"' in text
    assert text.endswith("max = 0.34\n")
    assert "max_increase = 0.05\n" in text
    before = path.read_text()
    assert record(path, [measure(value=0.3)])[0].action == "unchanged"
    assert path.read_text() == before


def test_nothing_is_touched_where_no_bound_changes(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(OLD_STYLE.format("max = 0.19  # measured 0.1 [0.1, 0.1], n = 3"))
    before = path.read_text()
    assert record(path, [measure()])[0].action == "unchanged"
    assert path.read_text() == before
    record(path, [measure(value=0.16)])
    assert path.read_text() == OLD_STYLE.format(
        "max = 0.2  # measured 0.16 [0.14, 0.18], n = 1000"
    ).replace(
        "recorded at 0.15, 95% interval 0.13 to 0.17", "recorded at 0.16, 95% interval 0.14 to 0.18"
    )


ROWS = """\
schema = 1

[defaults]
model = "reference"
dataset = "clean"

# What the probabilities are for.
[[threshold]]
suite = "calibration"
metric = "ece"
bounds = [
    # on clean images
    {{ perturbation = "clean", max = {clean} }},  # {measured}
    {{ perturbation = "fog_3d", severity = [1, 3, 5], max = [0.2, 0.3, 0.4] }},{fog}
    {{ perturbation = "snow", severity = 3, max_increase = 0.1{snow} }}{end}
    # the last word
]

# --- The next suite
[[threshold]]
suite = "ood"
metric = "auroc_mcm"
min = 0.6
"""
PLAIN: dict[str, str] = {
    "clean": "0.1",
    "measured": "measured 0.08 [0.07, 0.09], n = 50",
    "fog": "  # measured 0.1 [0.1, 0.1], 0.2 [0.2, 0.2], 0.3 [0.3, 0.3], n = 9",
    "snow": "",
    "end": "",
}


def rows(**parts: str) -> str:
    return ROWS.format(**{**PLAIN, **parts})


def after(path: Path, run: list[Measurement], text: str, **how: Any) -> str:
    """Return what a file holds after a run was recorded into it; the run passes its bounds."""
    path.write_bytes(text.encode())
    record(path, run, **how)
    file = load_thresholds(path, profile=how.get("profile"))
    for measurement in run:
        rule = file.lookup(measurement)
        assert rule is not None
        # There is no baseline here.
        absolute = dataclasses.replace(rule, max_increase=None, max_decrease=None)
        assert judge(measurement, absolute, file.policy).status == "pass"
    return path.read_bytes().decode()


def fog(severity: int, value: float, n: int = 1000, metric: str = "ece") -> Measurement:
    return measure(metric, value, perturbation="fog_3d", severity=severity, n=n)


def test_a_row_and_its_comment_are_renewed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    assert after(path, [measure()], rows()) == rows(
        clean="0.19", measured="measured 0.15 [0.13, 0.17], n = 1000"
    )
    # What a person wrote behind the figures stays; what a person wrote in another form is theirs.
    both = rows(measured="measured 0.08 [0.07, 0.09], n = 50; twice on ARM")
    assert after(path, [measure()], both) == rows(
        clean="0.19", measured="measured 0.15 [0.13, 0.17], n = 1000; twice on ARM"
    )
    for own in ("do not touch", "measured by hand, n = 3"):
        assert after(path, [measure()], rows(measured=own)) == rows(clean="0.19", measured=own)
    # At another level than 95% the comment says so.
    strict = rows().replace("[defaults]", "[policy]\nconfidence = 0.9\n\n[defaults]")
    assert "n = 1000, at 90%\n" in after(path, [measure()], strict)


def test_an_element_of_a_list_is_renewed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    assert after(path, [fog(3, 0.5)], rows()) == rows(
        fog="  # measured 0.1 [0.1, 0.1], 0.5 [0.48, 0.52], 0.3 [0.3, 0.3], n = 9/1000/9"
    ).replace("0.2, 0.3, 0.4", "0.2, 0.54, 0.4")
    everything = [fog(5, 0.5), fog(1, 0.1), fog(3, 0.3)]
    done = rows(
        fog="  # measured 0.1 [0.08, 0.12], 0.3 [0.28, 0.32], 0.5 [0.48, 0.52], n = 1000"
    ).replace("0.2, 0.3, 0.4", "0.14, 0.34, 0.54")
    assert after(path, everything, rows()) == done
    # Without a comment of recording there is one now; what is not known is a question mark.
    assert after(path, everything, rows(fog="")) == done
    assert after(path, [fog(3, 0.5)], rows(fog="")) == rows(
        fog="  # measured ?, 0.5 [0.48, 0.52], ?, n = ?/1000/?"
    ).replace("0.2, 0.3, 0.4", "0.2, 0.54, 0.4")
    changes = record(path, [fog(1, 0.1), fog(3, 0.5)])
    assert [(c.bound, c.old, c.new, c.action) for c in changes] == [
        ("max", 0.2, 0.14, "updated"),
        ("max", 0.54, 0.54, "unchanged"),
    ]
    assert {c.where.rpartition(":")[2] for c in changes} == {"14"}


def test_a_key_that_a_row_lacks_is_added(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    snow = measure(perturbation="snow", severity=3)
    assert after(path, [snow], rows()) == rows(
        snow=", max = 0.19", end="  # measured 0.15 [0.13, 0.17], n = 1000"
    )


def test_new_rows_go_to_their_table(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    run = [
        measure(perturbation="frost"),
        fog(3, 0.3, metric="nll"),
        fog(2, 0.3),
        measure(dataset="clipart"),
        fog(1, 0.1, metric="nll", n=50),
        fog(5, 0.5, metric="nll"),
        measure(perturbation="frost", severity=2, model="other"),
    ]
    done = after(path, run, rows())
    assert done == (
        rows(end=",")
        .replace(
            "    # the last word\n",
            """\
    # the last word
    { perturbation = "frost", max = 0.19 },  # measured 0.15 [0.13, 0.17], n = 1000
    { perturbation = "fog_3d", severity = 2, max = 0.34 },  # measured 0.3 [0.28, 0.32], n = 1000
    { dataset = "clipart", perturbation = "clean", max = 0.19 },  # measured 0.15 [0.13, 0.17], n = 1000
    { perturbation = "frost", severity = 2, model = "other", max = 0.19 },  # measured 0.15 [0.13, 0.17], n = 1000
""",
        )
        .replace(
            "]\n\n# ---",
            """\
]

[[threshold]]
suite = "calibration"
metric = "nll"
bounds = [
    { perturbation = "fog_3d", severity = [1, 3, 5], max = [0.14, 0.34, 0.54] },  # measured 0.1 [0.08, 0.12], 0.3 [0.28, 0.32], 0.5 [0.48, 0.52], n = 50/1000/1000
]

# ---""",
        )
    )
    # Byte by byte the same with the other line ending.
    crlf = after(path, run, rows().replace("\n", "\r\n"))
    assert crlf == done.replace("\n", "\r\n")
    assert {change.action for change in record(path, run)} == {"unchanged"}


@pytest.mark.parametrize(
    ("bounds", "then"),
    [
        ("[{ suite = 'ood', max = 0.9 }]", "[{ suite = 'ood', max = 0.9 },\n    NEW\n]"),
        ("[{ suite = 'ood', max = 0.9 },]", "[{ suite = 'ood', max = 0.9 },\n    NEW\n]"),
        ("[\n  {max = 0.9}  # c\n]", "[\n  {max = 0.9},  # c\n  NEW\n]"),
        ("[\n\t{max = 0.9} , # c\n\n]", "[\n\t{max = 0.9} , # c\n\n\tNEW\n]"),
        ("[\n  {max = 0.9} # c\n  , # d\n]", "[\n  {max = 0.9} # c\n  , # d\n  NEW\n]"),
        ("[ {max = 0.9}\n# ] {\n  ] # end", "[ {max = 0.9},\n# ] {\n    NEW\n  ] # end"),
    ],
)
@pytest.mark.parametrize("tail", ["", "\n", "\n# end\n"])
def test_rows_are_added_however_the_list_is_written(
    tmp_path: Path, bounds: str, then: str, tail: str
) -> None:
    row = (
        '{ dataset = "clean", perturbation = "clean", model = "reference", max = 0.19 },'
        "  # measured 0.15 [0.13, 0.17], n = 1000"
    )
    text = HEAD + '[[threshold]]\nsuite = "calibration"\nmetric = "ece"\nbounds = {}' + tail
    done = after(tmp_path / "t.toml", [measure()], text.format(bounds))
    assert done == text.format(then.replace("NEW", row))


def test_a_row_names_what_its_table_has_otherwise(tmp_path: Path) -> None:
    """And opens what the file's defaults close, if it is to stay open."""
    path = tmp_path / "t.toml"
    text = (
        HEAD
        + '[defaults]\nmodel = "reference"\nprofile = "quick"\n[[threshold]]\n'
        + 'suite = "calibration"\nmetric = "ece"\ndataset = "clipart"\nseverity = 3\n'
        + 'bounds = [\n  { perturbation = "snow", max = 0.9 },\n]\n'
    )
    done = after(path, [measure()], text, generic=("profile",))
    new = done.splitlines()[11]
    assert new == (
        '  { dataset = "clean", perturbation = "clean", severity = "*", profile = "*", max = 0.19 },'
        "  # measured 0.15 [0.13, 0.17], n = 1000"
    )
    done = after(path, [measure("nll")], text, generic=("profile", "model"))
    assert done.endswith(
        'metric = "nll"\ndataset = "clean"\nbounds = [\n    { perturbation = "clean", '
        'profile = "*", max = 0.19 },  # measured 0.15 [0.13, 0.17], n = 1000\n]\n'
    )
    done = after(path, [measure("nll")], text, profile="quick")
    assert (
        'metric = "nll"\ndataset = "clean"\nbounds = [\n    { perturbation = "clean", max' in done
    )


def test_the_nearest_of_several_tables_takes_the_row(tmp_path: Path) -> None:
    """One that names the metric before one of the suite alone, then the one with most in common."""
    path = tmp_path / "t.toml"
    tables = [
        'suite = "calibration"\nbounds = [\n  {{ metric = "nll", max = 0.9 }},\n{}]\n',
        'suite = "calibration"\nmetric = "ece"\nbounds = [\n  {{ perturbation = "x", model = "n", max = 0.9 }},\n{}]\n',
        'suite = "calibration"\nmetric = "ece"\ndataset = "clean"\nbounds = [\n  {{ max = 0.9 }},\n{}]\n',
        'suite = "ood"\nmetric = "ece"\ndataset = "clean"\nbounds = [\n  {{ max = 0.9 }},\n{}]\n',
        'suite = "calibration"\nmetric = "ece"\nmax = 0.9\nmodel = "m"\ndataset = "x"\n{}',
        'suite = "cal*"\nmetric = "ece"\nbounds = [\n  {{ model = "x", max = 0.9 }},\n{}]\n',
    ]

    def file(chosen: int | None, new: str) -> str:
        return HEAD + "".join(
            "[[threshold]]\n" + table.format(new if number == chosen else "")
            for number, table in enumerate(tables)
        )

    end = 'model = "reference", max = 0.19 },  # measured 0.15 [0.13, 0.17], n = 1000\n'
    done = after(path, [measure(perturbation="fog")], file(None, ""))
    assert done == file(2, '  { perturbation = "fog", ' + end)
    done = after(path, [measure("brier")], file(None, ""))
    assert done == file(
        0, '  { metric = "brier", dataset = "clean", perturbation = "clean", ' + end
    )
    del tables[2]
    done = after(path, [measure(perturbation="fog")], file(None, ""))
    assert done == file(1, '  { dataset = "clean", perturbation = "fog", ' + end)


def test_what_a_table_says_otherwise_is_nothing_in_common(tmp_path: Path) -> None:
    tables = [
        'suite = "calibration"\nmetric = "ece"\ndataset = "sketch"\nmodel = "m"\nbounds = [\n  {{ max = 0.9 }},\n{}]\n',
        'suite = "calibration"\nmetric = "ece"\ndataset = "clean"\nbounds = [\n  {{ max = 0.9 }},\n{}]\n',
    ]
    text = HEAD + "".join(f"[[threshold]]\n{table.format('')}" for table in tables)
    done = after(tmp_path / "t.toml", [measure(perturbation="fog")], text)
    first, second = done.split("[[threshold]]\n")[1:]
    assert (first, "fog" in second) == (tables[0].format(""), True)


def test_a_list_gets_a_side_for_all_severities_or_for_none(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = (
        HEAD
        + '[[threshold]]\nsuite = "calibration"\nmetric = "ece"\ndataset = "clean"\n'
        + 'model = "reference"\nbounds = [\n  { perturbation = "fog_3d", severity = [1, 3], '
        + "max_increase = [0.1, 0.2]{} },{}\n]\n"
    )
    path.write_text(text.replace("{}", ""))
    (change,) = record(path, [fog(1, 0.1)])
    assert str(change).endswith(
        "t.toml:8: not recorded: its row has no max, and severity 3 was not measured; record "
        "all of its severities, or give them rows of their own "
        "(calibration/ece/clean/fog_3d@1/reference)"
    )
    assert path.read_text() == text.replace("{}", "")
    done = after(path, [fog(3, 0.3), fog(1, 0.1)], text.replace("{}", ""))
    assert done == text.replace("{}", ", max = [0.14, 0.34]", 1).replace(
        "{}", "  # measured 0.1 [0.08, 0.12], 0.3 [0.28, 0.32], n = 1000"
    )
    # One number for all becomes a list.
    done = after(path, [fog(3, 0.3)], text.replace("{}", ", max = 0.2", 1).replace("{}", ""))
    assert "max_increase = [0.1, 0.2], max = [0.2, 0.34] }," in done


def test_the_strictest_bound_on_a_change_is_taken_over(tmp_path: Path) -> None:
    """A rule that is to hold two models must ask of both what was asked of either."""
    path = tmp_path / "t.toml"
    models = {"v1": 0.03, "v2": 0.01, "v3": 0.02}
    text = HEAD + "".join(
        f'[[threshold]]\nmetric = "ece"\nmodel = "{name}"\nmax = 0.5\nmax_increase = {size}\n'
        for name, size in models.items()
    )
    path.write_text(text)
    changes = record(path, [measure(model=name) for name in models], generic=("model",))
    assert [(c.bound, c.new, c.action) for c in changes] == [
        ("max", 0.19, "added"),
        ("max_increase", 0.01, "unchanged"),
    ]
    assert load_thresholds(path).rules[-1].bounds == {"max": 0.19, "max_increase": 0.01}


def test_bounds_on_a_change_stand_in_lists_too(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    wide = HEAD + '[[threshold]]\nmetric = "ece"\nmax = 0.5\nmax_increase = 0.02\n'
    narrow = '[[threshold]]\nmetric = "ece"\nseverity = 3\nmax = 0.5\nmax_increase = 0.01\n'
    done = after(path, [fog(1, 0.1), fog(3, 0.3), fog(5, 0.4)], wide, margin=1.0)
    assert "max = [0.16, 0.36, 0.46], max_increase = [0.02, 0.02, 0.02] }" in done
    path.write_text(wide + narrow)
    record(path, [fog(1, 0.1), fog(3, 0.3)])
    assert "max = [0.14, 0.34], max_increase = [0.02, 0.01] }" in path.read_text()


def test_severities_with_other_kinds_of_bounds_are_rows_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = HEAD + '[[threshold]]\nmetric = "ece"\nseverity = 3\nmax_increase = 0.1\n'
    done = after(
        path, [fog(1, 0.1), fog(3, 0.3), measure(perturbation="fog_3d")], text + "max = 0.9\n"
    )
    assert [line.partition("  #")[0] for line in done.splitlines()[-5:-1]] == [
        "bounds = [",
        "    { severity = 1, max = 0.14 },",
        "    { severity = 3, max = 0.34, max_increase = 0.1 },",
        "    { max = 0.19 },",
    ]
    assert 'perturbation = "fog_3d"\nmodel' in done


def test_dry_runs_and_skipped_figures(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "t.toml"
    bad = measure(value=math.nan)
    strange = measure("my_own_thing")
    changes = record(path, [measure(), bad, strange], dry_run=True)
    assert not path.exists()
    assert sorted(change.action for change in changes) == ["added", "skipped", "skipped"]
    assert "not recorded: the figure is not finite" in str(changes[0])
    assert "register_metric" in str(changes[1])
    record(path, [measure(), bad])
    assert len(load_thresholds(path).rules) == 1


def test_what_cannot_be_gated_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(HEAD)
    run = [measure("temperature", 1.5), measure("classwise_ece", 0.1), measure("ece", 0.1)]
    told = [str(change) for change in record(path, run)]
    assert "temperature" not in path.read_text()
    assert "it is reported, and not gated: where few answers are wrong" in told[0]
    # Of class-wise ECE the value holds, only changes do not.
    assert "max = " in path.read_text()
    assert "classwise_ece" in path.read_text()


def test_the_wrong_side_alone_takes_no_bands_place(tmp_path: Path) -> None:
    """All that an ECE of 1 allows is a bound from below, which no loss would miss: the band goes on judging."""
    path = tmp_path / "t.toml"
    band = block({"suite": "calibration"}, "min = 0.1\nmax = 0.8")
    path.write_text(HEAD + band)
    before = path.read_text()
    told = [str(change) for change in record(path, [measure("ece", 1.0, severity=1, half=0.0)])]
    assert "would gate nothing" in str(told)
    assert path.read_text() == before
    (rule,) = load_thresholds(path).rules
    assert rule.bounds == {"min": 0.1, "max": 0.8}


def test_directions_and_bands(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    run = [
        measure("auroc_mcm", 0.9),
        measure("signed_gap", 0.05),
        measure("accuracy", 0.97),
        measure("accuracy", 0.01, dataset="hard"),
    ]
    told = [str(change) for change in record(path, run)]
    by_id = {
        rule.selectors["metric"] + rule.selectors["dataset"]: rule
        for rule in load_thresholds(path).rules
    }
    assert by_id["auroc_mcm", "clean"].bounds == {"min": 0.86}
    assert by_id["signed_gap", "clean"].bounds == {"min": 0.01, "max": 0.09}
    # A bound that no model misses is worth no line.
    assert ("accuracy", "hard") not in by_id
    assert "min -0.01 would gate nothing: no model misses it: accuracy is never below 0" in str(
        told
    )
    # A band of the user's stays one; a metric without direction keeps its one side.
    path.write_text(
        HEAD
        + block({"suite": "calibration"}, "max = 0.7\nmin = 0.6").replace("ece", "auroc_mcm")
        + block({"suite": "calibration"}, "max = 0.5").replace("ece", "signed_gap")
    )
    record(path, run[:2])
    rules = load_thresholds(path).rules
    assert rules[2].bounds == {"min": 0.86, "max": 0.94}
    assert rules[3].bounds == {"max": 0.09}


def test_generic_rules_hold_the_next_release(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    run = [measure(model="v1"), measure(model="v2", value=0.2)]
    changes = record(path, run, generic=("model",))
    assert [(change.new, change.key) for change in changes] == [(0.24, run[1].key)]
    file = load_thresholds(path)
    assert len(file.rules) == 1
    assert file.lookup(measure(model="v3")) is file.rules[0]
    assert "# measured 0.2 [0.18, 0.22], n = 1000\n" in path.read_text()
    assert record(path, run, generic=("model",))[0].action == "unchanged"
    # Exactly recorded, one model gets a rule of its own.
    record(path, [measure(model="v1", value=0.05)])
    assert len(load_thresholds(path).rules) == 2
    with pytest.raises(ClipRobustError, match="'metric' open"):
        record(path, run, generic=("metric",))
    with pytest.raises(ClipRobustError, match="margin"):
        record(path, run, margin=-1)


def test_a_record_that_would_not_count_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    wide = {"suite": "calibration", "dataset": "clean", "perturbation": "clean", "model": "ref*"}
    path.write_text(HEAD + block(wide))
    before = path.read_text()
    with pytest.raises(
        ClipRobustError, match=r"nothing was recorded: .*t.toml:2 .* would win over"
    ):
        record(path, [measure()], generic=("model",))
    path.write_text(HEAD + block({"suite": "calibration", "model": "reference"}))
    with pytest.raises(ClipRobustError, match=r"nothing was recorded, .*equally specific"):
        record(path, [measure()], generic=("model", "perturbation"))
    path.write_text(before)
    record(path, [measure()])
    assert path.read_text().startswith(before)


def test_profiles_are_recorded_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    record(path, [measure()], profile="quick")
    record(path, [measure(value=0.3)], profile="full")
    rules = load_thresholds(path).rules
    assert [rule.selectors["profile"] for rule in rules] == [("quick",), ("full",)]
    assert [rule.maximum for rule in rules] == [0.19, 0.34]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.toml"
    path.write_text(FILE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Unavailable, match=r"cannot be written: No space left"):
        record(path, [measure()])
    assert path.read_text() == FILE
    assert os.listdir(tmp_path) == ["t.toml"]


def test_links_are_followed(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_text(FILE)
    link = tmp_path / "link.toml"
    link.symlink_to(real)
    record(link, [measure()])
    assert link.is_symlink()
    assert len(load_thresholds(real).rules) == 4


NAME = st.text(alphabet="aé[*?]\"\\'#\t /:.-", min_size=1, max_size=6)
MEASUREMENTS = st.lists(
    st.tuples(
        st.sampled_from(["ece", "accuracy", "signed_gap", "mce", "image_to_text_recall_at_5"]),
        NAME,
        st.sampled_from([None, 1, 5]),
        st.floats(0, 1),
        st.floats(0, 0.3),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda entry: entry[:3],
)


def as_table(measurement: Measurement, draw: Callable[[Any], Any]) -> str:
    """Return a rule that is a table of its own, its keys in any order."""
    lines = [f"  {k} = {v} # {k}\n" for k, v in selector(measurement).items()]
    lines.append(f"  {draw(st.sampled_from(bounds_for(measurement)))}\n".replace(", ", "\n  "))
    return "[[threshold]] # rule\n" + "".join(draw(st.permutations(lines)))


def as_rows(group: list[Measurement], draw: Callable[[Any], Any]) -> str:
    """Return a table of rows for measurements of one metric."""
    rows = []
    for measurement in group:
        pairs = [f"{k} = {v}" for k, v in selector(measurement).items()]
        pairs.append(draw(st.sampled_from(bounds_for(measurement))))
        rows.append("{" + ", ".join(draw(st.permutations(pairs))) + "}")
    comment = draw(st.sampled_from(["", " # c", "  # measured 1 [0, 2], n = 3"]))
    between: str = draw(st.sampled_from([", ", f",{comment}\n  ", f"{comment}\n  ,\n"]))
    ends: str = draw(
        st.sampled_from(["[{}]", f"[\n  {{}},{comment}\n]", f"[\n{{}}{comment}\n\n # c\n]"])
    )
    return (
        "[[threshold]]\nsuite = 'calibration'\nbounds = " + ends.format(between.join(rows)) + "\n"
    )


def selector(measurement: Measurement) -> dict[str, str]:
    model = measurement.model.translate({ord(c): f"[{c}]" for c in "*?["})
    found = {
        "suite": "calibration",
        "metric": measurement.metric,
        "dataset": "clean",
        "perturbation": "clean",
        "model": model,
        "severity": measurement.severity,
    }
    return {name: json.dumps(value) for name, value in found.items() if value is not None}


def bounds_for(measurement: Measurement) -> list[str]:
    both = ["min = 0.1, max = 0.8"]
    return [*both, "max = 0.7", "min = -0.3"] if measurement.metric == "signed_gap" else both


def blotted(line: str) -> str:
    """Return a line without what recording may change: numbers of bounds, its own comments."""
    line = re.sub(r"\b(min|max) = [^,}\s]+", r"\1", line)
    line = re.sub(r"  # measured .*", "", line)
    line = re.sub(r"\}\s*,", "}", line)
    # The bracket of a list may have got a line of its own.
    return line.rstrip().removesuffix("]").rstrip().removesuffix(",")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.data(),
    MEASUREMENTS,
    st.sampled_from(["", "# c\n", "\n\n", "  # no newline at the end"]),
    st.booleans(),
    st.floats(0, 2),
)
def test_record_round_trip(
    tmp_path: Path,
    data: st.DataObject,
    entries: list[tuple[str, str, int | None, float, float]],
    tail: str,
    crlf: bool,
    margin: float,
) -> None:
    """Whatever the file looks like: the run that was recorded passes, nothing else has changed."""
    run = [
        measure(metric, value, model=name, severity=severity, half=half)
        for metric, name, severity, value, half in entries
    ]
    there = data.draw(st.lists(st.sampled_from(run), unique_by=lambda m: m.key))
    split = data.draw(st.integers(0, len(there)))
    blocks = [as_table(measurement, data.draw) for measurement in there[:split]]
    if there[split:]:
        blocks.append(as_rows(there[split:], data.draw))
    blocks = data.draw(st.permutations(["[policy]\nconfidence = 0.9\n", *blocks]))
    before = "\n# between\n".join(["schema = 1 # s\n", *blocks]) + tail
    if crlf:
        before = before.replace("\n", "\r\n")
    path = tmp_path / "t.toml"
    path.write_bytes(before.encode())
    changes = record(path, run, margin=margin)
    after = path.read_bytes().decode()

    file = load_thresholds(path)
    assert len(changes) >= len(run)
    left_out = {change.key for change in changes if change.action == "skipped"}
    for measurement in (m for m in run if m.key not in left_out):
        rule = file.lookup(measurement)
        assert rule is not None
        assert rule.specificity.exact == (5 if measurement.severity is None else 6)
        assert judge(measurement, rule, file.policy).status == "pass"
        loose = dataclasses.replace(file.policy, confidence=0.8)
        assert judge(measurement, rule, loose).status == "pass"
    for change in (change for change in changes if change.action != "skipped"):
        line = after.split("\n")[int(change.where.rpartition(":")[2]) - 1]
        assert change.new is not None
        assert re.search(rf"\b{change.bound} = (\[.*)?{re.escape(repr(change.new))}", line)

    # Line by line: what was there still is, in its order, but for bounds and their comments.
    old, new = ([blotted(line) for line in text.split("\n")] for text in (before, after))
    rest = iter(new)
    lacking = [line for line in old if line not in rest]
    assert lacking in ([], [""])  # The very last line may have been ended.
    assert ("\r\n" in after) == crlf
    assert not crlf or after.count("\n") == after.count("\r\n")

    again = record(path, run, margin=margin)
    assert {change.action for change in again} <= {"unchanged", "skipped"}
    assert path.read_bytes().decode() == after


def test_a_shared_rule_gets_the_loosest_of_their_bounds(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    values = {"v1": 0.9, "v2": 0.7, "v3": 0.8}
    run = [measure("accuracy", value, model=name) for name, value in values.items()]
    changes = record(path, run, generic=("model",))
    assert [(c.bound, c.new, c.key) for c in changes] == [("min", 0.66, run[1].key)]
    assert "# measured 0.7 [0.68, 0.72], n = 1000\n" in path.read_text()


def test_the_noise_of_a_figure_is_left_to_it(tmp_path: Path) -> None:
    """A figure without an interval must not be in doubt on another machine."""
    path = tmp_path / "t.toml"
    run = [measure(half=0.0), measure(half=0.0, dataset="other")]
    record(path, run, noise={run[0].key: 0.003, "another": 0.1})
    assert [rule.bounds for rule in load_thresholds(path).rules] == [{"max": 0.153}, {"max": 0.15}]


def test_a_figure_outside_of_its_own_interval_passes(tmp_path: Path) -> None:
    """The percentile interval of a biased statistic may leave out its estimate."""
    for metric, low, high in (("ece", 0.05, 0.1), ("accuracy", 0.2, 0.3)):
        path = tmp_path / f"{metric}.toml"
        figure = Figure(metric, 0.15, low, high, 100).measured_on(condition())
        measurement = Measurement("s", "m", figure)
        record(path, [measurement], margin=0.0)
        file = load_thresholds(path)
        assert judge(measurement, file.lookup(measurement), file.policy).status == "pass"


def test_bounds_are_recorded_at_the_level_at_which_they_are_kept(tmp_path: Path) -> None:
    """However many bounds there are: the run's error rate is for losses."""
    path = tmp_path / "t.toml"
    path.write_text(HEAD + "[policy]\nconfidence = 0.99\nfamily_wise_error_rate = 0.001\n")
    record(path, [measure()], margin=0.0)
    assert "n = 1000, at 99%\n" in path.read_text()
    file = load_thresholds(path)
    assert judge(measure(), file.rules[0], file.policy, error_rate=1e-6).status == "pass"
    stricter = dataclasses.replace(file.policy, confidence=0.995)
    assert judge(measure(), file.rules[0], stricter).status == "inconclusive"


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_margin_is_a_size(tmp_path: Path, margin: float) -> None:
    with pytest.raises(ClipRobustError, match="the margin of a record must be 0 or more"):
        record(tmp_path / "t.toml", [measure()], margin=margin)


@pytest.mark.parametrize("name", ["metric", "sute", "threshold"])
def test_only_fields_can_be_left_open(tmp_path: Path, name: str) -> None:
    with pytest.raises(ClipRobustError, match=f"a recorded rule cannot leave '{name}' open"):
        record(tmp_path / "t.toml", [measure()], generic=("model", name))


def test_a_severity_can_be_left_open(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    record(path, [fog(1, 0.1), fog(5, 0.5), fog(3, 0.3)], generic=("severity",))
    (rule,) = load_thresholds(path).rules
    assert (rule.severities, rule.bounds) == ((), {"max": 0.54})
    changes = record(path, [fog(5, 0.6)], generic=("severity",))
    assert [change.action for change in changes] == ["updated"]


def test_a_mistake_of_the_editor_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not meant to change is compared, not trusted."""
    path = tmp_path / "t.toml"
    path.write_text(rows())
    monkeypatch.setattr(editing, "comment_on", lambda measured: "\nschema = 7 #")
    with pytest.raises((RuntimeError, toml.TOMLDecodeError)):
        record(path, [measure(perturbation="frost")])
    monkeypatch.setattr(editing, "comment_on", lambda measured: "# \n[defaults.more]\nx = 1\n")
    with pytest.raises((RuntimeError, toml.TOMLDecodeError)):
        record(path, [measure("nll")])
    assert path.read_text() == rows()


def test_what_only_a_person_can_bound_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(HEAD)
    told = [str(change) for change in record(path, [measure("relative_latency", 1.0)])]
    assert path.read_text() == HEAD
    assert "it is gated only where you set a bound yourself" in told[0]
    own = '[[threshold]]\nmetric = "relative_latency"\nmax = 1.1\n'
    path.write_text(HEAD + own)
    record(path, [measure("relative_latency", 1.0)])
    assert path.read_text() == HEAD + own


def test_a_shared_rule_has_no_side_that_gates_nothing_for_one_of_its_models(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    narrow = measure("signed_gap", 0.05, model="v1")
    wide = measure("signed_gap", 0.0, half=1.0, model="v2")
    told = [str(change) for change in record(path, [narrow, wide], generic=("model",))]
    assert [one.partition(": ")[2].partition(" would")[0] for one in told] == [
        "not recorded: max 1",
        "not recorded: min -1",
    ]
    assert not path.exists()
    # One side alone is left where the other gates something for both.
    high = measure("signed_gap", 0.6, half=0.3, model="v3")
    record(path, [narrow, high], generic=("model",))
    (rule,) = load_thresholds(path).rules
    assert rule.bounds == {"min": 0.0}
