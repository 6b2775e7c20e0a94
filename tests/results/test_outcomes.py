"""Outcomes at the borders: what comes back is what went out, as far as a comparison looks."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.auroc import auroc
from pytest_cliprobust.figures.bootstrap import Bootstrap, paired_drop_figure, proportion_figure
from pytest_cliprobust.figures.change import SAME, change_between
from pytest_cliprobust.figures.compact import compact
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Column, Outcomes, mean
from pytest_cliprobust.results.outcomes import (
    array_from_bytes,
    array_to_bytes,
    from_manifest,
    keys_from_bytes,
    keys_to_bytes,
    names_in,
    pseudonymous,
    to_manifest,
    unnamed,
    with_outcomes,
)

KEYS = SampleKeys(
    tuple(f"cat/ü{i}" for i in range(40)),
    tuple(f"drawing{i // 2}" for i in range(40)),
    tuple(f"{i:04x}" for i in range(40)),
    "drawing",
)


def outcomes(keys: SampleKeys | None = KEYS) -> Outcomes:
    generator = np.random.default_rng(0)
    return Outcomes(
        {
            "value": generator.random(40) > 0.5,
            "answers": generator.random((40, 3)) > 0.5,
            "score": generator.normal(size=40),
        },
        mean,
        attributes={"group": np.arange(40) % 300, "inside": generator.random(40) > 0.5},
        parameters={"strengths": (0.25, 0.5)},
        keys=keys,
    )


def same(before: Outcomes, after: Outcomes) -> None:
    assert list(after.columns) == list(before.columns)
    assert list(after.attributes) == list(before.attributes)
    for name in (*before.columns, *before.attributes):
        now, then = after[name], before[name]
        assert now.shape == then.shape
        assert now.dtype.kind == then.dtype.kind
        assert np.abs(now.astype(float) - then.astype(float)).max() <= SAME / 2
    assert after.keys == before.keys
    assert {k: tuple(v) for k, v in after.parameters.items()} == dict(before.parameters)


def test_outcomes_survive_as_a_manifest_with_blobs() -> None:
    before = outcomes()
    blobs: dict[str, bytes] = {}
    manifest = to_manifest(before, blobs)
    assert manifest is not None
    after = from_manifest(json.loads(json.dumps(manifest)), blobs)
    assert after is not None
    same(before, after)
    assert after.fitted_on == ""
    held = to_manifest(replace(before, fitted_on="0123"), blobs)
    assert held is not None
    back = from_manifest(held, blobs)
    assert back is not None
    assert back.fitted_on == "0123"
    assert sorted(names_in(manifest)) == sorted(blobs)
    with pytest.raises(ClipRobustError, match="have no statistic of their own"):
        after.value()


def test_outcomes_without_keys_survive() -> None:
    before = outcomes(None)
    blobs: dict[str, bytes] = {}
    after = from_manifest(to_manifest(before, blobs), blobs)
    assert after is not None
    same(before, after)
    assert from_manifest(to_manifest(None, blobs), blobs) is None
    assert names_in(None) == []


def test_figures_of_the_same_samples_share_what_is_alike() -> None:
    blobs: dict[str, bytes] = {}
    manifests = [to_manifest(outcomes(), blobs) for _ in range(3)]
    assert manifests[0] == manifests[1] == manifests[2]
    assert len(blobs) == 6
    first, second = (from_manifest(manifest, blobs) for manifest in manifests[:2])
    assert first is not None
    assert second is not None
    assert first.keys is second.keys


@given(
    arrays.arrays(
        st.sampled_from([np.bool_, np.int64, np.uint8, np.float32, np.float64]),
        arrays.array_shapes(max_dims=2, max_side=9),
    )
)
def test_a_column_survives_as_bytes(column: Column) -> None:
    after = array_from_bytes(array_to_bytes(column))
    assert after.shape == column.shape
    if column.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(after.astype(np.float64) - column.astype(np.float64)) <= SAME / 2
        special = ~np.isfinite(column)
        np.testing.assert_array_equal(after[special], column[special])
        assert near[~special].all()
    else:
        np.testing.assert_array_equal(after, column)


def test_floats_are_short_only_where_nothing_is_lost() -> None:
    assert compact(np.array([0.1, 0.9, math.nan])).dtype == np.float32
    assert compact(np.array([0.1, 47.123456789])).dtype == np.float64
    assert compact(np.array([0, 200])).dtype == np.uint8
    assert compact(np.array([-1, 200])).dtype == np.int16
    with pytest.raises(TypeError, match="booleans or numbers"):
        compact(np.array(["a"]))
    named = Outcomes({"value": np.ones(2)}, mean, attributes={"group": np.array(["a", "b"])})
    assert to_manifest(named, {}) is None


def test_an_identical_run_is_identical_after_the_way_through_a_file() -> None:
    generator = np.random.default_rng(1)
    energy = auroc(  # float32 would move such scores by more than what counts as the same
        "auroc_energy",
        generator.normal(40, 9, 20),
        generator.normal(30, 9, 20),
        bootstrap=Bootstrap(keys=KEYS),
    )
    blobs: dict[str, bytes] = {}
    read = with_outcomes(energy, from_manifest(to_manifest(energy.outcomes, blobs), blobs))
    change = change_between(energy, read)
    assert change.identical
    assert change.paired


def test_whether_equal_numbers_tell_models_apart_goes_along() -> None:
    values = np.array([0.5, 1.0, 0.25])
    for coarse in (True, False):
        blobs: dict[str, bytes] = {}
        outcomes = Outcomes({"value": values}, mean, coarse=coarse)
        read = from_manifest(to_manifest(outcomes, blobs), blobs)
        assert read is not None
        assert read.tells_models_apart is not coarse


def test_a_change_against_what_was_read_is_that_against_what_was_written() -> None:
    generator = np.random.default_rng(2)
    bootstrap = Bootstrap(keys=KEYS)
    before, clean, shifted = (generator.random(40) > 0.3 for _ in range(3))
    now = [
        proportion_figure("accuracy", clean, bootstrap),
        paired_drop_figure("accuracy_drop", clean, shifted, bootstrap),
    ]
    then = [
        proportion_figure("accuracy", before, bootstrap),
        paired_drop_figure("accuracy_drop", before, shifted, bootstrap),
    ]
    for figure, earlier in zip(now, then, strict=True):
        blobs: dict[str, bytes] = {}
        read = with_outcomes(earlier, from_manifest(to_manifest(earlier.outcomes, blobs), blobs))
        one, other = change_between(figure, earlier), change_between(figure, read)
        assert one.interval(0.95) == other.interval(0.95)
        assert one.p_value == other.p_value
        assert (one.lost, one.gained) == (other.lost, other.gained)


@pytest.mark.parametrize("raw", [b"", b"bits", b'["bits", [9]]\n\x00', b'["<f4", [2]]\n\x00'])
def test_something_else_is_no_column(raw: bytes) -> None:
    with pytest.raises(ValueError):
        array_from_bytes(raw)


def test_something_else_is_no_sample_keys() -> None:
    with pytest.raises(ValueError, match="no sample keys"):
        keys_from_bytes(b"ids")
    assert keys_from_bytes(keys_to_bytes(KEYS)) == KEYS
    alone = SampleKeys(("a", "b"), ("a", "b"))
    assert keys_from_bytes(keys_to_bytes(alone)) == alone


def test_a_figure_keeps_its_condition_with_other_outcomes() -> None:
    figure = proportion_figure("accuracy", np.ones(40, dtype=np.bool_), Bootstrap(keys=KEYS))
    filed = figure.measured_on(Condition("clean"))
    assert with_outcomes(filed, None).condition == Condition("clean")
    assert with_outcomes(figure, None).condition is None
    assert with_outcomes(filed, None).outcomes is None


def test_pseudonyms_match_alike_and_name_nothing() -> None:
    keys = pseudonymous(KEYS)
    # Units hold the same samples, in another order: that of their new names.
    together = keys.codes[:, None] == keys.codes
    np.testing.assert_array_equal(together, KEYS.codes[:, None] == KEYS.codes)
    assert keys.unit_count == KEYS.unit_count
    assert keys.kind == "drawing"
    assert pseudonymous(KEYS.take([3, 1])) == keys.take([3, 1])
    assert not {*KEYS.ids, *KEYS.units, *KEYS.digests} & {*keys.ids, *keys.units, *keys.digests}


def test_all_parameters_and_attributes_survive() -> None:
    before = replace(outcomes(), parameters={"a": (0.25, 0.5), "b": (1.0,), "c": ()}, coarse=True)
    blobs: dict[str, bytes] = {}
    after = from_manifest(json.loads(json.dumps(to_manifest(before, blobs))), blobs)
    assert after is not None
    same(before, after)
    assert after.coarse


def test_figures_without_samples_have_no_names_to_hide() -> None:
    plain = Figure("accuracy", 0.5, 0.4, 0.6, 40).measured_on(Condition("clean"))
    assert unnamed(plain) is plain
    bare = with_outcomes(plain, outcomes(None))
    assert unnamed(bare) is bare
    named = unnamed(with_outcomes(plain, outcomes()))
    assert named.condition == plain.condition
    assert named.outcomes is not None
    assert named.outcomes.keys == pseudonymous(KEYS)
