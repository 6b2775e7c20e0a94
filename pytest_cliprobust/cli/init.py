"""``cliprobust init``: a starting threshold file, data file and workflow."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pytest_cliprobust.cli._writing import write
from pytest_cliprobust.errors import ClipRobustError

HELP = "write a starting threshold file, data file and workflow"
DESCRIPTION = (
    "Write what a gate in CI begins with: thresholds.toml, data.toml (with --data) and a workflow (with "
    "--ci). Nothing is asked, nothing is fetched, and no file that is there is touched."
)

_TEMPLATES = Path(__file__).with_name("templates")

#: Where each forge looks for its workflow.
WORKFLOWS: Mapping[str, str] = {
    "github": ".github/workflows/clip-robustness.yml",
    "gitlab": "clip-robustness.gitlab-ci.yml",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust init``."""
    parser.add_argument(
        "--model", metavar="[NAME=]MODEL", default="reference", help="as for pytest --clip-model"
    )
    parser.add_argument("--ci", choices=sorted(WORKFLOWS), help="the forge to write a workflow for")
    parser.add_argument("--data", action="store_true", help="write data.toml for data of your own")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path())


def run(options: argparse.Namespace) -> int:
    """Write the files, and say what to do next.

    Raises:
        ClipRobustError: a file is there already, or cannot be written; then none is.
    """
    files = _files(options.model, options.ci, with_data=options.data)
    taken = [name for name in files if (options.out / name).exists()]
    if taken:
        raise ClipRobustError(
            f"{options.out / taken[0]} is there already; move it away, or write elsewhere with --out FOLDER"
        )
    for name, text in files.items():
        path = options.out / name
        write(path, text)
        print(f"written: {path}")
    there = "" if options.out == Path() else f"cd {shlex.quote(str(options.out))} && "
    print(f"next: {there}{_record(options.model, with_data=options.data)}")
    print(
        "then commit thresholds.toml and thresholds.baseline.safetensors, and run without --clip-record"
    )
    return 0


def _files(model: str, forge: str | None, *, with_data: bool) -> dict[str, str]:
    """Return the text of each file by its path."""
    from pytest_cliprobust.gating.waivers import today

    own = "--clip-data=data.toml " if with_data else ""
    found = {
        "thresholds.toml": _template(
            "thresholds.toml",
            RECORD=_record(model, with_data=with_data),
            EXPIRES=(today() + timedelta(days=30)).isoformat(),
        )
    }
    if with_data:
        found["data.toml"] = _template("data.toml")
    if forge is not None:
        # A text of JSON is one of YAML, whatever is in it.
        found[WORKFLOWS[forge]] = _template(f"{forge}.yml", MODEL=json.dumps(model), DATA=own)
    return found


def _record(model: str, *, with_data: bool) -> str:
    given = ["pytest", "--clip-suites", f"--clip-model={model}"]
    given += ["--clip-data=data.toml"] if with_data else []
    return shlex.join([*given, "--clip-thresholds=thresholds.toml", "--clip-record"])


def _template(name: str, **values: str) -> str:
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
