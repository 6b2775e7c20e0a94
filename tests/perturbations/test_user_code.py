"""A perturbation of a user's own: its source is part of the cache key."""

from __future__ import annotations

from pathlib import Path

from helpers import module_of

from pytest_cliprobust.perturbations import registry


def test_a_users_code_is_part_of_the_cache_key(tmp_path: Path) -> None:
    path = tmp_path / "my_perturbations.py"

    def code_of(gain: float) -> str:
        path.write_text(f"def darker(images):\n    return images * {gain}\n")
        made = registry.Perturbation("darker", module_of(path).darker, "mine")
        assert made.origin == path
        return made.code

    assert code_of(0.5) == code_of(0.5) != code_of(0.6)
    assert registry.get("brightness").code == ""
    assert registry.get("brightness").origin is None
