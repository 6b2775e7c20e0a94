"""Baselines: what is written comes back, what is something else is one line, and who is compared with whom."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gating_helpers import (
    accuracy_rule,
    answered,
    answers,
    averaged,
    baseline_of,
    changed,
    condition,
    measure,
)
from helpers import keys_of
from safetensors.numpy import load, save

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.figures.bootstrap import Bootstrap, bootstrap_figure, paired_drop_figure
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition, Step, together
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.gating import baseline as module
from pytest_cliprobust.gating.baseline import (
    Anchor,
    Baseline,
    Provenance,
    apart,
    bare_key,
    beside,
    load_baseline,
    perturbations_of,
    write_baseline,
)
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.properties.accuracy import relative_drop_figure

N = 203  # not a multiple of eight, in units of one and of two
KEYS = SampleKeys(
    tuple(f"cat/ü {i}" for i in range(N)),
    tuple(f"drawing{i // 2}" for i in range(N)),
    tuple(f"{i:08x}" for i in range(N)),
    "drawing",
)
PROVENANCE = Provenance(
    profile="standard",
    seed=3,
    precision={"v1": "float32"},
    weights={"v1": "ab12"},
    templates={"v1": "cd34"},
    data={"clean": "ef56"},
    perturbations={"fog_3d": "2", "mine": "1+0123456789ab"},
    preprocessing={"v1": '{"mean": [0.4], "size": [224]}'},
)


def of_all_kinds() -> Measurement:
    """Return a figure with columns of every type, and with parameters."""
    generator = np.random.default_rng(1)
    columns = {
        "value": generator.random(N) < 0.7,
        "at_strengths": generator.random((N, 3)) < 0.5,
        "nats": generator.exponential(size=N),
        "similar": generator.normal(size=(N, 2)).astype(np.float32),
        "energy": generator.normal(40.0, 9.0, N),  # float32 would move these by too much
        "rank": generator.integers(0, 200, N),
        "signed": generator.integers(-300, 300, N),
        "far": np.full(N, 2**40),
    }
    columns["nats"][:3] = (math.nan, math.inf, -math.inf)
    outcomes = Outcomes(
        columns, mean, parameters={"strengths": (0.25, 0.5, 1.0)}, keys=KEYS, fitted_on="0123"
    )
    figure = Figure("frontier", 0.5, 0.4, 0.6, N, units=102, design_effect=1.5, outcomes=outcomes)
    return Measurement("frontier", "v1", figure.measured_on(condition("clean", "fog_3d", 3)))


def run() -> list[Measurement]:
    hits = np.random.default_rng(0).random(N) < 0.8
    drop = paired_drop_figure("accuracy_drop", hits, ~hits, Bootstrap(keys=KEYS))
    return [
        answered(hits, KEYS, model="v1"),
        of_all_kinds(),
        Measurement("corruption", "v1", drop.measured_on(condition("clean", "fog_3d", 3))),
        measure("ece", 0.1, model="v1"),
    ]


def written(tmp_path: Path, *measurements: Measurement) -> Path:
    path = tmp_path / "t.baseline.safetensors"
    write_baseline(path, measurements or run(), PROVENANCE)
    return path


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    path = written(tmp_path)
    baseline = load_baseline(path)
    assert baseline.provenance == PROVENANCE
    assert baseline.models == ("v1",)
    assert len(baseline.figures) == 4
    for before in run():
        after = baseline.find(before)
        assert after is not None
        assert after == before.figure
        assert after.condition == before.condition
        assert (after.units, after.design_effect) == (
            before.figure.units,
            before.figure.design_effect,
        )
        assert after.replicates == ()
        if before.figure.outcomes is None:
            assert after.outcomes is None
            continue
        assert after.outcomes is not None
        assert after.outcomes.keys == before.figure.outcomes.keys
        assert after.outcomes.fitted_on == before.figure.outcomes.fitted_on
        assert list(after.outcomes.columns) == list(before.figure.outcomes.columns)
        for name, column in before.figure.outcomes.columns.items():
            back = after.outcomes.columns[name]
            assert back.shape == column.shape
            assert back.dtype.kind == column.dtype.kind
            np.testing.assert_allclose(back, column, rtol=0.0, atol=5e-7)
    kinds = baseline.find(of_all_kinds())
    assert kinds is not None
    assert kinds.outcomes is not None
    assert {k: tuple(v) for k, v in kinds.outcomes.parameters.items()} == {
        "strengths": (0.25, 0.5, 1.0)
    }
    np.testing.assert_array_equal(kinds.outcomes["far"], np.full(N, 2**40))
    # Integers stay exact, and arithmetic with them does not overflow.
    assert kinds.outcomes["rank"].dtype == np.int64
    with pytest.raises(ClipRobustError, match="no statistic of their own"):
        kinds.outcomes.value()


def test_a_run_is_identical_to_itself_after_the_way_through_a_file(tmp_path: Path) -> None:
    keys = keys_of(300)
    energy = np.random.default_rng(0).normal(40.0, 9.0, 300)
    first, second = averaged(energy, keys), answered(answers(300), keys)
    baseline = load_baseline(written(tmp_path, first, second))
    for one in (first, second):
        earlier = baseline.find(one)
        assert earlier is not None
        change = change_between(one.figure, earlier)
        assert change.paired
        assert change.identical
    after = answered(changed(answers(300), 20), keys)
    direct = judge(
        after, accuracy_rule("max_decrease = 0.01"), Policy(), baseline=baseline_of(second)
    )
    read = judge(after, accuracy_rule("max_decrease = 0.01"), Policy(), baseline=baseline)
    assert read == direct
    assert read.failed


def test_intervals_of_what_was_read_are_made_anew_at_another_level(tmp_path: Path) -> None:
    """Without outcomes on one side the runs are independent, at the run's own level."""
    before = answered(answers(300), KEYS_300, model="v1")
    hits = answers(300)
    drop = paired_drop_figure("accuracy_drop", hits, changed(hits, 30, 5), Bootstrap(keys=KEYS_300))
    dropped = Measurement("corruption", "v1", drop.measured_on(condition()))
    baseline = load_baseline(written(tmp_path, before, dropped))
    for one in (before, dropped):
        earlier = baseline.find(one)
        assert earlier is not None
        reason = "told apart"
        read, direct = (
            change_between(one.figure, f, why_not=reason).interval(0.999)
            for f in (earlier, one.figure)
        )
        assert read == direct


KEYS_300 = keys_of(300, np.arange(300) // 2)


def test_equal_arrays_are_stored_once(tmp_path: Path) -> None:
    """Forty figures of the same samples hold their names once, and equal columns."""
    hits = np.random.default_rng(0).random(N) < 0.8
    conditions = [condition("clean", f"fog_{i}", 3) for i in range(40)]
    many = [answered(hits, KEYS, model="v1", on=on) for on in conditions]
    path = written(tmp_path, *many)
    tensors = load(path.read_bytes())
    assert len(tensors) == 4  # one column; ids, units, digests
    size = path.stat().st_size
    # A column of its own costs its bits, and the line that names it.
    own = [answered(np.roll(hits, i), KEYS, model="v1", on=on) for i, on in enumerate(conditions)]
    written(tmp_path, *own)
    assert len(load(path.read_bytes())) == 43
    assert path.stat().st_size - size < 39 * (N / 8 + 100)
    baseline = load_baseline(path)
    keys = {id(f.outcomes.keys) for f in baseline.figures.values() if f.outcomes is not None}
    assert len(keys) == 1
    # The same bytes of another type are another array.
    zeros = [
        averaged(np.zeros(16), keys_of(16)),
        averaged(np.zeros(16, dtype=np.int64), keys_of(16), metric="brier"),
    ]
    loaded = load_baseline(written(tmp_path, *zeros))
    found = [loaded.find(one) for one in zeros]
    assert [f.outcomes["value"].dtype.kind for f in found if f is not None and f.outcomes] == [
        "f",
        "i",
    ]


def test_what_cannot_be_compared_is_written_without_outcomes(tmp_path: Path) -> None:
    texts = Outcomes({"answer": np.array(["a", "b"])}, mean, keys=keys_of(2))
    bare = Outcomes({"value": np.ones(2)}, mean)
    measurements = [
        Measurement(
            "s", "v1", Figure(metric, 0.5, 0.4, 0.6, 2, outcomes=o).measured_on(condition())
        )
        for metric, o in (("one", texts), ("two", bare))
    ]
    baseline = load_baseline(written(tmp_path, *measurements))
    assert [figure.outcomes for figure in baseline.figures.values()] == [None, None]


def test_details_that_no_interval_needs_and_no_report_shows_stay_behind(tmp_path: Path) -> None:
    shown = {"names": ["cat"], "label": [0], "top": [0], "probability": [0.5]}
    details: dict[str, Any] = {"trials": 80.5, "bins": [1] * 1000, "p_value": 0.5, "answers": shown}
    figure = Figure("ece", 0.1, 0.0, 0.2, 90, details=details).measured_on(condition())
    baseline = load_baseline(written(tmp_path, Measurement("s", "m", figure)))
    (back,) = baseline.figures.values()
    assert back.details == {"trials": 80.5, "answers": shown}


def test_a_figure_that_is_not_finite_is_written(tmp_path: Path) -> None:
    figure = Figure("ece", math.nan, -math.inf, math.inf, 0).measured_on(condition())
    baseline = load_baseline(written(tmp_path, Measurement("s", "m", figure)))
    (back,) = baseline.figures.values()
    assert math.isnan(back.value)
    assert (back.low, back.high) == (-math.inf, math.inf)


def test_conditions_come_back_whole(tmp_path: Path) -> None:
    cells = [condition("clean", "fog_3d", severity) for severity in (1, 3)]
    wheres = [
        together(cells),
        Condition("clean", (Step("rotation", None, (("degrees", 12.5),)),), limit=50),
        condition().part("noto"),
    ]
    run = [answered(answers(20), on=where) for where in wheres]
    baseline = load_baseline(written(tmp_path, *run))
    assert [figure.condition for figure in baseline.figures.values()] == wheres
    assert baseline.measurements("reference") == run


def test_two_figures_of_one_key_are_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "t.baseline.safetensors"
    with pytest.raises(ClipRobustError, match=r"^calibration/ece/.* was measured twice; nothing"):
        write_baseline(path, [measure(), measure()], PROVENANCE)
    assert not path.exists()


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Unavailable, match=r"baseline.safetensors: cannot be written: No space"):
        write_baseline(path, [measure()], PROVENANCE)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_the_size_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.baseline.safetensors"
    assert write_baseline(path, run(), PROVENANCE) == path.stat().st_size
    assert path.stat().st_size < 30_000


def test_it_lies_beside_the_threshold_file() -> None:
    assert beside(Path("a/thresholds.toml")) == Path("a/thresholds.baseline.safetensors")
    assert beside(Path("v1.2.toml")) == Path("v1.2.baseline.safetensors")


# --- Something else ----------------------------------------------------------------------------------


def complaint(path: Path) -> str:
    """Return the one line that is said of a baseline."""
    with pytest.raises(ClipRobustError) as caught:
        load_baseline(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert message.startswith(str(path))
    return message


def header_of(content: bytes) -> dict[str, Any]:
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    header: dict[str, Any] = json.loads(metadata["pytest-cliprobust baseline"])
    return header


def with_header(content: bytes, header: str) -> bytes:
    made: bytes = save(load(content), metadata={"pytest-cliprobust baseline": header})
    return made


Edit = Callable[[dict[str, Any]], object]


def edited(path: Path, edit: Edit) -> Path:
    """Change the header of a baseline."""
    content = path.read_bytes()
    header = header_of(content)
    edit(header)
    path.write_bytes(with_header(content, json.dumps(header)))
    return path


def outcomes_in(header: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = header["figures"][0]["outcomes"]
    return found


ANEW = "; record it anew"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda h: h.update(complete=False), "the recorded run did not come to its end" + ANEW),
        (lambda h: h.update(complete="yes"), "the recorded run did not come to its end" + ANEW),
        (lambda h: h.update(schema=99), "a baseline of schema 99, and this version reads 1" + ANEW),
        (lambda h: h.pop("schema"), "(KeyError: 'schema'); take it back from version control"),
        (
            lambda h: h["figures"].append(h["figures"][0]),
            "holds accuracy/accuracy/clean/clean/v1 twice",
        ),
        (lambda h: h.pop("figures"), "(KeyError: 'figures')"),
        (lambda h: h.update(figures=3), "(TypeError: "),
        (lambda h: h.update(figures=[3]), "(TypeError: "),
        (lambda h: h.update(provenance=None), "(TypeError: "),
        (lambda h: h["provenance"].pop("data"), "(KeyError: 'data')"),
        (lambda h: h["provenance"].update(data=["a"]), "(AttributeError: "),
        (lambda h: h["provenance"].update(seed=1e400), "(OverflowError: "),
        (lambda h: h["figures"][0]["figure"].pop("value"), "(KeyError: 'value')"),
        (
            lambda h: h["figures"][0]["figure"].pop("condition"),
            "(ValueError: accuracy does not say what",
        ),
        (
            lambda h: h["figures"][0]["figure"].update(interval="x"),
            "(ValueError: 'x' is not a valid",
        ),
        (lambda h: outcomes_in(h).pop("keys"), "(KeyError: 'keys')"),
        (lambda h: outcomes_in(h)["keys"].update(ids="99"), "(KeyError: '99')"),
        (lambda h: outcomes_in(h)["keys"].update(ids=None), "sample ids, 203 units"),
        (lambda h: outcomes_in(h)["columns"]["value"].update(bits="99"), "(KeyError: '99')"),
        (
            lambda h: outcomes_in(h)["columns"]["value"].update(shape=[10**14]),
            "are not the bits of",
        ),
        (lambda h: outcomes_in(h)["columns"]["value"].update(shape=[-203, -1]), "is no shape"),
        (
            lambda h: outcomes_in(h)["columns"]["value"].update(shape=[202]),
            "(ValueError: outcomes of diff",
        ),
        (lambda h: outcomes_in(h)["columns"]["value"].update(shape=203), "(TypeError: "),
        (lambda h: outcomes_in(h).update(columns={}), "(ValueError: outcomes without columns)"),
        (lambda h: outcomes_in(h).update(parameters={"a": ["x"]}), "(ValueError: "),
    ],
)
def test_a_broken_header_is_one_line(tmp_path: Path, edit: Edit, message: str) -> None:
    assert message in complaint(edited(written(tmp_path), edit))


def test_numbers_of_another_shape_are_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, averaged(np.linspace(0.0, 1.0, 30)))

    def wider(header: dict[str, Any]) -> None:
        outcomes_in(header)["columns"]["value"]["shape"] = [30, 2]

    assert "(ValueError: cannot reshape" in complaint(edited(path, wider))


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, -200, -1])
def test_a_truncated_file_is_one_line(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    # A single byte may be a number, which is JSON, too.
    expected = ("not a baseline as this version writes it (", "not a JSON report of a run")
    assert any(words in complaint(path) for words in expected)


def test_a_damaged_file_is_one_line_or_read(tmp_path: Path) -> None:
    """Whatever byte is wrong; nothing else is raised."""
    path = written(tmp_path)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    size = int.from_bytes(content[:8], "little")
    places = [*range(12), *generator.integers(8, 8 + size, 60).tolist()]
    for place in places:
        broken = bytearray(content)
        broken[place] ^= int(generator.integers(1, 256))
        path.write_bytes(bytes(broken))
        with contextlib.suppress(ClipRobustError):
            load_baseline(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\x00" * 40,
        b"PK\x03\x04" + b"\x00" * 40,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2**62) + b"{}" + b" " * 30,
        save({"weight": np.ones(3)}),
        save({"weight": np.ones(3)}, metadata={"format": "pt"}),
        "{'measurements': 1}".encode("utf-16"),
    ],
)
def test_something_else_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    complaint(path)


def test_weights_are_told_from_a_baseline(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"weight": np.ones(3)}, metadata={"format": "pt"}))
    assert complaint(path).endswith(
        "not a baseline as this version writes it (ValueError: it is safetensors of something else); "
        "take it back from version control, or record it anew with the model of before"
    )


def test_what_git_lfs_has_not_fetched_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.baseline.safetensors"
    path.write_bytes(b"version https://git-lfs.example/spec/v1\noid sha256:0\nsize 9\n")
    assert complaint(path).endswith(
        "a pointer of Git LFS stands in place of the file: git lfs pull"
    )


def test_outcomes_that_are_not_the_recorded_ones_are_refused(tmp_path: Path) -> None:
    """A flipped bit is an answer that changed, and nothing else would tell."""
    path = written(tmp_path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    for place in {*range(8 + size, len(content), 401), len(content) - 1}:
        broken = bytearray(content)
        broken[place] ^= 1
        path.write_bytes(bytes(broken))
        assert "damaged: the outcomes in it are not those that were recorded" in complaint(path)
    # One from before digests were kept is read as it is.
    header = header_of(content)
    del header["digest"]
    path.write_bytes(with_header(content, json.dumps(header)))
    assert load_baseline(path).figures.keys() == load_baseline(written(tmp_path)).figures.keys()


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "9" * 5000, "1e999", "null", "[]"]
)
def test_a_hostile_header_is_one_line(tmp_path: Path, text: str) -> None:
    path = written(tmp_path)
    path.write_bytes(with_header(path.read_bytes(), text))
    complaint(path)
    # And as a report.
    path.write_text(text)
    complaint(path)
    path.write_text('{"measurements": ' + text)
    complaint(path)


@pytest.mark.parametrize(
    ("size", "header", "is_one"),
    [
        (7, b'{"a":1}', True),
        (7, b'{"a":1}data', True),
        (8, b'{"a":1}', False),
        (7, b'[{"a":1}]', False),
        (0, b"", False),
        (1, b" {", False),
    ],
)
def test_safetensors_are_told_by_their_header(size: int, header: bytes, is_one: bool) -> None:
    assert module._is_tensors(size.to_bytes(8, "little") + header) is is_one
    assert not module._is_tensors(b'{"a":1, {' + header)


def test_a_header_whose_length_reads_like_json_is_safetensors(tmp_path: Path) -> None:
    """The length 0x7b20 is a blank and a brace."""
    path = written(tmp_path)
    content = path.read_bytes()
    header = header_of(content)
    for pad in range(0x7B20):
        header["pad"] = "x" * pad
        made = with_header(content, json.dumps(header))
        size = int.from_bytes(made[:8], "little")
        if size == 0x7B20:
            break
        header.pop("pad")
        if size < 0x7B20 - 16 and pad == 0:
            # At once to where it is near.
            header["more"] = "x" * (0x7B20 - size - 100)
    assert made.lstrip()[:1] == b"{"
    path.write_bytes(made)
    assert len(load_baseline(path).figures) == 4


def test_a_missing_file_says_what_writes_one(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    assert complaint(path).endswith(
        "none.safetensors: there is no such file, so no baseline; --clip-record writes one beside the threshold file"
    )
    assert "cannot be read: " in complaint(tmp_path)


# --- Reports -----------------------------------------------------------------------------------------


def test_the_report_of_a_run_is_a_baseline(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    first, second = measure(), measure("nll", 2.0)
    entries = [first.as_dict(), {**second.as_dict(), "verdict": {}}]
    path.write_text("\n " + json.dumps({"measurements": entries}))
    baseline = load_baseline(path)
    assert baseline.find(first) == first.figure
    assert baseline.find(second) == second.figure
    assert (baseline.provenance, baseline.source) == (None, str(path))
    assert baseline.differences("reference") == []
    assert baseline.why_not(first) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a baseline as this version writes it (JSONDecodeError: "),
        ("{}", "not a JSON report of a run: it has no 'measurements' list"),
        ('{"measurements": 3}', "it has no 'measurements' list"),
        ("[]", "it has no 'measurements' list"),
        ('{"measurements": [{"suite": "x"}]}', "(KeyError: 'model')"),
        ('{"measurements": [3]}', "(TypeError: "),
        (
            '{"complete": false, "measurements": []}',
            "that run did not come to its end, so it is no baseline; run it again",
        ),
    ],
)
def test_what_is_no_report_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    assert message in complaint(path)


def test_a_report_with_a_figure_twice_is_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"complete": True, "measurements": [measure().as_dict()] * 2}))
    assert f"holds {measure().key} twice; record it anew" in complaint(path)


# --- Who is compared with whom -----------------------------------------------------------------------


def test_the_model_that_was_asked_for_counts_then_its_own_name_then_the_only_one() -> None:
    one = baseline_of(measure(model="v1"))
    two = baseline_of(measure(model="v1"), measure(model="org/v2"))
    assert [one.model_for(m) for m in ("v1", "v3")] == ["v1", "v1"]
    assert [two.model_for(m) for m in ("v1", "org/v2", "v3")] == ["v1", "org/v2", None]
    assert two.model_for("v3", "org/v2") == "org/v2"
    assert two.model_for("v1", "org/v2") == "org/v2"
    assert two.model_for("v1", "v9") is None
    assert one.model_for("v1", "v9") is None
    assert baseline_of().model_for("v1") is None
    assert two.models == ("v1", "org/v2")


def test_a_baseline_of_several_models_says_so() -> None:
    one, two = (answered(answers(), model=name) for name in ("v1", "v2"))
    assert baseline_of(one).named == "t.baseline.safetensors"
    both = baseline_of(one, two)
    assert both.named == "t.baseline.safetensors (of 2 models: v1, v2)"
    first = Anchor(0.9, "2026-11-01")
    key = "accuracy/accuracy/clean/clean"
    kept = dataclasses.replace(both, anchors={f"{key}/v1": first}, accepted={f"{key}/v2": "why"})
    assert (kept.anchor_of(one), kept.anchor_of(two)) == (first, None)
    assert (kept.acceptance_of(one), kept.acceptance_of(two)) == ("", "why")
    other = answered(answers(), model="v3")
    assert kept.anchor_of(other, asked="v1") == first
    assert kept.anchor_of(other) is None
    alone = dataclasses.replace(baseline_of(one), anchors={key: first})
    assert alone.anchor_of(other) == first


def test_a_figure_is_found_under_the_other_models_name() -> None:
    old = measure(model="org/v1", value=0.3, perturbation="fog_3d", severity=3)
    baseline = baseline_of(old, measure(model="org/v1"))
    new = dataclasses.replace(old, model="v2")
    assert bare_key(new) == bare_key(old) == "calibration/ece/clean/fog_3d@3"
    assert baseline.find(new) is old.figure
    assert baseline.find(dataclasses.replace(new, suite="other")) is None
    assert baseline.find(new, "v3") is None
    assert baseline.measurements("v2")[0] == new
    assert [one.model for one in baseline.measurements("v2")] == ["v2", "v2"]
    assert baseline.measurements("v2", "v3") == []


def test_what_is_missing_is_told() -> None:
    two = baseline_of(measure(model="v1"), measure(model="v2"))
    assert two.missing(measure(model="v3")) == (
        "baseline t.baseline.safetensors is of v1, v2, not of v3; name one of them as baseline_model "
        "in [policy]"
    )
    assert "is of v1, v2, not of v9; name" in two.missing(measure(model="v1"), "v9")
    assert "is of no model, not of v1" in baseline_of().missing(measure(model="v1"))
    assert two.missing(measure("nll", model="v1")) == (
        "baseline t.baseline.safetensors has no figure for calibration/nll/clean/clean; record it anew"
    )


OTHER_DATA = (
    "data set clean is another than the recorded one, or another part of it; samples that both have are "
    "compared"
)

NOW = dataclasses.replace(
    PROVENANCE,
    precision={"v2": "float32"},
    weights={"v2": "other"},
    templates={"v2": "cd34"},
)


def against(**changes: Any) -> Baseline:
    current = dataclasses.replace(NOW, **changes)
    return baseline_of(measure(model="v1"), provenance=PROVENANCE, current=current)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"weights": {}}, []),  # another model is what a run is for
        ({"profile": "quick"}, ["profile quick, recorded with standard"]),
        ({"seed": 4}, ["seed 4, recorded with 3"]),
        ({"precision": {"v2": "bfloat16"}}, ["precision bfloat16, recorded with float32"]),
        ({"templates": {"v2": "x"}}, ["other prompts or class texts than those recorded"]),
        ({"data": {"clean": "x"}}, [OTHER_DATA]),
        (
            {"preprocessing": {"v2": '{"mean": [0.5], "size": [224]}'}},
            ["preprocessing: mean is [0.5], recorded with [0.4]"],
        ),
        ({"preprocessing": {}}, []),  # a user's own encoder says nothing of it
        ({"data": {"photos": "x"}}, []),
        ({"perturbations": {"fog_3d": "3"}}, ["fog_3d is version 3, recorded with 2"]),
        ({"perturbations": {"snow": "3"}}, []),
        (
            {"perturbations": {"mine": "1+ffffffffffff"}},
            ["mine is version 1+ffffffffffff, recorded with 1+0123456789ab"],
        ),
        (
            {"seed": 4, "profile": "full"},
            ["profile full, recorded with standard", "seed 4, recorded with 3"],
        ),
    ],
)
def test_what_differs_beside_the_model_is_told(changes: dict[str, Any], lines: list[str]) -> None:
    assert against(**changes).differences("v2") == lines


def test_nothing_differs_from_what_is_not_known() -> None:
    baseline = against(seed=4)
    assert baseline.differences("v2", "v9") == []
    assert dataclasses.replace(baseline, current=None).differences("v2") == []
    assert dataclasses.replace(baseline, provenance=None).differences("v2") == []


def test_a_perturbation_that_has_changed_is_not_compared_sample_by_sample() -> None:
    hits, fog = answers(500), condition("clean", "fog_3d", 3)
    over = together([fog, condition("clean", "fog_3d", 5)])
    before = [answered(hits, on=where) for where in (condition(), fog, over)]
    newer = {"fog_3d": "3"}
    current = dataclasses.replace(PROVENANCE, perturbations=newer)
    baseline = baseline_of(*before, provenance=PROVENANCE, current=current)
    reason = "fog_3d has changed since (version 2 then, 3 now)"
    assert [baseline.why_not(one) for one in before] == ["", reason, reason]
    bound = accuracy_rule("max_decrease = 0.1")
    verdicts = [judge(one, bound, Policy(), baseline=baseline) for one in before]
    assert [verdict.compared for verdict in verdicts] == [
        "paired, n = 500",
        f"not paired: {reason}; n = 500",
        f"not paired: {reason}; n = 500",
    ]
    # What was not recorded, or is not known now, has not changed.
    for changes in ({}, {"snow": "1"}):
        quiet = dataclasses.replace(
            baseline, current=dataclasses.replace(current, perturbations=changes)
        )
        assert quiet.why_not(before[1]) == ""


def test_the_perturbations_of_a_condition() -> None:
    steps = (Step("snow", 3), Step("fog_3d", 1))
    inner = Condition("clean", (Step("fog_3d", 3), Step("rotation")))
    last = Condition("clean", (Step("frost", 3),))
    assert perturbations_of(Condition("clean", steps, over=(inner, inner, last))) == [
        *("snow", "fog_3d", "rotation", "frost"),
    ]
    assert perturbations_of(condition()) == []


def test_a_provenance_round_trips_as_plain_data() -> None:
    assert Provenance.from_dict(json.loads(json.dumps(PROVENANCE.as_dict()))) == PROVENANCE
    assert Provenance.from_dict(Provenance().as_dict()) == Provenance()


def test_the_name_of_the_recorded_form_is_what_files_hold() -> None:
    """A file of this version is read by the next."""
    assert module.SCHEMA == 1
    assert module.SUFFIX == ".baseline.safetensors"


def test_a_statistic_of_two_runs_is_the_later_ones(tmp_path: Path) -> None:
    """What was read has none: the figure of this run brings it along."""
    keys = keys_of(200)
    generator = np.random.default_rng(4)
    first, second = (generator.exponential(size=200) for _ in range(2))

    def share(weights: Any, own: Outcomes) -> Any:
        return (weights * (own["value"] > 1.0)).sum(axis=1) / weights.sum(axis=1)

    def figure(values: Any) -> Measurement:
        made = bootstrap_figure(
            "share_above",
            float((values > 1.0).mean()),
            Outcomes({"value": values}, share),
            Bootstrap(replicates=50, keys=keys),
        )
        return Measurement("mine", "m", made.measured_on(condition()))

    before, after = figure(first), figure(second)
    earlier = load_baseline(written(tmp_path, before)).find(after)
    assert earlier is not None
    read, direct = (change_between(after.figure, f) for f in (earlier, before.figure))
    assert read.difference == pytest.approx(direct.difference)
    assert read.interval(0.9) == direct.interval(0.9)


def test_a_figure_relative_to_nothing_is_recorded_without_outcomes(tmp_path: Path) -> None:
    """What is lost relative to an accuracy of 0: the file holds the figure, and nothing to compare."""
    wrong = np.zeros(N, dtype=np.bool_)
    figure = relative_drop_figure(wrong, wrong, bootstrap=Bootstrap(keys=KEYS))
    assert math.isnan(figure.value)
    told = Measurement("corruption", "v1", figure.measured_on(condition("clean", "fog_3d", 3)))
    write_baseline(tmp_path / "b.safetensors", [told, of_all_kinds()], PROVENANCE)
    found = load_baseline(tmp_path / "b.safetensors").figures
    kept = {key: one.outcomes is not None for (key, _), one in found.items()}
    assert kept == {bare_key(told): False, bare_key(of_all_kinds()): True}


# --- Figures that were recorded before the rest ------------------------------------------------------


def of_three_ages(tmp_path: Path) -> tuple[Baseline, list[Measurement]]:
    """Return a baseline of four figures, three of them recorded in two earlier runs."""
    run = [measure(metric, 0.1, model="v1") for metric in ("ece", "nll", "brier", "ace")]
    first = dataclasses.replace(PROVENANCE, seed=1, perturbations={})
    second = dataclasses.replace(PROVENANCE, seed=2, weights={"v1": "other"})
    older = {
        (bare_key(run[0]), "v1"): first,
        (bare_key(run[1]), "v1"): second,
        (bare_key(run[2]), "v1"): second,
        (bare_key(run[3]), "another"): first,
    }
    path = tmp_path / "t.baseline.safetensors"
    anchors = {"a": Anchor(0.5, "2026-11-01"), "b": Anchor(0.25, "2026-11-02")}
    write_baseline(
        path, run, PROVENANCE, anchors=anchors, accepted={"a": "why", "c": ""}, older=older
    )
    baseline = load_baseline(path)
    assert baseline.anchors == anchors
    assert baseline.accepted == {"a": "why", "c": ""}
    assert baseline.older == {key: one for key, one in older.items() if key[1] == "v1"}
    return baseline, run


def test_each_figure_keeps_what_it_was_recorded_with(tmp_path: Path) -> None:
    baseline, run = of_three_ages(tmp_path)
    told = [baseline.provenance_of(one) for one in run]
    assert [one.seed for one in told if one is not None] == [1, 2, 2, 3]
    assert baseline.provenance_of(run[0], "v9") is None
    # Of another model that is compared with this one it is what the recorded one has.
    new = dataclasses.replace(run[1], model="v2")
    assert baseline.provenance_of(new) == told[1]
    # The file holds each earlier run once.
    content = (tmp_path / "t.baseline.safetensors").read_bytes()
    assert [one["seed"] for one in header_of(content)["older"]] == [1, 2]


def test_of_how_many_figures_a_difference_is_true_is_told(tmp_path: Path) -> None:
    baseline, run = of_three_ages(tmp_path)
    now = dataclasses.replace(NOW, seed=3, profile="quick")
    assert dataclasses.replace(baseline, current=now).differences("v2") == [
        "profile quick, recorded with standard",
        "seed 3, recorded with 1 (1 of 4 figures)",
        "seed 3, recorded with 2 (2 of 4 figures)",
    ]
    # The first line is true of all; a perturbation that has changed is, of the figures that say so.
    changed = dataclasses.replace(PROVENANCE, seed=2, perturbations={"fog_3d": "3"})
    assert dataclasses.replace(baseline, current=changed).differences("v1") == [
        "seed 2, recorded with 1 (1 of 4 figures)",
        "fog_3d is version 3, recorded with 2 (3 of 4 figures)",
        "seed 2, recorded with 3 (1 of 4 figures)",
    ]
    assert [dataclasses.replace(baseline, current=PROVENANCE).same_model(one) for one in run] == [
        *(True, False, False, True),
    ]


@pytest.mark.parametrize("part", ["weights", "precision", "templates"])
def test_a_model_is_the_same_if_weights_precision_and_prompts_are(part: str) -> None:
    one = measure(model="v1")
    same = baseline_of(one, provenance=PROVENANCE, current=PROVENANCE)
    assert same.same_model(one)
    changes: dict[str, Any] = {part: {"v1": "something else"}}
    other = dataclasses.replace(PROVENANCE, **changes)
    assert not dataclasses.replace(same, current=other).same_model(one)
    assert not dataclasses.replace(same, provenance=other).same_model(one)
    # Under another name too; what is not known is not the same.
    new = dataclasses.replace(one, model="v2")
    renamed = PROVENANCE.renamed("v1", "v2")
    assert dataclasses.replace(same, current=renamed).same_model(new)
    assert not dataclasses.replace(same, current=renamed).same_model(one)
    blank = dataclasses.replace(PROVENANCE, weights={})
    assert not baseline_of(one, provenance=blank, current=blank).same_model(one)
    assert not dataclasses.replace(same, provenance=None).same_model(one)
    assert not dataclasses.replace(same, current=None).same_model(one)
    assert not same.same_model(one, "v9")


def test_what_is_known_of_a_model_goes_with_its_new_name() -> None:
    both = dataclasses.replace(PROVENANCE, precision={"v1": "float32", "x": "bfloat16"})
    renamed = both.renamed("v1", "v2")
    assert renamed == dataclasses.replace(
        PROVENANCE,
        precision={"v2": "float32", "x": "bfloat16"},
        weights={"v2": "ab12"},
        templates={"v2": "cd34"},
        preprocessing={"v2": '{"mean": [0.4], "size": [224]}'},
    )
    assert renamed.data == PROVENANCE.data


@pytest.mark.parametrize(
    ("changes", "covered"),
    [
        ({}, True),
        ({"perturbations": {}}, True),
        ({"perturbations": {"fog_3d": "2"}}, True),
        ({"perturbations": {"fog_3d": "1"}}, False),
        ({"perturbations": {"fog_3d": "2", "snow": "1"}}, False),
        ({"seed": 4}, False),
        ({"profile": "quick"}, False),
        ({"data": {}}, False),
        ({"weights": {"v1": "x"}}, False),
    ],
)
def test_a_run_covers_an_earlier_one_whose_figures_were_decided_alike(
    changes: dict[str, Any], covered: bool
) -> None:
    """Of perturbations it may know more."""
    assert PROVENANCE.covers(dataclasses.replace(PROVENANCE, **changes)) is covered


def test_another_model_of_the_same_run_is_the_only_one_compared_with() -> None:
    both = baseline_of(measure(model="v1"), measure(model="v2"))
    within = dataclasses.replace(both, within="v1")
    assert [within.model_for(name, asked) for name in ("v1", "v2") for asked in (None, "v2")] == [
        *("v1", "v1", "v1", "v1"),
    ]
    assert within.find(measure("nll", model="v2")) is None
    assert within.missing(measure("nll", model="v2")) == (
        "v1 has no figure for calibration/nll/clean/clean in this run: its test was left out, or gave none"
    )


@pytest.mark.parametrize(
    ("then", "now", "lines"),
    [
        # What is no JSON, no table, or not known says nothing.
        ("{", '{"size": 1}', []),
        ('{"size": 1}', "[1]", []),
        ("[1]", '{"size": 1}', []),
        ("{}", '{"size": 1}', []),
        ('{"size": 1}', "{}", []),
        (
            '{"size": 1, "mean": 2, "crop": null}',
            '{"size": 2, "std": 3, "crop": null}',
            ["mean is None, X 2", "size is 2, X 1", "std is 3, X None"],
        ),
    ],
)
def test_settings_that_differ_are_told_one_by_one(then: str, now: str, lines: list[str]) -> None:
    earlier = dataclasses.replace(PROVENANCE, preprocessing={"v1": then})
    later = dataclasses.replace(PROVENANCE, preprocessing={"v1": now})
    told = apart(earlier, later, "v1", "v1", said="against")
    assert told == [f"preprocessing: {line.replace('X', 'against')}" for line in lines]
