"""Print the errors that mCE is relative to on the embedded benchmark: it takes some minutes.

They are those of the bundled fleet's base under the fifteen common corruptions, on the samples that the suite
``corruption_2d`` takes in the standard profile. They stand in ``properties/data/corruption_errors.toml``.
"""

from __future__ import annotations

import sys

from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.perturbations import registry

MODEL = "fleet:base"
SAMPLES = 134
SEVERITIES = (1, 2, 3, 4, 5)


def main() -> None:
    """Measure one corruption after the other, each a mean over severities."""
    clip = Evaluation(RunConfig((MODEL,)), MODEL)
    clean = clip.on("clean", limit=SAMPLES)
    print(f"clean = {1.0 - clean.correct.mean():.6f}")
    print("[reference.errors]")
    for name in registry.names("common"):
        if registry.get(name).extra:
            continue
        views = [clip.on("clean", name, severity, limit=SAMPLES) for severity in SEVERITIES]
        error = 1.0 - sum(float(view.correct.mean()) for view in views) / len(views)
        print(f"{name} = {error:.6f}", flush=True)
    print(f"{len(clean.ids)} pictures", file=sys.stderr)


if __name__ == "__main__":
    main()
