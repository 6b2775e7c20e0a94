"""Print the points of the reference line for the embedded clip art: ``python benchmarks/shift_line.py``.

Each point is a model of the bundled fleet: its accuracy on the clean pictures of the classes that the clip
art has, and on the clip art, both with the quick profile. They stand in ``properties/data/shift_lines.toml``.
The line is that of models of one training distribution, as in Taori et al. (2020): the sibling of other
drawing styles and the fine-tuned one are printed as comments.
"""

from __future__ import annotations

import sys

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.properties.shift import shift_drop
from pytest_cliprobust.targets.fleet import fleet_names


def main() -> None:
    """Measure the models that are named, or all of the fleet."""
    for name in sys.argv[1:] or fleet_names():
        clip = Evaluation(RunConfig((name,), profile="quick"), name)
        facts = shift_drop(clip.on("clean"), clip.on("clipart"))
        inside, shifted = (facts.details[f"{side}_accuracy"] for side in ("clean", "shifted"))
        tags = clip.target.info.tags
        standard = tags["data"] == "coloured styles" and tags["fine_tuning"] == "none"
        point = f'    ["{name}", {100 * inside:.3f}, {100 * shifted:.3f}],'
        print(point if standard else f"#{point[1:]}", flush=True)
        print(f"{facts.details['clean_n']:,} and {facts.n:,} pictures", file=sys.stderr)


if __name__ == "__main__":
    main()
