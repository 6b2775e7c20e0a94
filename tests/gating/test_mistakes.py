"""Mistakes that people made in a file that was to hold an accuracy at 0.80: none passes silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gating_helpers import HEAD, complaint

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.reading import load_thresholds

KNOWN: dict[str, Any] = {
    "known_suites": ["accuracy", "calibration"],
    "known_datasets": ["clean"],
    "known_perturbations": ["fog_3d"],
    "models": ["reference"],
    "known_profiles": ["quick", "standard"],
}
#: A mistake in a rule, and what is said of it.
SLIPS = {
    'metric = "acuracy", min = 0.8': "unknown metric 'acuracy'. Did you mean 'accuracy'?",
    'metric = "ACCURACY", min = 0.8': "unknown metric 'ACCURACY'.",
    'metric = "accuracy ", min = 0.8': "unknown metric 'accuracy '. Did you mean 'accuracy'?",
    'metric = "\u0430ccur\u0430cy", min = 0.8': "Did you mean 'accuracy'?",
    'metric = "accuracy", mim = 0.8': "unknown key 'mim'",
    'metric = "accuracy", Min = 0.8': "unknown key 'Min'",
    'metric = "accuracy", min = "0.8"': "min must be a number, not '0.8'",
    'metric = "accuracy", min = nan': "min must be finite, not nan",
    'metric = "accuracy", min = -inf': "min must be finite, not -inf",
    'metric = "accuracy", min = true': "min must be a number, not True",
    'metric = "accuracy", min = 0.8, max = 0.7': "min 0.8 is above max 0.7",
    'metric = "accuracy", max = 0.8': "accuracy is better when higher",
    'metric = "accuracy", min = 0.8, min = 0.7': "not valid TOML",
    'metric = "accuracy", min = 0,8': "not valid TOML",
    'metric = "accuracy", max_decrease = -0.01': "cannot be negative",
    'metric = "accuracy", max_increase = 0.01': "write max_decrease",
    'metric = "acuracy*", min = 0.8': "metric 'acuracy*' matches no known metric.",
    'metric = "accuracy", perturbation = "fogg*", min = 0.8': "matches no known perturbation.",
    'metric = "accuracy", perturbation = "Fog_3d", min = 0.8': "Did you mean 'fog_3d'?",
    'metric = "accuracy", severity = 6, min = 0.8': "severity must be an integer from 0 to 5",
    'metric = "accuracy", suite = "ACCURACY", min = 0.8': "unknown suite 'ACCURACY'. Did you mean",
    'metric = "accuracy", profile = "fast", min = 0.8': "unknown profile 'fast'. Known: quick",
}


@pytest.mark.parametrize(("rule", "message"), SLIPS.items())
def test_a_slip_in_a_rule_is_told_in_either_form(rule: str, message: str) -> None:
    written = rule.replace(", ", "\n") if "0,8" not in rule else rule.replace(", m", "\nm")
    table = complaint(f"{HEAD}[[threshold]]\n{written}\n", **KNOWN)
    row = complaint(f"{HEAD}[[threshold]]\nbounds = [\n{{ {rule} }},\n]\n", **KNOWN)
    assert message in table
    assert message in row or "not valid TOML" in row
    assert row.startswith("t.toml:4: ")


RULE = '[[threshold]]\nmetric = "accuracy"\nmin = 0.8\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + RULE + RULE, "t.toml:5: [metric=accuracy] has a rule already, in line 2"),
        (
            HEAD + RULE + 'suite = "accuracy"\n' + RULE + 'model = "reference"\n',
            "equally specific",
        ),
        ("", "t.toml:1: schema is missing"),
        (HEAD + RULE.replace("[[threshold]]", "[threshold]"), "rules are written as tables under"),
        (HEAD + RULE.replace("[[threshold]]", "[[thresholds]]"), "Did you mean 'threshold'?"),
        ('schema = 1\ninconclusive = "fail"\n', "t.toml:2: unknown key 'inconclusive' in the file"),
        (HEAD + "[policy]\nconfidence = 95\n", "confidence must be in [0.5, 1), not 95"),
        (HEAD + "[policy]\nconfidence = 1.0\n", "confidence must be in [0.5, 1), not 1.0"),
        (HEAD + "[policy]\nconfidence = 0.4\n", "confidence must be in [0.5, 1), not 0.4"),
        (HEAD + "[policy]\nfamily_wise_error_rate = 5\n", "must be in (0, 0.5], not 5"),
        (HEAD + '[policy]\nrequire_bound = "true"\n', "require_bound must be true or false"),
        (HEAD + "[policy]\nskipped = 'pass'\n", "skipped must be 'fail' or 'warn', not 'pass'"),
        (HEAD.replace("1", "2") + RULE, "t.toml:1: schema is 2; this version reads 'schema = 1'"),
    ],
)
def test_a_slip_elsewhere_is_told(text: str, message: str) -> None:
    assert message in complaint(text, **KNOWN)


def test_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(HEAD + RULE, encoding="utf-16")
    with pytest.raises(ClipRobustError, match=r"t.toml:1: not valid TOML: not UTF-8 text"):
        load_thresholds(path)
