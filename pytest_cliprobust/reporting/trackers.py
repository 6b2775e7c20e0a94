"""``--clip-logger``: hands a run over to what tracks experiments. One kind a file of ``loggers/``.

A logger imports its library when it is used, and never before; that it is there is tried before a run begins.
What it is given is plain, and the same for each: figures by keys that stay from run to run, what the run was
made with, and the files of its reports. A run of several models is several runs there, so that the figures
of each have the same names.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief
from pytest_cliprobust.registry import Registry

if TYPE_CHECKING:  # whoever registers a logger in a conftest.py is not to wait for numpy
    from pytest_cliprobust.gating.verdict import Status
    from pytest_cliprobust.results.record import Record
    from pytest_cliprobust.results.run import ModelSummary, Run

#: Servers take names of metrics that are no longer than this, and texts as long as the second number.
_NAME, _TEXT = 250, 500


@dataclass(frozen=True)
class Logged:
    """What a logger hands over: one model of a run.

    Attributes:
        name: the model's.
        metrics: by name, each finite figure, and the ends of its interval (``NAME.low``, ``NAME.high``).
        params: what the run was made with: settings, and digests of weights, data and prompts.
        tags: how it ended: verdict, exit code, how many bounds pass, fail, are waived or undecided.
        files: the reports.
        complete: whether the run came to its end.
    """

    name: str
    metrics: Mapping[str, float]
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    complete: bool = True


Log = Callable[[Logged], str]
"""Hands one model of a run over, and returns where it is now, in a few words."""


@dataclass(frozen=True)
class Logger:
    """A kind of logger.

    Attributes:
        name: what ``--clip-logger`` calls it.
        library: the package that it imports.
        log: hands a model of a run over.
    """

    name: str
    library: str
    log: Log

    def check(self) -> None:
        """Find out whether its library is there.

        Raises:
            ClipRobustError: it is not, or cannot be imported, in one line with the remedy.
        """
        remedy = f"install it: pip install 'pytest-cliprobust[{self.name}]'"
        try:
            module = importlib.import_module(self.library)
        except ImportError as error:
            raise ClipRobustError(
                f"--clip-logger {self.name}: {self.library} cannot be imported ({brief(error)}); {remedy}"
            ) from None
        # A folder of that name, such as wandb makes where it runs, is a package to Python, and an empty one.
        if getattr(module, "__file__", None) is None:
            raise ClipRobustError(
                f"--clip-logger {self.name}: {self.library} is not installed; {remedy}"
            )


#: All loggers by name.
LOGGERS: Registry[Logger] = Registry(
    "logger",
    "pytest_cliprobust.reporting.loggers",
    remedy="--clip-logger takes mlflow, wandb, or one that a conftest.py registers",
)


def register_logger(name: str, *, library: str = "") -> Callable[[Log], Log]:
    """Register the decorated function as the logger called ``name``.

    It is given a :class:`Logged` for each model at the end of a run, and returns where that is now.

    Example:
        >>> @register_logger("board", library="board_client")
        ... def log(told): ...

    Args:
        name: what ``--clip-logger`` calls it.
        library: the package that it imports, if not one of that name.

    Raises:
        ClipRobustError: another module has registered that name, or it is none.
    """
    LOGGERS.check_name(name)

    def decorate(log: Log) -> Log:
        LOGGERS.add(name, Logger(name, library or name, log), module=log.__module__)
        return log

    return decorate


def check_loggers(names: Sequence[str]) -> None:
    """Find out before a run whether the loggers are there.

    Raises:
        ClipRobustError: there is none of that name, or its library is not installed.
    """
    for name in names:
        LOGGERS.named(name).check()


def hand_over(run: Run, names: Sequence[str], files: Sequence[Path]) -> Iterator[str | Unavailable]:
    """Yield for each logger and model where the run is now, or what kept it from getting there.

    Whatever goes wrong there is no loss of what was measured: the next logger has its turn.

    Args:
        run: what to hand over; one without figures is not.
        names: of the loggers.
        files: the reports that were written.
    """
    if not run.records:
        return
    written = tuple(path for path in files if path.is_file())
    for name in names:
        for model in run.models.values():
            try:
                where = LOGGERS.named(name).log(logged(run, model, written))
            except Exception as error:  # a library's, a server's, or a network's
                yield Unavailable(
                    f"--clip-logger {name}: {model.name} could not be handed over, and nothing measured is "
                    f"lost: {brief(error)}"
                )
                break  # what is not there for one model is not there for the next
            yield f"{name}: {model.name} is {where}"


def logged(run: Run, model: ModelSummary, files: tuple[Path, ...] = ()) -> Logged:
    """Return what is handed over of one model of a run."""
    own = [record for record in run.records if record.model == model.name]
    return Logged(
        model.name, _metrics(own), _params(run, model), _tags(run, own), files, run.complete
    )


def name_of(key: str) -> str:
    """Return a figure's key as a name that servers take: letters, digits, and ``_ . - /`` alone.

    ``fog_3d@3`` is ``fog_3d.3``. A name that needs more than that, or is too long, ends in a digest of the
    key, so that no two figures share one.
    """
    plain = key.replace("@", ".")
    name = re.sub(r"[^A-Za-z0-9_./-]", "_", plain)
    parts = name.split("/")
    if name == plain and len(name) <= _NAME and all(part.strip(".") for part in parts):
        return name
    digest = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()
    told = "/".join(part if part.strip(".") else "_" for part in parts)
    return f"{told[: _NAME - 9]}-{digest}"


def _metrics(records: Sequence[Record]) -> dict[str, float]:
    from pytest_cliprobust.gating.baseline import bare_key

    found: dict[str, float] = {}
    for record in records:
        figure, name = record.figure, name_of(bare_key(record.measurement))
        values = {name: figure.value, f"{name}.low": figure.low, f"{name}.high": figure.high}
        found |= {key: value for key, value in values.items() if math.isfinite(value)}
    return found


def _params(run: Run, model: ModelSummary) -> dict[str, str]:
    config = run.config
    told = {
        "model": model.name,
        "architecture": model.architecture,
        "pretrained": model.pretrained,
        "weights": model.digest,
        "precision": model.precision,
        "device": model.device,
        "data": config.data,
        "profile": config.profile,
        "seed": str(config.seed),
        "limit": str(config.limit or "none"),
        "thresholds": run.thresholds or "none",
        "pytest_cliprobust": run.version,
    }
    if run.provenance is not None:
        told |= {f"data.{name}": digest for name, digest in run.provenance.data.items()}
        told["templates"] = run.provenance.templates.get(model.name, "")
    if run.baseline is not None:
        told["baseline"] = run.baseline.source
    return {_plain(name): text[:_TEXT] for name, text in told.items() if text}


def _tags(run: Run, records: Sequence[Record]) -> dict[str, str]:
    statuses = [record.verdict.status for record in records]
    failed = sum(record.verdict.failed for record in records)
    return {
        "cliprobust.ending": run.ending,
        "cliprobust.exit_status": str(run.exit_status),
        "cliprobust.complete": str(run.complete).lower(),
        "cliprobust.failed": str(failed),
        **{f"cliprobust.{word}": str(statuses.count(word)) for word in _COUNTED},
    }


#: Statuses that are counted in tags, beside the figures that fail.
_COUNTED: tuple[Status, ...] = ("pass", "waived", "inconclusive", "unbounded")


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
