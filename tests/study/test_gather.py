"""From runs to a table of models."""

from __future__ import annotations

import pytest
from study_helpers import ACCURACY, FLEET, a_run

from pytest_cliprobust.errors import ClipRobustError
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
    assert "not the same data in all runs: clean" in notes
    assert "cards for models that no run has: nobody" in notes
