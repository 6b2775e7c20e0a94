"""Bounds select chains and explicit parameters by the names that reports give them."""

from __future__ import annotations

import pytest
from helpers import Sessions, report

SUITE = """
    from pytest_cliprobust.properties import accuracy

    def test_mine(clip, gate):
        gate(accuracy.accuracy_of(clip.on("clean", ["kornia:RandomGrayscale", ("fog_3d", 3)])))
        gate(accuracy.accuracy_of(clip.on("clean", "gaussian_noise", deviation=0.1)))
"""

BOUND = """
schema = 1
[[threshold]]
suite = "mine"
metric = "accuracy"
perturbation = "kornia:RandomGrayscale+fog_3d@3"
min = 0.999
"""


def test_a_bound_selects_a_chain_by_its_name(run: Sessions) -> None:
    result = run("--clip-report=report.json", suite=SUITE, thresholds=BOUND)
    result.assert_outcomes(failed=1)
    verdicts = {e["perturbation"]: e["verdict"]["status"] for e in report()["measurements"]}
    assert verdicts == {
        "kornia:RandomGrayscale+fog_3d@3": "fail",
        "gaussian_noise(deviation=0.1)": "unbounded",
    }


def test_a_bound_selects_explicit_parameters(run: Sessions) -> None:
    bound = BOUND.replace("kornia:RandomGrayscale+fog_3d@3", "gaussian_noise(deviation=0.1)")
    result = run("--clip-report=report.json", suite=SUITE, thresholds=bound)
    result.assert_outcomes(failed=1)
    verdicts = {e["perturbation"]: e["verdict"]["status"] for e in report()["measurements"]}
    assert verdicts["gaussian_noise(deviation=0.1)"] == "fail"


@pytest.mark.parametrize(
    "arguments", ['"clean", ["fog_3d", ("contrast", 2)], 3', '"clean", ["fog_3d", 3]']
)
def test_a_mistake_in_a_condition_is_one_line(run: Sessions, arguments: str) -> None:
    suite = f"""
        def test_mine(clip, gate):
            clip.on({arguments})
    """
    result = run(suite=suite)
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stdout.str()
