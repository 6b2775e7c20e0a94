"""The page of perturbations names them all, and its example works."""

from __future__ import annotations

import re

import torch
from helpers import DOCS

from pytest_cliprobust.perturbations import registry

PAGE = (DOCS / "perturbations.md").read_text(encoding="utf-8")


def test_every_perturbation_is_on_the_page() -> None:
    ours = [p.name for p in registry.registered() if p.origin is None]
    assert [name for name in ours if f"`{name}`" not in PAGE] == []


def test_the_example_registers() -> None:
    match = re.search(r"## Your own.*?```python\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    with registry.PERTURBATIONS.preserved():
        exec(compile(match.group(1), "docs/perturbations.md", "exec"), {"__name__": "conftest"})
        dead = registry.get("dead_pixels")
        result = dead(torch.ones(2, 3, 64, 64), 5, seeds=torch.tensor([1, 2]))
        assert abs(float((result == 0).float().mean()) - 0.25) < 0.02
