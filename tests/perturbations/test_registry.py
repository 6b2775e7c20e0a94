"""The registry of perturbations: what a call takes, whose file it is, and the seeds of samples."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.registry import REQUIRED, Perturbation


def halved(
    images: Tensor, *, amount: float, lift: float = 0.0, mask: Tensor | None = None, seeds: Tensor
) -> Tensor:
    assert images.is_contiguous()
    assert seeds.is_contiguous()
    assert mask is None or mask.is_contiguous()
    return images * amount + lift + (0.0 if mask is None else mask)


def made(**more: Any) -> Perturbation:
    given = {"name": "halved", "function": halved, "family": "own", "inputs": frozenset({"seeds"})}
    steps = tuple({"amount": 1 - step / 10} for step in range(1, 6))
    return Perturbation(**{**given, "optional": frozenset({"mask"}), "severities": steps, **more})


IMAGES = torch.full((2, 3, 4, 4), 0.5)
SEEDS = torch.tensor([1, 2])


def test_what_a_perturbation_is_unless_it_says_otherwise() -> None:
    plain = Perturbation("plain", halved, "own")
    assert (plain.version, plain.source, plain.severities, plain.envelope) == (1, "", (), {})
    assert (plain.differentiable, plain.compilable, plain.extra) == (True, True, False)
    assert plain.settings == {"amount": REQUIRED, "lift": 0.0, "mask": None, "seeds": REQUIRED}
    assert made().settings == {"amount": REQUIRED, "lift": 0.0}
    assert Perturbation("any", lambda images, **_: images, "own").settings is None


def test_a_call_passes_on_what_is_its_own() -> None:
    apply = made()
    assert apply(IMAGES, 0, anything=1) is IMAGES
    expected = {1: 0.45, 5: 0.25}
    for severity, value in expected.items():
        result = apply(IMAGES, severity, seeds=SEEDS, depth=None, text=None, focal=3.0)
        torch.testing.assert_close(result, torch.full_like(IMAGES, value))
    # A parameter by name wins over the severity's.
    result = apply(IMAGES, 1, seeds=SEEDS, amount=0.2, lift=0.1)
    torch.testing.assert_close(result, torch.full_like(IMAGES, 0.2))
    # Tensors may lie in memory in any order, and an optional input may be missing.
    turned = torch.ones(4, 4, 1, 2).permute(3, 2, 0, 1)
    apart = torch.tensor([1, 9, 2, 9])[::2]
    result = apply(IMAGES.mT, amount=1.0, seeds=apart, mask=turned * 0.25)
    torch.testing.assert_close(result, torch.full_like(IMAGES, 0.75))
    result = apply(IMAGES, amount=1.0, seeds=SEEDS, mask=None)
    torch.testing.assert_close(result, IMAGES)


@pytest.mark.parametrize(
    ("severity", "arguments", "message"),
    [
        (1, {}, "perturbation 'halved' needs seeds, which this data set does not provide"),
        (1, {"seeds": None}, "needs seeds, which this data set"),
        (1, {"seeds": SEEDS[:1]}, "got seeds of shape (1,) for 2 images; its first dimension"),
        (
            1,
            {"seeds": SEEDS, "mask": torch.ones(3, 1, 4, 4)},
            "got mask of shape (3, 1, 4, 4) for 2",
        ),
        (None, {"seeds": SEEDS}, "needs amount; give a severity, or it by name"),
        (
            1,
            {"seeds": SEEDS, "lfit": 1.0},
            "no parameter 'lfit'. Did you mean 'lift'? It takes amount, lift",
        ),
        (6, {"seeds": SEEDS}, "has severities 1 to 5, not 6"),
        (-1, {"seeds": SEEDS}, "has severities 1 to 5, not -1"),
    ],
)
def test_what_is_wrong_with_a_call(
    severity: int | None, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClipRobustError) as caught:
        made()(IMAGES, severity, **arguments)
    assert message in str(caught.value)


def test_two_parameters_without_a_value_are_named_together() -> None:
    two = made(function=lambda images, *, a, b: images, inputs=frozenset(), severities=())
    with pytest.raises(ClipRobustError, match="needs a, b; give a severity, or them by name"):
        two(IMAGES)
    with pytest.raises(ClipRobustError, match="has no severities; call it without one"):
        two(IMAGES, 1)
    none = made(function=lambda images: images, inputs=frozenset(), severities=())
    with pytest.raises(ClipRobustError, match=r"no parameter 'x'. It takes none"):
        none(IMAGES, x=1)


def test_a_function_that_takes_any_name_is_asked_for_none() -> None:
    with registry.PERTURBATIONS.preserved():
        registry.register("any", severities=({"x": 1.0},), inputs=("seeds",))(
            lambda images, **named: images * named["x"]
        )
        apply = registry.get("any")
    assert apply.settings is None
    torch.testing.assert_close(apply(IMAGES, 1, seeds=SEEDS, x=0.5), IMAGES * 0.5)


def test_whose_file_a_perturbation_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = registry.get("fog")
    assert (own.origin, own.code) == (None, "")
    file = tmp_path / "mine.py"
    file.write_text("def mine(images):\n    return images\n")
    module = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
    mine = Perturbation("mine", module.mine, "mine")
    assert mine.origin == file
    assert mine.code == hashlib.sha256(file.read_bytes()).hexdigest()
    other = tmp_path / "t.toml"
    assert Perturbation("mine", module.mine, "mine", file=other).origin == other
    # What was typed in has no file.
    exec(compile("def typed(images): return images", "<stdin>", "exec"), module.__dict__)
    assert Perturbation("typed", module.typed, "mine").origin is None
    assert Perturbation("built in", len, "mine").origin is None  # type: ignore[arg-type]


def test_families_are_files_or_packages() -> None:
    place = "pytest_cliprobust.perturbations"
    assert registry._family(f"{place}.depth.light") == "depth"
    assert registry._family(f"{place}.view") == "view"
    assert registry._family("theirs.weather.hail") == "hail"
    assert registry._family("hail") == "hail"
    assert {p.family for p in registry.registered() if p.name in registry.names("depth")} == {
        "depth"
    }
    assert set(registry.names("depth")) < set(registry.names())


def test_seeds_are_63_bits_of_a_digest_of_run_perturbation_and_sample() -> None:
    seeds = registry.sample_seeds(("a", "b/1"), "fog", 7)
    digest = hashlib.blake2b(b"7\0fog\0b/1", digest_size=8).digest()
    assert seeds.dtype == torch.int64
    assert int(seeds[1]) == int.from_bytes(digest, "little") // 2
    many = registry.sample_seeds(tuple(map(str, range(500))), "fog", 7)
    assert len(set(many.tolist())) == 500
    assert int(many.min()) >= 0
    assert int(many.max()) > 2**62


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"severities": ({"amount": 0.1}, {"amount": 0.2, "lfit": 0.1})},
            "its severities name 'lfit', but the function takes no such parameter. Did you mean 'lift'",
        ),
        (
            {"envelope": {"amount": (0.0, 1.0), "amuont": (0.0, 1.0)}},
            "its envelope name 'amuont', but the function takes no such parameter. Did you mean 'amount'",
        ),
        (
            {"inputs": ("seeds", "depth")},
            "its inputs name 'depth', but the function takes no such parameter",
        ),
        (
            {"optional": ("mask", "texture")},
            "its inputs name 'texture', but the function takes no such parameter",
        ),
        (
            {"optional": ("mask", "maskk")},
            "asks for an input 'maskk', which nothing provides. Did you mean 'mask'",
        ),
        ({"severities": {"amount": 0.1}}, "severities are the parameters of each"),
        ({"severities": ({"amount": 0.1}, 0.2)}, "severities are the parameters of each"),
        (
            {"severities": ({"amount": 0.1, "lift": "much"},)},
            "severities are the parameters of each",
        ),
        ({"envelope": {"amount": (0.0, 1.0), "lift": 1.0}}, "not lift=1.0"),
        ({"envelope": {"amount": (0.0, 1.0, 2.0)}}, "not amount=(0.0, 1.0, 2.0)"),
        ({"envelope": {"amount": (0.0,)}}, "not amount=(0.0,)"),
        ({"envelope": {"amount": (0.0, "1")}}, "not amount=(0.0, '1')"),
    ],
)
def test_a_wrong_name_is_told_where_it_is_given(arguments: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"inputs": ("seeds",), "optional": ("mask",), **arguments}
    with registry.PERTURBATIONS.preserved():
        with pytest.raises(ClipRobustError) as caught:
            registry.register("mine", **given)(halved)
        assert told in str(caught.value)
        assert "perturbation 'mine'" in str(caught.value)
        assert "mine" not in registry.names()


def test_what_is_registered_is_what_was_given() -> None:
    steps = ({"amount": 0.1}, {"amount": 0.2, "lift": 1})
    with registry.PERTURBATIONS.preserved():
        kept = registry.register(
            "mine",
            severities=steps,
            envelope={"amount": (0.0, 1.0)},
            inputs=("seeds",),
            optional=("mask",),
            source="ours",
            version=7,
            differentiable=False,
            extra=True,
        )(halved)
        made = registry.get("mine")
        registry.register(severities=steps, inputs=("seeds",), compilable=False)(halved)
        plain = registry.get("halved")
    assert kept is halved
    assert (made.function, made.family) == (halved, halved.__module__.rpartition(".")[2])
    assert made.severities == steps
    assert made.envelope == {"amount": (0.0, 1.0)}
    assert (sorted(made.inputs), sorted(made.optional)) == (["seeds"], ["mask"])
    assert (made.source, made.version) == ("ours", 7)
    assert (made.differentiable, made.compilable, made.extra) == (False, True, True)
    assert (plain.version, dict(plain.envelope), list(plain.optional)) == (1, {}, [])
    assert (plain.differentiable, plain.compilable, plain.extra) == (True, False, False)
