"""``cliprobust models``: which models can be tested by name."""

from __future__ import annotations

import argparse

from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.errors import ClipRobustError

HELP = "list the models that can be tested by name"
DESCRIPTION = (
    "List the models that --clip-model takes by name: the bundled ones, every architecture of open_clip "
    "with each of its tags, and those of installed packages."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust models``."""
    parser.add_argument("action", choices=("list",), help="what to do: list")
    parser.add_argument(
        "--match", metavar="TEXT", default="", help="only names that hold this text, in any case"
    )


def run(options: argparse.Namespace) -> int:
    """Print the list.

    Raises:
        ClipRobustError: no name holds the text.
    """
    rows = [row for row in _rows() if options.match.lower() in row[0].lower()]
    if not rows:
        raise ClipRobustError(f"no model's name holds {options.match!r}; leave --match out")
    print_table(("model", "kind", "pixels", "note"), rows)
    return 0


def _rows() -> list[tuple[str, str, str, str]]:
    """Return name, kind, image size and note of every model."""
    from open_clip.pretrained import list_pretrained_tags_by_model

    from pytest_cliprobust.targets.loading import known_names
    from pytest_cliprobust.targets.open_clip_target import architectures, default_tag
    from pytest_cliprobust.targets.reference import is_reference

    zoo = set(architectures())
    rows = []
    for name in dict.fromkeys(known_names()):
        if name not in zoo:
            kind = "bundled" if is_reference(name) else "registered"
            rows.append((name, kind, "", ""))
            continue
        tags = list_pretrained_tags_by_model(name)
        usual, size = default_tag(name), _image_size(name)
        if not tags:
            rows.append((name, "open_clip", size, f"no weights: {name}@CHECKPOINT"))
        for tag in tags:
            rows.append((f"{name}/{tag}", "open_clip", size, f"{name} alone" * (tag == usual)))
    return rows


def _image_size(architecture: str) -> str:
    from open_clip.factory import get_model_config

    size = get_model_config(architecture)["vision_cfg"].get("image_size", 224)
    return str(size) if isinstance(size, int) else "x".join(map(str, size))
