"""From runs to a table of models."""

from __future__ import annotations

from dataclasses import replace

import pytest
from study_helpers import ACCURACY, FLEET, a_figure, a_run

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.study.gather import gathered

FOG = "corruption_3d/accuracy/clean/fog_3d"


def test_models_of_several_runs_stand_side_by_side() -> None:
    one = a_run({"a": {ACCURACY: 0.6, FOG: 0.3}, "b": {ACCURACY: 0.7}}, {"a": FLEET["vit"]})
    two = a_run({"c": {ACCURACY: 0.8, FOG: 0.5}}, source="run 2")
    table = gathered([one, two])
    assert [entry.model for entry in table.entries] == ["a", "b", "c"]
    assert table.entries[0].card.architecture == "ViT"
    assert table.id_accuracy == ACCURACY
    assert table.properties == (ACCURACY, FOG)
    assert table.entries[2].value(FOG) == 0.5
    assert table.entries[1].value(FOG) != table.entries[1].value(FOG)  # NaN


def test_later_figures_take_the_place_of_earlier_ones() -> None:
    runs = [
        a_run({"a": {ACCURACY: 0.6, FOG: 0.3}, "b": {ACCURACY: 0.5}}),
        a_run({"a": {ACCURACY: 0.7}}, source="run 2"),
    ]
    first, _ = gathered(runs).entries
    assert (first.value(ACCURACY), first.value(FOG)) == (0.7, 0.3)


def test_other_prompts_make_another_entry() -> None:
    runs = [
        a_run({"a": {ACCURACY: 0.6}, "b": {ACCURACY: 0.5}}),
        a_run({"a": {ACCURACY: 0.7}}, prompts={"a": "fancy"}),
    ]
    assert [(e.model, e.prompts) for e in gathered(runs).entries] == [
        ("a", "plain"),
        ("b", "plain"),
        ("a", "fancy"),
    ]


def test_another_model_of_the_same_name_is_refused() -> None:
    other = a_run({"a": {ACCURACY: 0.7}}, source="run 2")
    other.header["models"]["a"]["digest"] = "other"
    with pytest.raises(ClipRobustError, match="run 2: another model than before is called 'a'"):
        gathered([a_run({"a": {ACCURACY: 0.6}, "b": {ACCURACY: 0.5}}), other])


def test_a_study_needs_two_models_and_their_accuracy() -> None:
    with pytest.raises(ClipRobustError, match="two models at least"):
        gathered([a_run({"a": {ACCURACY: 0.6}})])
    lacking = a_run({"a": {FOG: 0.6}, "b": {FOG: 0.5}})
    with pytest.raises(ClipRobustError, match="--id KEY"):
        gathered([lacking])
    with pytest.raises(ClipRobustError, match="no run has the property 'mine'"):
        gathered([lacking], id_accuracy="mine")
    assert gathered([lacking], id_accuracy=FOG).id_accuracy == FOG


def test_the_accuracy_of_a_shift_is_not_taken_for_that_of_the_clean_set() -> None:
    shift = "accuracy/accuracy/clipart/clean"
    table = gathered([a_run({"a": {ACCURACY: 0.6, shift: 0.3}, "b": {ACCURACY: 0.5, shift: 0.2}})])
    assert table.id_accuracy == ACCURACY


def test_what_does_not_belong_together_is_said() -> None:
    one = a_run({"a": {ACCURACY: 0.6}}, complete=False)
    two = a_run({"b": {ACCURACY: 0.6}}, source="run 2")
    assert two.provenance is not None
    two.header["provenance"].update(profile="full", data={"clean": "other"})
    notes = " | ".join(gathered([one, two], {"nobody": {}}).notes)
    assert "run 1 did not come to its end" in notes
    assert "different profiles: full, quick" in notes
    # Also where each model has a property of either run.
    more = a_run({"a": {"calibration/nll/clean/clean": 0.6}}, source="run 2")
    more.header["provenance"].update(profile="full")
    same = gathered([a_run({"a": {ACCURACY: 0.6}, "b": {ACCURACY: 0.7}}), more], {})
    assert "different profiles: full, quick" in " | ".join(same.notes)
    assert "not the same data in all runs: clean" in notes
    assert "cards for models that no run has: nobody" in notes


def test_figures_of_other_numbers_of_samples_are_counted() -> None:
    one, two = a_run({"a": {ACCURACY: 0.6, FOG: 0.3}}), a_run({"b": {ACCURACY: 0.7, FOG: 0.4}})
    assert gathered([one, two]).notes == ()
    for rest, key in (("1 property rests", ACCURACY), ("2 properties rest", FOG)):
        made = two.measurements[f"{key}/b"]
        figure = replace(made.figure, n=50).measured_on(made.condition)
        two = replace(
            two, measurements={**two.measurements, made.key: replace(made, figure=figure)}
        )
        assert gathered([one, two]).notes == (
            f"{rest} on other numbers of samples for some models",
        )


def test_id_accuracy_is_what_most_models_have() -> None:
    own, part, foggy = (
        "accuracy/accuracy/mine/clean",
        "accuracy/accuracy/clean:noto/clean",
        "accuracy/accuracy/clean/fog_3d",
    )
    values = {"a": {own: 0.5, ACCURACY: 0.6}, "b": {ACCURACY: 0.6, "other/accuracy/x/clean": 0.1}}
    assert gathered([a_run(values)]).id_accuracy == ACCURACY
    values = {"a": {own: 0.5, ACCURACY: 0.6}, "b": {own: 0.4, ACCURACY: 0.6}}
    assert gathered([a_run(values)]).id_accuracy == own  # the first of equals
    for other in (foggy, "accuracy/top5_accuracy/clean/clean", "other/accuracy/clean/clean"):
        with pytest.raises(ClipRobustError, match="no run has accuracy on ID data"):
            gathered([a_run({name: {other: 0.5} for name in "ab"})])
    run = a_run({name: {ACCURACY: 0.5} for name in "ab"})
    noto = Condition("clean").part("noto")
    only = {
        key: replace(m, figure=a_figure("accuracy", m.figure.value, noto))
        for key, m in run.measurements.items()
    }
    assert part.split("/")[2] == next(iter(only.values())).dataset
    with pytest.raises(ClipRobustError, match="no run has accuracy on ID data"):
        gathered([replace(run, measurements=only)])


def test_the_users_cards_are_those_of_the_models() -> None:
    run = a_run({"a": {ACCURACY: 0.5}, "b": {ACCURACY: 0.5}}, {"a": FLEET["vit"]})
    first, second = gathered([run], {"a": {"loss": "mine"}}).entries
    assert (first.card.loss, first.card.architecture, second.card.loss) == ("mine", "ViT", "")


def test_prompts_are_known_by_eight_letters() -> None:
    run = a_run({"a": {ACCURACY: 0.5}, "b": {ACCURACY: 0.5}}, prompts={"a": "0123456789"})
    assert [entry.prompts for entry in gathered([run]).entries] == ["01234567", ""]
