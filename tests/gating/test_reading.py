"""Reading a threshold file: every mistake is one line with its place."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from gating_helpers import FILE, HEAD, RULE, block, complaint, measure
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import load_thresholds, parse_thresholds


def test_a_file_is_read_with_its_lines() -> None:
    file = parse_thresholds(FILE, "t.toml")
    assert file.policy == Policy("fail", 0.9, where="t.toml:3")
    assert [rule.line for rule in file.rules] == [7, 12, 18]
    assert file.rules[0].where_of("max") == "t.toml:9"
    assert file.rules[2].where_of("severity") == "t.toml:22"
    assert file.rules[0].because == "the probabilities are shown to users"
    assert file.rules[2].id == (
        "suite=calibration metric=ece perturbation=fog_3d|flash severity=4|5"
    ).replace("fog_3d|flash", "flash|fog_3d")
    assert file.rules[2].bounds == {"max": 0.3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 1\nx = = 2\n", "t.toml:2: not valid TOML: Invalid value at column 5"),
        ('schema = 1\nx = """open', "t.toml:2: not valid TOML: "),
        ("schema = 1\nx = 1\nx = 2\n", "t.toml:3: not valid TOML: Cannot overwrite a value"),
        ("\n\n", "t.toml:1: schema is missing; this version reads 'schema = 1'"),
        ("\nschema = 2\n", "t.toml:2: schema is 2; this version reads 'schema = 1'"),
        ("schema = true\n", "t.toml:1: schema is true"),
        (
            HEAD + "[[thresold]]\n",
            "t.toml:2: unknown key 'thresold' in the file. Did you mean 'thr",
        ),
        (HEAD + "threshold = 3\n", "t.toml:2: rules are written as tables under [[threshold]]"),
        (
            HEAD + 'threshold = [{metric = "ece", max = 0.9}]\n',
            "t.toml:2: rules are written as tables under [[threshold]]",
        ),
        (HEAD + "[threshold]\nmetric = 1\n", "t.toml:2: rules are written as tables"),
        (RULE + "mx = 0.1\n", "t.toml:4: unknown key 'mx' in [[threshold]]. Did you mean 'max'?"),
        (
            RULE + "qqqq = 1\n",
            "t.toml:4: unknown key 'qqqq' in [[threshold]]. Known: suite, metric",
        ),
        (RULE, "t.toml:2: [[threshold]] has no bound: add min, max, max_increase, max_decrease"),
        (HEAD + "\n[[threshold]]\nmax = 0.9\n", "t.toml:3: [[threshold]] lacks 'metric'"),
        (HEAD + '[[threshold]]\nmetric = "*"\nmax = 0.9', "t.toml:3: metric must be named"),
        (RULE + "max = '0.1'\n", "t.toml:4: max must be a number, not '0.1'"),
        (RULE + "max = true\n", "t.toml:4: max must be a number, not true"),
        (RULE + "max = nan\n", "t.toml:4: max must be finite, not nan"),
        (RULE + "max = inf\n", "t.toml:4: max must be finite"),
        (RULE + "max = 0.1\n\nmin = 0.2\n", "t.toml:6: min 0.2 is above max 0.1"),
        (RULE + "max_increase = -0.1\n", "t.toml:4: max_increase is a size and cannot be negative"),
        (RULE + "max = 0.9\nsuite = ''\n", "t.toml:5: suite must be a name, a glob, or a list"),
        (RULE + "max = 0.9\nsuite = []\n", "t.toml:5: suite must be a name, a glob, or a list"),
        (
            RULE + "max = 0.9\nmodel = ['a', 3]\n",
            "t.toml:5: model must be a name, a glob, or a list",
        ),
        (RULE + "max = 0.9\nseverity = 6\n", "t.toml:5: severity must be an integer from 0 to 5"),
        (RULE + "max = 0.9\nseverity = 2.5\n", "t.toml:5: severity must be an integer from 0 to 5"),
        (RULE + "max = 0.9\nseverity = [1, true]\n", "t.toml:5: severity must be an integer"),
        (RULE + "max = 0.9\nseverity = []\n", "t.toml:5: severity must be an integer"),
        (RULE + "max = 0.9\nbecause = 3\n", "t.toml:5: because must be a text"),
        (
            RULE + "min = 1\n",
            "t.toml:4: ece is better when lower: min alone would fail good models",
        ),
        (
            HEAD + '[[threshold]]\nmetric = "auroc_*"\nmax_increase = 0.1\n',
            "t.toml:4: auroc_* is better when higher: max_increase alone would fail good models and "
            "pass bad ones; write max_decrease",
        ),
        (RULE + "max_decrease = 0.1\n", "and pass bad ones; write max_increase"),
        (HEAD + "policy = 1\n", "t.toml:2: policy must be a table"),
        (
            HEAD + "[policy]\n\ninconclusiv = 1\n",
            "t.toml:4: unknown key 'inconclusiv' in [policy].",
        ),
        (HEAD + "policy = {confidenc = 1}\n", "t.toml:2: unknown key 'confidenc' in [policy]."),
        (HEAD + "policy.confidenc = 1\n", "t.toml:2: unknown key 'confidenc' in [policy]."),
        (HEAD + "[policy]\ninconclusive = 'no'\n", "t.toml:3: inconclusive must be 'fail', 'warn'"),
        (HEAD + "[policy]\nconfidence = 95\n", "t.toml:3: confidence must be in (0.5, 1), not 95"),
        (HEAD + "[policy]\nrequire_bound = 1\n", "t.toml:3: require_bound must be true or false"),
        (HEAD + "[policy]\nfamily_wise_error_rate = 0\n", "t.toml:3: family_wise_error_rate must"),
        (HEAD + "[policy]\nbaseline = 3\n", "t.toml:3: baseline must be a text, not 3"),
        (HEAD + "[policy]\nchurn = 0\n", "t.toml:3: churn is a share in (0, 0.5], not 0"),
        (HEAD + "[policy]\nchurn = 6\n", "t.toml:3: churn is a share in (0, 0.5], not 6"),
        (HEAD + "[policy]\nchurn = '6%'\n", "t.toml:3: churn must be a number, not '6%'"),
    ],
)
def test_every_mistake_is_one_line_with_its_place(text: str, message: str) -> None:
    assert message in complaint(text)


def test_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gates").mkdir()
    path = tmp_path / "gates" / "t.toml"
    path.write_text(HEAD + '[policy]\nbaseline = "old.json"\n')
    monkeypatch.chdir(tmp_path)
    file = load_thresholds(path)
    assert file.name == os.path.join("gates", "t.toml")
    assert file.policy.baseline == path.parent / "old.json"
    with pytest.raises(ClipRobustError, match=r"absent.toml: no such threshold file; record one"):
        load_thresholds("absent.toml")
    path.write_bytes(b"schema = 1\n# \xff\n")
    with pytest.raises(ClipRobustError, match=r"t.toml:2: not valid TOML: not UTF-8"):
        load_thresholds(path)
    with pytest.raises(ClipRobustError, match="is a folder, not a file; give a file"):
        load_thresholds(tmp_path)


NAMED = """schema = 1
[[perturbation]]
name = "coarse"
kornia = "RandomPosterize"
parameters = { bits = [3, 3] }

[[perturbation]]
name = "turn"
kornia = "RandomRotation"
severities = [{ degrees = [5, 5] }, { degrees = [20, 20] }]
envelope = { degrees = [0, 45] }

[[threshold]]
metric = "accuracy"
perturbation = "coarse"
min = 0.1
"""


def test_named_perturbations_are_read_and_known_to_the_rules() -> None:
    file = parse_thresholds(NAMED, known_perturbations=("fog_3d",))
    coarse, turn = file.perturbations
    assert (coarse.name, coarse.kornia, coarse.parameters) == (
        "coarse", "RandomPosterize", {"bits": [3, 3]},
    )  # fmt: skip
    assert coarse.where == "thresholds.toml:2"
    assert [step["degrees"] for step in turn.severities] == [[5, 5], [20, 20]]
    assert turn.envelope == {"degrees": (0.0, 45.0)}
    with pytest.raises(ClipRobustError, match=r"toml:15: unknown perturbation 'coarze'.*'coarse'"):
        parse_thresholds(
            NAMED.replace('perturbation = "coarse"', 'perturbation = "coarze"'),
            known_perturbations=("fog_3d",),
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kornia = "RandomPosterize"', 'korna = "RandomPosterize"', "toml:4: *Did you mean 'kornia'"),
        ('kornia = "RandomPosterize"\n', "", "toml:2: *lacks 'kornia'"),
        ('name = "coarse"\n', 'name = "so coarse"\n', "toml:3: name may hold letters"),
        ('name = "turn"', 'name = "coarse"', "toml:7: perturbation 'coarse' stands in *toml:2"),
        ("{ bits = [3, 3] }", "3", "toml:5: parameters must be a table"),
        ("[{ degrees = [5, 5] }, ", "[5, ", "toml:10: severities must be a list"),
        ("[{ degrees = [5, 5] }, ", f"[{'{ degrees = 5 }, ' * 5}", "toml:10: *at most 5 tables"),
        ("[{ degrees = [5, 5] }, ", "[{}, ", "toml:10: severities must be a list"),
        ("{ degrees = [20, 20] }]", "5]", "toml:10: severities must be a list"),
        ("{ degrees = [20, 20] }]", "{}]", "toml:10: severities must be a list"),
        ("[0, 45]", "[0, 1, 2]", r"toml:11: envelope of 'degrees' must be \[mildest, strongest\]"),
        ("{ degrees = [0, 45] }", "[0, 45]", "toml:11: envelope must be a table"),
        ("[0, 45]", "[0]", r"toml:11: envelope of 'degrees' must be \[mildest, strongest\]"),
        ("[0, 45]", '[0, "x"]', "toml:11: degrees must be a number"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_named_perturbation_has_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises(ClipRobustError, match=message.replace("*", ".*")) as caught:
        parse_thresholds(NAMED.replace(old, new))
    assert "\n" not in str(caught.value)


def test_five_severities_are_as_many_as_there_are() -> None:
    text = NAMED.replace("[{ degrees = [5, 5] }, ", f"[{'{ degrees = 5 }, ' * 4}")
    assert len(parse_thresholds(text).perturbations[1].severities) == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RandomPosterize", "RandomPosterise", "toml:2: kornia *Did you mean 'RandomPosterize'"),
        ("bits =", "bit =", "toml:2: *no parameter 'bit'.*'bits'"),
        ("degrees = [20, 20]", 'degrees = "x"', "toml:7: *refused by kornia"),
        (
            'name = "turn"',
            'name = "gaussian_noise"',
            "toml:7: *'gaussian_noise' is registered already",
        ),
    ],
)
def test_what_kornia_does_not_know_is_one_line(old: str, new: str, message: str) -> None:
    text = NAMED.replace(old, new)
    if "toml:7" in message:
        # The first table would be registered, for all tests of this process.
        first = text.index("[[perturbation]]")
        second = text.index("[[perturbation]]", first + 1)
        text = text[:first] + "\n" * text[first:second].count("\n") + text[second:]
    with pytest.raises(ClipRobustError, match=message.replace("*", ".*")) as caught:
        parse_thresholds(text).register_perturbations()
    assert "\n" not in str(caught.value)


def test_named_perturbations_are_defined_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_cliprobust.perturbations import kornia_adapter

    calls: list[Any] = []
    monkeypatch.setattr(kornia_adapter, "define", lambda *args, **more: calls.append((args, more)))
    parse_thresholds(HEAD).register_perturbations()
    assert calls == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.toml").write_text(NAMED)
    load_thresholds("t.toml").register_perturbations()
    assert calls == [
        (
            ("coarse", "RandomPosterize"),
            {
                "parameters": {"bits": [3, 3]},
                "severities": (),
                "envelope": {},
                "file": Path("t.toml"),
            },
        ),
        (
            ("turn", "RandomRotation"),
            {
                "parameters": {},
                "severities": ({"degrees": [5, 5]}, {"degrees": [20, 20]}),
                "envelope": {"degrees": (0.0, 45.0)},
                "file": Path("t.toml"),
            },
        ),
    ]


def test_thousands_of_recorded_rules_are_read_quickly() -> None:

    parts = [
        block({"suite": "s", "dataset": f"d{i % 50}", "model": f"m{i}", "severity": i % 6})
        for i in range(1500)
    ]
    start = time.perf_counter()
    file = parse_thresholds(HEAD + "".join(parts))
    assert file.lookup(measure(suite="s", dataset="d9", model="m59", severity=5)) is not None
    assert time.perf_counter() - start < 5.0


# --- Defaults, rows, lists

ROWS = """\
schema = 1

[defaults]
model = "reference"
dataset = ["clean", "clipart"]

[[threshold]]             # line 7
suite = "calibration"
metric = "ece"
because = "shown to users"
bounds = [
    # a comment, { min = 3 }
    { perturbation = "fog_3d", severity = [5, 3], max = [0.3, 0.2] },  # measured 1 [0, 2], n = 3
    { model = "*", dataset = "*", max = 0.4, because = "a smaller model" },
    { metric = "nll", max = 0.5 }, { perturbation = "snow", severity = [4, 1], max = 0.6 },
]

[[threshold]]             # line 18
metric = "accuracy"
severity = [1, 2]
min = [
    0.9,
    0.8,
]
max_decrease = 0.01
"""


def test_rows_inherit_what_they_do_not_name() -> None:
    file = parse_thresholds(ROWS, "t.toml")
    assert [(rule.id, rule.bounds) for rule in file.rules] == [
        (
            "suite=calibration metric=ece dataset=clean|clipart perturbation=fog_3d "
            "model=reference severity=5",
            {"max": 0.3},
        ),
        (
            "suite=calibration metric=ece dataset=clean|clipart perturbation=fog_3d "
            "model=reference severity=3",
            {"max": 0.2},
        ),
        ("suite=calibration metric=ece", {"max": 0.4}),
        ("suite=calibration metric=nll dataset=clean|clipart model=reference", {"max": 0.5}),
        (
            "suite=calibration metric=ece dataset=clean|clipart perturbation=snow "
            "model=reference severity=1|4",
            {"max": 0.6},
        ),
        (
            "metric=accuracy dataset=clean|clipart model=reference severity=1",
            {"min": 0.9, "max_decrease": 0.01},
        ),
        (
            "metric=accuracy dataset=clean|clipart model=reference severity=2",
            {"min": 0.8, "max_decrease": 0.01},
        ),
    ]
    assert [rule.index for rule in file.rules] == list(range(7))
    reasons = [rule.because for rule in file.rules]
    assert (
        reasons == ["shown to users"] * 2 + ["a smaller model"] + ["shown to users"] * 2 + [""] * 2
    )


def test_a_rule_knows_its_row_and_where_it_inherits_from() -> None:
    rules = parse_thresholds(ROWS, "t.toml").rules
    assert [rule.line for rule in rules] == [13, 13, 14, 15, 15, 18, 18]
    first = rules[0]
    assert first.where == first.where_of("max") == "t.toml:13"
    assert first.where_of("suite") == "t.toml:8"
    assert first.where_of("model") == "t.toml:4"
    assert rules[2].where_of("model") == "t.toml:14"
    assert [rule.where_of("min") for rule in rules[5:]] == ["t.toml:22", "t.toml:23"]
    assert rules[5].where_of("max_decrease") == "t.toml:25"


def test_a_band_may_be_a_single_value() -> None:
    (rule,) = parse_thresholds(RULE + "min = 0.5\nmax = 0.5\n").rules
    assert rule.bounds == {"min": 0.5, "max": 0.5}


def test_a_severity_can_be_inherited_and_opened() -> None:
    text = RULE + "severity = [1, 3]\nbounds = [\n{}\n]\n"

    def severities(row: str) -> list[tuple[int, ...]]:
        return [r.severities for r in parse_thresholds(text.replace("{}", row)).rules]

    assert severities("{ max = 0.9 }") == [(1, 3)]
    assert severities("{ max = [0.1, 0.2] }") == [(1,), (3,)]
    assert severities('{ severity = "*", max = 0.9 }') == [()]
    assert severities("{ severity = 3, max = [0.1] }") == [(3,)]


ROW = RULE + "suite = 'ood'\nbounds = [\n  {},\n]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "defaults = 3\n", "t.toml:2: defaults must be a table, [defaults]"),
        (
            HEAD + "[defaults]\nmodle = 'x'\n",
            "t.toml:3: unknown key 'modle' in [defaults]. Did you",
        ),
        (HEAD + "[defaults]\nmetric = 'ece'\n", "t.toml:3: unknown key 'metric' in [defaults]."),
        (HEAD + "[defaults]\nseverity = 3\n", "t.toml:3: unknown key 'severity' in [defaults]."),
        (HEAD + "[defaults]\nmodel = 3\n", "t.toml:3: model must be a name, a glob, or a list"),
        (ROW.replace("{},", "{ mn = 1 },"), "t.toml:6: unknown key 'mn' in a row of 'bounds'. Did"),
        (ROW.replace("{},", "{ bounds = [] },"), "t.toml:6: unknown key 'bounds' in a row"),
        (
            ROW.replace("{},", "{ suite = 'x' },"),
            "t.toml:6: a row of 'bounds' has no bound: add min",
        ),
        (ROW.replace("{},", "3,"), "t.toml:5: bounds must be a list of rows, [ { perturbation"),
        (RULE + "bounds = 3\n", "t.toml:4: bounds must be a list of rows"),
        (RULE + "[[threshold.bounds]]\nmax = 3\n", "t.toml:4: bounds must be a list of rows"),
        (RULE + "bounds = []\n", "t.toml:4: bounds has no row; add one or drop the table"),
        (
            RULE + "max = 0.9\nbounds = [{max = 0.9}]\n",
            "t.toml:4: max stands beside 'bounds'; move it into a row",
        ),
        (
            HEAD + "[[threshold]]\nbounds = [\n  { max = 0.9 } ]\n",
            "t.toml:4: a row of 'bounds' lacks 'metric'",
        ),
        (
            ROW.replace("{},", "{ metric = '*', max = 0.9 },"),
            "t.toml:6: metric must be named: one bound cannot fit all metrics",
        ),
        (
            ROW.replace("{},", "{ max = [0.1] },"),
            "t.toml:6: max is a list, one value for each severity",
        ),
        (
            ROW.replace("{},", "{ severity = '*', max = [0.1] },"),
            "t.toml:6: max is a list, one value for each severity, but no severity is named",
        ),
        (
            ROW.replace("{},", "{ severity = [1, 2], max = [0.1] },"),
            "t.toml:6: max has 1 values for 2 severities; give one for each",
        ),
        (
            ROW.replace("{},", "{ severity = [1, 2], max = [1, 2], max_increase = [0.1] },"),
            "t.toml:6: max_increase has 1 values for 2 severities",
        ),
        (
            ROW.replace("{},", "{ severity = [1, 2, 1], max = [1, 2, 3] },"),
            "t.toml:6: severity 1 stands twice in the list",
        ),
        (
            ROW.replace("{},", "{ severity = [1, 2], max = [1, 'x'] },"),
            "t.toml:6: max must be a number, not 'x'",
        ),
        (
            ROW.replace("{},", "{ severity = 7, max = 0.9 },"),
            "t.toml:6: severity must be an integer",
        ),
        (
            ROW.replace("{},", "{ severity = 'x', max = 0.9 },"),
            "t.toml:6: severity must be an integer",
        ),
        (
            ROW.replace("{},", "{ severity = [1, 2], min = [0, 3], max = 0.8 },"),
            "t.toml:6: min 3 is above max 0.8",
        ),
        (
            ROW.replace("{},", "{ severity = [1, 2], max_increase = [0.1, -0.1] },"),
            "t.toml:6: max_increase is a size and cannot be negative",
        ),
        (ROW.replace("{},", "{ max = 0.9, because = '' },"), "t.toml:6: because must be a text"),
        (
            ROW.replace("{},", "{ max = 0.9 },\n  { max = 0.8 },"),
            "t.toml:7: [suite=ood metric=ece] has a",
        ),
        (ROW.replace("{},", "{ min = 1 },"), "t.toml:6: ece is better when lower: min alone"),
        (RULE + f"max = 1{'0' * 400}\n", "t.toml:4: max must be finite, not inf"),
        (HEAD + f"x = {'[' * 20000}\n", "t.toml:1: not valid TOML: nested too deeply"),
    ],
)
def test_every_mistake_in_the_short_form_has_its_line(text: str, message: str) -> None:
    assert message in complaint(text)


def test_an_unknown_name_is_told_where_it_stands() -> None:
    text = ROWS.replace('suite = "cal', 'suite = "clal').replace('= "snow"', '= "snowy"')
    known = {"known_suites": ["calibration"], "known_perturbations": ["fog_3d", "snow"]}
    assert complaint(text, **known).startswith("t.toml:8: unknown suite 'clalibration'.")
    text = ROWS.replace('= "snow"', '= "snowy"')
    assert complaint(text, **known).startswith("t.toml:15: unknown perturbation 'snowy'.")
    assert complaint(ROWS, models=["refrence"]).startswith("t.toml:4: unknown model 'reference'.")


NAMES = st.sampled_from(["a", "b", "a*", "*"])
FIELD = st.one_of(NAMES, st.lists(NAMES, min_size=1, max_size=2))
SELECTOR = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("suite", "dataset", "perturbation", "model", "profile"), FIELD)
    | {"severity": st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)},
)


def toml(table: dict[str, Any], separator: str = "\n") -> str:
    return separator.join(f"{key} = {json.dumps(value)}" for key, value in table.items())


@settings(max_examples=60, deadline=None)
@given(
    SELECTOR,
    st.lists(st.tuples(SELECTOR, st.lists(SELECTOR, max_size=3)), min_size=1, max_size=3),
    st.booleans(),
)
def test_the_short_form_means_what_is_written_out(
    defaults: dict[str, Any], tables: list[tuple[dict[str, Any], list[dict[str, Any]]]], lists: bool
) -> None:
    """Both are refused, or both are the same rules; also which wins is the same then."""
    defaults.pop("severity", None)
    short = f"{HEAD}[defaults]\n{toml(defaults)}\n"
    long = HEAD
    for number, (table, rows) in enumerate(tables):
        own = {"metric": "ece", **table}
        written = []
        for position, row in enumerate(rows or [{}]):
            whole = {**defaults, **own, **row}
            levels = whole.pop("severity", [])
            bound = 1.0 + number + position / 10
            if lists and levels:
                values = [bound + level for level in levels]
                written.append({**row, "max": values})
                parts = [{**whole, "severity": n, "max": bound + n} for n in levels]
            else:
                written.append({**row, "max": bound})
                parts = [{**whole, **({"severity": levels} if levels else {}), "max": bound}]
            long += "".join(f"[[threshold]]\n{toml(part)}\n" for part in parts)
        if rows:
            inline = ",\n".join(f"{{ {toml(row, ', ')} }}" for row in written)
            short += f"[[threshold]]\n{toml(own)}\nbounds = [\n{inline}\n]\n"
        else:
            short += f"[[threshold]]\n{toml({**own, **written[0]})}\n"

    def read(text: str) -> Any:
        try:
            rules = parse_thresholds(text).rules
        except ClipRobustError as error:
            return str(error)
        return [(rule.id, rule.specificity, rule.bounds, rule.index) for rule in rules]

    one, two = read(short), read(long)
    if isinstance(one, str) and isinstance(two, str):
        return
    assert one == two


def test_a_misspelt_vocabulary_is_no_argument() -> None:
    """Else it would check nothing, in silence."""
    wrong: Any = {"known_suite": ["accuracy"]}
    with pytest.raises(TypeError, match="no argument 'known_suite'"):
        parse_thresholds("schema = 1\n", **wrong)
