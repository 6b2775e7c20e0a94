"""``cliprobust card``: the figures of a run for the model's card on a hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, earlier_runs
from pytest_cliprobust.cli._writing import write
from pytest_cliprobust.errors import ClipRobustError, counted

HELP = "write a run's figures for the model's card on a hub"
DESCRIPTION = (
    "Write the figures of a run as a model card's metadata (model-index, into OUT/model-index.md) and, for "
    "data sets that a hub has, as OUT/.eval_results/*.yaml. Nothing is uploaded."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust card``."""
    parser.add_argument("run_", metavar="RUN", help=f"{REFERENCE}, or a JSON report")
    parser.add_argument("--model", metavar="MODEL", help="which model, where the run has several")
    parser.add_argument(
        "--name", metavar="OWNER/NAME", help="the model on its hub (default: as the run names it)"
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME=OWNER/DATASET",
        action="append",
        default=[],
        help="what a data set of the run is called on a hub; repeatable",
    )
    parser.add_argument(
        "--figures",
        metavar="GLOBS",
        default="",
        help="keys of figures, separated by commas (default: those on unperturbed data, and means)",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path())
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Write the files.

    Raises:
        ClipRobustError: no such run, model or figure, or a file that cannot be written.
    """
    import yaml

    from pytest_cliprobust.reporting.card import chosen, eval_results, model_index

    (earlier,) = earlier_runs(options, [options.run_])
    model = _model(options.model, earlier.models, earlier.source)
    globs = [glob.strip() for glob in options.figures.split(",") if glob.strip()]
    figures = chosen(earlier, model, globs)
    if not figures:
        raise ClipRobustError(
            f"{earlier.source} has no such figures of {model}; see `cliprobust show`"
        )
    datasets = dict(map(_pair, options.dataset))
    index = model_index(figures, options.name or model, datasets)
    files = {"model-index.md": (index, len(figures))}
    date = str(earlier.header.get("written", ""))
    for name, text in eval_results(figures, datasets, date).items():
        files[f".eval_results/{name}"] = text, len(yaml.safe_load(text))
    for name, (text, count) in files.items():
        path = options.out / name
        write(path, text)
        print(f"{path}: {counted(count, 'figure')}")
    left = sorted({one.dataset for one in figures} - set(datasets))
    if left:
        print(
            f"in model-index alone, as no --dataset says what a hub calls them: {', '.join(left)}"
        )
    return 0


def _model(asked: str | None, models: tuple[str, ...], source: str) -> str:
    if asked is None and len(models) == 1:
        return models[0]
    if asked not in models:
        raise ClipRobustError(f"{source} has the models {', '.join(models)}; name one with --model")
    return asked


def _pair(text: str) -> tuple[str, str]:
    name, equals, dataset = text.partition("=")
    if not (name and equals and dataset.count("/") == 1):
        raise ClipRobustError(f"--dataset {text!r}: write NAME=OWNER/DATASET")
    return name, dataset
