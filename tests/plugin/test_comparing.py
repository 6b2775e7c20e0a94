"""What a session is compared with: files with outcomes, other models, and how many bounds are expected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gating_helpers import HEAD, answered, answers, baseline_of, condition
from history_helpers import a_run, figures, keep
from history_helpers import answers as their_answers

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import together
from pytest_cliprobust.gating.baseline import Provenance, bare_key, beside, write_baseline
from pytest_cliprobust.gating.family import Family
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.thresholds import ThresholdFile
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.plugin.comparing import (
    check_compared,
    chosen_baseline,
    comparison_lines,
    family_of,
    provenance_of,
    twin_lines,
    used,
)
from pytest_cliprobust.results.history import History
from pytest_cliprobust.targets.preprocessing import Preprocessing

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


def test_where_the_baseline_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    (tmp_path / "2").write_bytes(beside(file).read_bytes())
    monkeypatch.chdir(tmp_path)
    two = chosen_baseline("2", ThresholdFile(), file)
    assert two is not None
    assert two.figures.keys() == found.figures.keys()
    for named in ("1", "last~9", "tag:x", "anchor"):
        with pytest.raises(ClipRobustError, match=f"{named} is a run of the history, and --clip-h"):
            chosen_baseline(named, ThresholdFile(), file)
    with pytest.raises(ClipRobustError, match="there is no such file, so no baseline"):
        chosen_baseline("x.json", ThresholdFile(), file)


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


def test_each_model_is_held_against_what_the_baseline_has_of_it() -> None:
    now = Provenance(weights={"v1": "aa", "v2": "bb", "v3": "aa"}, seed=1)
    then = Provenance(weights={"v1": "aa", "v2": "other"}, seed=1)
    both = baseline_of(
        *(
            answered(answers(50), model=name, on=on)
            for name in ("v1", "v2")
            for on in (condition(), *FOG)
        ),
        provenance=then,
        current=now,
    )
    start = "clip baseline: t.baseline.safetensors"
    named = f"{start} (of 2 models: v1, v2)"
    note = "  note: these are the weights that were recorded"
    assert comparison_lines(both, ["v1", "v2", "v3"], None) == [
        f"{named}: v1 against v1",
        note,
        f"{named}: v2 against v2",
        f"{start} has v1, v2, none to compare v3 with; say in [policy] which counts: baseline_model",
    ]
    assert comparison_lines(both, ["v3", "v2"], "v1") == [
        f"{named}: v3 against v1",
        note,
        f"{named}: v2 against v1",
    ]
    # Of figures that were recorded with other weights it is not said.
    older = {
        (bare_key(answered(answers(50), on=FOG[0])), "v1"): replace(then, weights={"v1": "old"})
    }
    some = replace(both, older=older)
    assert comparison_lines(some, ["v1"], None)[1] == f"{note} for 2 of 3 figures"
    for unknown in (replace(both, provenance=None), replace(both, current=None)):
        assert comparison_lines(unknown, ["v1"], None) == [f"{named}: v1 against v1"]
    seeded = replace(both, current=replace(now, seed=2))
    assert comparison_lines(seeded, ["v2"], None)[1:] == ["  differs: seed 2, recorded with 1"]
    assert comparison_lines(baseline_of(), ["v1"], None) == [
        f"{start} has no model, none to compare v1 with; say in [policy] which counts: baseline_model"
    ]


def test_how_many_bounds_there_are_of_several_models() -> None:
    recorded = baseline_of(
        *(
            answered(answers(50), model=name, on=on)
            for name in ("v1", "v2")
            for on in (condition(), *FOG)
        )
    )
    file = parse_thresholds(HEAD + NAMED, "t.toml")
    assert family_of(recorded, file, ["v1", "v2"], ["accuracy"], tests=10) == Family(2, 4)
    assert family_of(recorded, file, ["v1"], ["accuracy", "other"], tests=10) == Family(1, 2)
    # What no figure of the baseline is held to is not known.
    unknown = Family(tests=10)
    assert family_of(recorded, file, ["v1", "v2"], ["other"], tests=10) == unknown
    assert family_of(recorded, file, ["v3"], ["accuracy"], tests=10) == unknown
    assert family_of(recorded, ThresholdFile(), ["v1"], ["accuracy"], tests=10) == unknown
    assert family_of(baseline_of(), file, ["v1"], ["accuracy"], tests=10) == unknown
    assert family_of(None, file, ["v1"], ["accuracy"], tests=10) == unknown
    asked = parse_thresholds(f'{HEAD}[policy]\nbaseline_model = "v2"\n{NAMED}', "t.toml")
    assert family_of(recorded, asked, ["v3"], ["accuracy"], tests=10) == Family(1, 2)


class Evaluated:
    """An evaluation that only says what decides its figures."""

    def __init__(self, digest: str, *templates: Any, phrases: tuple[str, ...] = ("a", "b")) -> None:
        self.encoder = SimpleNamespace(precision=f"fp of {digest}")
        self.target = SimpleNamespace(info=SimpleNamespace(digest=digest))
        self.phrases, self.templates = phrases, templates

    def dataset(self, role: str) -> Any:
        return SimpleNamespace(name="clean set", digest=f"{role} of {self.target.info.digest}")


def test_what_decides_the_figures_of_a_run() -> None:
    models: Any = {
        "v1": Evaluated("one", "a photo of {}"),
        "v2": Evaluated("two", lambda name: f"a photo of {name}"),
        "v3": Evaluated("three", lambda name: f"a photo of {name}", phrases=("ab", "")),
        "v4": Evaluated("four", lambda name: f"a photo of {name}", str.upper),
        "v5": Evaluated("five", lambda name: "a photo of x", lambda name: name.upper()),
    }
    models["v5"].target.preprocessing = Preprocessing(size=(224, 224))
    found = provenance_of(RunConfig(("v1", "v2"), profile="quick", seed=7), models)
    assert (found.profile, found.seed) == ("quick", 7)
    assert found.precision == {
        name: f"fp of {one.target.info.digest}" for name, one in models.items()
    }
    assert found.weights == {"v1": "one", "v2": "two", "v3": "three", "v4": "four", "v5": "five"}
    # The last of several models that read a set tells of it; one that knows its content tells that.
    assert found.data == {"clean set": "clean of five"}
    assert found.preprocessing == {"v5": Preprocessing(size=(224, 224)).identity()}
    # Prompts are the same if the texts are: of all phrases, and of all templates.
    prompts = found.templates
    assert prompts["v4"] == prompts["v5"]
    assert len({prompts[name] for name in ("v1", "v2", "v3", "v4")}) == 4
    assert {len(text) for text in prompts.values()} == {24}
    registered = registry.names()
    assert found.perturbations.keys() == set(registered)
    assert found.perturbations["fog_3d"] == str(registry.get("fog_3d").version)
