"""What a session is compared with: files with outcomes, other models, and how many bounds are expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gating_helpers import HEAD, answered, answers, baseline_of, condition
from history_helpers import a_run, figures, keep
from history_helpers import answers as their_answers

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import together
from pytest_cliprobust.gating.baseline import Provenance, beside, write_baseline
from pytest_cliprobust.gating.family import Family
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.plugin.comparing import (
    check_compared,
    chosen_baseline,
    family_of,
    twin_lines,
    used,
)
from pytest_cliprobust.results.history import History

FOG = [condition("clean", "fog_3d", severity) for severity in (1, 3)]

#: A rule for each of the figures below, as recording writes them.
NAMED = """
[[threshold]]
suite = "accuracy"
metric = "accuracy"
dataset = "clean"
bounds = [
    { perturbation = "clean", max_decrease = 0.03 },
    { perturbation = "fog_3d", severity = [1, 3], max_decrease = [0.04, 0.04] },
]
"""


def family(text: str, *, suites: tuple[str, ...] = ("accuracy",)) -> Family:
    """Return how many bounds are expected where a clean figure and two of fog were recorded."""
    recorded = baseline_of(*(answered(answers(50), on=on) for on in (condition(), *FOG)))
    return family_of(recorded, parse_thresholds(HEAD + text, "t.toml"), ["v2"], suites, tests=10)


def test_a_baseline_that_has_what_the_rules_name_says_how_many_there_are() -> None:
    assert family(NAMED) == Family(headlines=1, details=2)


@pytest.mark.parametrize(
    "more",
    [
        # Whatever else there is of it, of which the baseline has a part at most.
        'metric = "ece"\nmax = 0.1',
        'suite = "accuracy"\nmetric = "accuracy"\nmin = 0.6',
        'suite = "accuracy"\nmetric = "accuracy"\ndataset = "clean*"\nperturbation = "clean"\nmin = 0.6',
        # One that was not recorded.
        'suite = "accuracy"\nmetric = "accuracy"\ndataset = "clean"\nperturbation = "snow"\nmin = 0.2',
    ],
)
def test_a_rule_for_more_than_was_recorded_makes_the_number_unknown(more: str) -> None:
    """One figure in the baseline must not judge three hundred at the level of one."""
    found = family(f"{NAMED}\n[[threshold]]\n{more}\n")
    assert found == Family(1, 2, tests=10, more=True)


@pytest.mark.parametrize("where", ['suite = "calibration"', 'model = "v1"', 'profile = "full"'])
def test_rules_for_others_do_not_count(where: str) -> None:
    more = f'[[threshold]]\n{where}\nmetric = "ece"\nmax = 0.1\n'
    assert family(f"{NAMED}\n{more}") == Family(headlines=1, details=2)


def test_what_sums_up_has_no_severity_to_name() -> None:
    both = together([*FOG, condition("clean", "snow", 3)], "all_mine")
    for name, on, expected in (("fog_3d", together(FOG), (0, 1)), ("all_mine", both, (1, 0))):
        recorded = baseline_of(answered(answers(50), on=on))
        rule = (
            '[[threshold]]\nsuite = "accuracy"\nmetric = "accuracy"\ndataset = "clean"\n'
            f'perturbation = "{name}"\nmax_decrease = 0.03\n'
        )
        file = parse_thresholds(HEAD + rule, "t.toml")
        found = family_of(recorded, file, ["v2"], ["accuracy"], tests=10)
        assert found == Family(*expected)


def test_two_models_of_one_run_say_in_what_else_they_differ() -> None:
    made = Provenance(
        precision={"parent": "fp32", "twin": "fp16"},
        templates={"parent": "a", "twin": "a"},
        preprocessing={"parent": '{"mean": 0}', "twin": '{"mean": 0.5}'},
    )
    assert twin_lines(made, ["parent", "twin"], "parent") == [
        "clip baseline: parent, measured in this run",
        "  differs: precision fp16, parent has fp32",
        "  differs: preprocessing: mean is 0.5, parent has 0",
    ]


def test_an_exported_run_is_compared_sample_by_sample(tmp_path: Path) -> None:
    run = a_run(figures(their_answers()))
    with History(tmp_path / "h.sqlite", create=True) as history:
        exported = history.document(keep(history, run))
        bare = history.document(1, samples=False)
    found = {}
    for name, told in (("whole", exported), ("bare", bare)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(told), encoding="utf-8")
        baseline = chosen_baseline(str(path), ThresholdFile(), None)
        assert baseline is not None
        found[name] = [figure.outcomes is not None for figure in baseline.figures.values()]
    assert found == {"whole": [True] * len(run.records), "bare": [False] * len(run.records)}


def test_where_the_baseline_comes_from(tmp_path: Path) -> None:
    run = a_run(figures(their_answers()))
    history, file = tmp_path / "h.sqlite", tmp_path / "thresholds.toml"
    assert chosen_baseline(None, ThresholdFile(), None) is None
    assert chosen_baseline(None, ThresholdFile(), file) is None  # nothing lies beside it
    with History(history, create=True) as kept:
        keep(kept, run)
    found = chosen_baseline("1", ThresholdFile(), file, history)
    assert found is not None
    assert found.provenance is not None
    assert len(found.figures) == len(run.records)
    assert chosen_baseline("none", ThresholdFile(), file, history) is None
    write_baseline(beside(file), found.measurements("reference"), found.provenance)
    own = chosen_baseline(None, ThresholdFile(), file)
    assert own is not None
    assert own.figures.keys() == found.figures.keys()
    # Without a history a number is a file's name.
    with pytest.raises(ClipRobustError, match="1"):
        chosen_baseline("1", ThresholdFile(), file)


def test_only_perturbations_that_were_measured_belong_to_what_decides_a_figure() -> None:
    over = together([FOG[0], condition("clean", "snow", 3)], "all_2d")
    made = Provenance(perturbations={"fog_3d": "1", "snow": "2", "frost": "3"})
    assert used(made, [answered(answers(50), on=over)]).perturbations == {
        "fog_3d": "1",
        "snow": "2",
    }
    assert used(made, []).perturbations == {}


def test_a_baseline_has_the_model_that_the_policy_names() -> None:
    recorded = baseline_of(answered(answers(50)))
    (name,) = recorded.models
    asked = HEAD + '[policy]\nbaseline_model = "{}"\n'
    check_compared(recorded, parse_thresholds(asked.format(name), "t.toml"), ["v2"])
    check_compared(None, parse_thresholds(asked.format("gone"), "t.toml"), ["v2"])
    check_compared(recorded, ThresholdFile(), ["v2"])
    with pytest.raises(ClipRobustError, match=f"baseline_model 'gone' is not in .*{name}"):
        check_compared(recorded, parse_thresholds(asked.format("gone"), "t.toml"), ["v2"])
