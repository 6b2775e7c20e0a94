"""Baselines from reports of earlier runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gating_helpers import measure

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.gating.baseline import baseline_key, load_baseline
from pytest_cliprobust.gating.policy import Policy


def test_load_baseline(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    first, second = measure(), measure("nll", 2.0)
    entries = [first.as_dict(), {"measurement": second.as_dict(), "verdict": {}}]
    path.write_text(json.dumps({"measurements": entries}))
    assert load_baseline(path) == {first.key: first.figure, second.key: second.figure}
    for content, message in (
        ("{", "not a JSON report"),
        ("[]", "no 'measurements' list"),
        ('{"measurements": [{"suite": "x"}]}', "measurement 0 is not as this version writes it"),
        ('{"measurements": [3]}', "measurement 0 is not as this version writes it"),
    ):
        path.write_text(content)
        with pytest.raises(ClipRobustError, match=message):
            load_baseline(path)
    with pytest.raises(ClipRobustError, match="no such baseline"):
        load_baseline(tmp_path / "none.json")
    assert baseline_key(first, Policy()) == first.key
    assert baseline_key(first, Policy(baseline_model="v1")).endswith("/v1")
