"""What docs/thresholds.md says is so; the shipped file is as it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gating_helpers import measure
from helpers import DOCS, ROOT, SUITES

from pytest_cliprobust.gating.measured import find_comment
from pytest_cliprobust.gating.policies import POLICY_KEYS, bundled
from pytest_cliprobust.gating.reading import (
    DEFAULT_KEYS,
    PERTURBATION_KEYS,
    RULE_KEYS,
    WAIVER_KEYS,
    load_thresholds,
    parse_thresholds,
)
from pytest_cliprobust.gating.unjudged import find_unjudged, lines

PAGE = (DOCS / "thresholds.md").read_text()
EXAMPLES = [part.split("```")[0] for part in PAGE.split("```toml\n")[1:]]
SHIPPED = ROOT / "thresholds.toml"


def test_every_key_is_described() -> None:
    for key in (*POLICY_KEYS, *RULE_KEYS, *DEFAULT_KEYS, *PERTURBATION_KEYS, *WAIVER_KEYS):
        assert f"`{key}`" in PAGE


def test_the_first_example_says_what_it_does() -> None:
    file = parse_thresholds(EXAMPLES[0], known_perturbations=["fog_3d", "flash"])
    assert len(file.rules) == 4

    def bounds(**where: Any) -> Mapping[str, float]:
        rule = file.lookup(measure(**where))
        assert rule is not None
        return {str(kind): value for kind, value in rule.bounds.items()}

    assert bounds() == {"max": 0.1}
    assert bounds(perturbation="fog_3d", severity=3) == {"max": 0.15}
    assert bounds(perturbation="fog_3d", severity=5) == {"max": 0.25}
    assert bounds(metric="accuracy") == {"min": 0.6, "max_decrease": 0.01}


def test_the_short_form_is_short_for_the_table_below_it() -> None:
    file = parse_thresholds(EXAMPLES[1])
    rows = re.findall(r"^\| corruption_3d \|.*$", PAGE, re.MULTILINE)
    told = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    names = ("suite", "metric", "dataset", "perturbation", "severity", "model")
    for rule, cells in zip(file.rules, told, strict=True):
        selected = dict(rule.selectors)
        if rule.severities:
            selected["severity"] = tuple(map(str, rule.severities))
        assert cells == [*("|".join(selected.get(n, ("all",))) for n in names), str(rule.minimum)]
    measured = [line for line in EXAMPLES[1].splitlines() if "# measured" in line]
    assert len(measured) == 2
    assert all(find_comment(line, 0, len(line)) for line in measured)


def test_a_suite_of_ones_own_is_gated_as_it_says() -> None:
    known: dict[str, Any] = {"known_suites": ["accuracy", "ood"], "known_perturbations": ["fog_3d"]}
    file = parse_thresholds(EXAMPLES[3], **known)
    told = lines(find_unjudged(file, used=(), suites_run=["accuracy"], models=["reference"]))
    assert told == [("note", "2 bounds are for suites that were not run (mine)")]
    assert told[0][1] in re.sub(r"\s+", " ", PAGE)
    for slip in ("acuracy", "Accuracy"):
        assert f'`suite = "{slip}"`' in PAGE
        with pytest.raises(Exception, match="Did you mean 'accuracy'"):
            parse_thresholds(EXAMPLES[3].replace('"mine"', f'"{slip}"'), **known)
    parse_thresholds(EXAMPLES[3].replace('"mine"', '"my_accuracy"'), **known)
    known = {"known_suites": ["mine"], "known_perturbations": ["my_haze"]}
    rule = parse_thresholds(EXAMPLES[3], **known).lookup(
        measure("accuracy", suite="mine", perturbation="my_haze")
    )
    assert rule is not None
    assert rule.because == "cameras of the field team fog up"


def test_the_named_perturbations_are_read() -> None:
    posterize, rotation = parse_thresholds("schema = 1\n" + EXAMPLES[4]).perturbations
    assert posterize.parameters == {"bits": [3, 3]}
    assert len(rotation.severities) == 3
    assert rotation.envelope == {"degrees": (0.0, 45.0)}


def test_the_waiver_is_for_two_severities_of_one_model() -> None:
    (waiver,) = parse_thresholds("schema = 1\n" + EXAMPLES[5]).waivers

    def covers(severity: int, model: str) -> bool:
        on = {"suite": "corruption_3d", "perturbation": "fog_3d"}
        return waiver.covers(measure("accuracy", severity=severity, model=model, **on))  # type: ignore[arg-type]

    assert covers(4, "v2")
    assert not covers(3, "v2")
    assert not covers(4, "v1")


def test_the_pack_is_one(tmp_path: Path) -> None:
    (tmp_path / "company.toml").write_text(EXAMPLES[2])
    file = parse_thresholds('schema = 1\nextends = "./company.toml"\n', folder=tmp_path)
    assert file.policy.inconclusive_share == 0.1
    (rule,) = file.rules
    assert (rule.maximum, rule.rank) == (0.1, -1)


def test_every_bundled_pack_stands_in_the_table_with_its_values() -> None:
    for name in bundled():
        policy = parse_thresholds(f'schema = 1\nextends = "{name}"\n').policy
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
        cells = [cell.strip().strip("`") for cell in row.strip("|").split("|")]
        assert cells[1:5] == [
            f'"{policy.inconclusive}"',
            str(policy.inconclusive_share),
            f'"{policy.skipped}"',
            f'"{policy.unused}"',
        ]


def test_the_shipped_file_can_be_reviewed() -> None:
    """Short, one line for each bound with what was measured, by suite and then by metric."""
    text = SHIPPED.read_text()
    assert len(text.splitlines()) <= 400
    suites = {path.stem.removeprefix("test_") for path in SUITES.glob("test_*.py")}
    file = load_thresholds(SHIPPED, known_suites=suites)
    assert len(file.rules) >= 117
    # Of two things in one picture the reference knows nothing: it is at chance, and has nothing to lose.
    # The pictures of the suites corrupted and tasks are a user's own, and so is the other model of performance.
    unbounded = {"compositional", "corrupted", "tasks", "performance"}
    assert {s for rule in file.rules for s in rule.selectors["suite"]} == suites - unbounded
    rows = {rule.line: text.splitlines()[rule.line - 1] for rule in file.rules}
    for row in rows.values():
        assert find_comment(row, 0, len(row)) is not None, row
    # Every rule is exact, so recording replaces it where it stands.
    assert all(not (r.specificity.lists or r.specificity.globs) for r in file.rules)
    groups = [(r.selectors["suite"], r.selectors["metric"]) for r in file.rules]
    changes = [
        pair for pair, before in zip(groups, [None, *groups], strict=False) if pair != before
    ]
    assert len(changes) == len(set(changes))
