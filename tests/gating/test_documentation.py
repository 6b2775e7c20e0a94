"""What docs/thresholds.md says is so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gating_helpers import measure
from helpers import DOCS

from pytest_cliprobust.gating.reading import POLICY_KEYS, RULE_KEYS, parse_thresholds


def test_the_documented_example_says_what_it_does() -> None:
    page = (DOCS / "thresholds.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    file = parse_thresholds(example, known_perturbations=["fog_3d", "flash"])

    def bounds(**where: Any) -> Mapping[str, float]:
        rule = file.lookup(measure(**where))
        assert rule is not None
        return {str(kind): value for kind, value in rule.bounds.items()}

    assert bounds() == {"max": 0.1}
    assert bounds(perturbation="fog_3d", severity=3) == {"max": 0.15}
    assert bounds(perturbation="fog_3d", severity=5) == {"max": 0.25}
    assert bounds(metric="accuracy") == {"min": 0.6, "max_decrease": 0.01}
    for key in (*POLICY_KEYS, *RULE_KEYS):
        assert f"`{key}`" in page
