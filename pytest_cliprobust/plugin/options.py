"""The ``--clip-*`` options and their ini keys. Imports nothing heavy."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_cliprobust.datasets.profiles import PROFILES as PROFILES
from pytest_cliprobust.datasets.roles import EMBEDDED
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.datasets.templates import read_templates
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.results.tags import checked_tag
from pytest_cliprobust.targets.names import check_pretrained, named, named_models
from pytest_cliprobust.targets.precision import PRECISIONS

REPORTS = (".json", ".md", ".html", ".sarif", ".intoto.jsonl")


@dataclass(frozen=True)
class Named:
    """What the command line calls ``--clip-<name>``, and an ini file ``clip_<name>``.

    Attributes:
        name: with hyphens.
    """

    name: str

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return f"--clip-{self.name}"

    @property
    def key(self) -> str:
        """The key in an ini file."""
        return f"clip_{self.name.replace('-', '_')}"


@dataclass(frozen=True)
class Option(Named):
    """An option with one value.

    Attributes:
        name: with hyphens.
        help: what ``--help`` says.
        default: value of the ini key where it is not set.
        choices: allowed values; None for any.
    """

    help: str
    default: str | None = None
    choices: tuple[str, ...] | None = None


OPTIONS = (
    Option("pretrained", "tag of the weights, or the path of a checkpoint"),
    Option(
        "activation", "activation of a checkpoint that does not say", choices=("gelu", "quickgelu")
    ),
    Option("templates", "file of prompt templates for the classes, one a line with {} or {c}"),
    Option(
        "depth",
        "depth for data without: an estimator (folder or hub name) or a folder of depth maps",
    ),
    Option(
        "lmm",
        "the multimodal model that is asked about what the model under test confuses: a folder or hub "
        "name of transformers (default: with 'reference' the bundled one)",
    ),
    Option(
        "bad-data",
        "what samples that cannot be read do: end the run, or be left out, counted and listed (1% at most)",
        "error",
        ("error", "skip"),
    ),
    Option(
        "font",
        "font file in which class names are written on pictures (default: a bundled one with their letters)",
    ),
    Option("device", "device of the model (default: the accelerator there is, else cpu)", "auto"),
    Option("precision", "precision of the forward passes", "auto", PRECISIONS),
    Option("batch-size", "images loaded and perturbed at a time (default: auto)", "auto"),
    Option("limit", "at most so many samples of each data set"),
    Option("thresholds", "the threshold file (default: thresholds.toml, else the shipped one)"),
    Option(
        "baseline",
        "the earlier run that changes are held against: a file, or a run of the history (last, "
        "tag:NAME, its number), or 'none' (default: the policy's, else the one beside the threshold "
        "file)",
    ),
    Option(
        "against", "a second model, measured in the same run, that the others are compared with"
    ),
    Option(
        "figures",
        "which figures --clip-record records: globs of their names, separated by commas, or 'gated'",
    ),
    Option("because", "why --clip-record accepts the change of these figures"),
    Option("cache-dir", "folder of the feature cache"),
    Option(
        "store",
        "keep decoded pictures of large data sets beside the features, so that each is decoded once "
        "(auto: where they take at most a tenth of the free space)",
        "auto",
        ("auto", "on", "off"),
    ),
    Option(
        "history",
        "the file that runs are kept in, or 'none' (default: history.sqlite in the cache folder)",
    ),
    Option("profile", "how many samples: quick, standard or full", "standard", PROFILES),
    Option("seed", "seed of perturbations and bootstrap", "0"),
    Option("plant", "plant a known loss in a copy of the model (`cliprobust doctor` does)"),
)
_BY_NAME = {option.name: option for option in OPTIONS}


@dataclass(frozen=True)
class Repeatable(Named):
    """An option that may be given several times, on the command line or in an ini file.

    Attributes:
        name: with hyphens.
        metavar: what a value is made of.
        help: what ``--help`` says of the option; that it is repeatable is added.
        listed: what ``--help`` says of the ini key.
        kind: how an ini file separates values: ``args`` by spaces, ``linelist`` by lines.
    """

    metavar: str
    help: str
    listed: str
    kind: Literal["args", "linelist"] = "args"


MODEL = Repeatable(
    "model",
    "[NAME=]MODEL",
    "the model under test, e.g. ViT-B-32, ViT-B-32/laion2b_s34b_b79k, hf-hub:…, a folder or checkpoint, or "
    "'reference' (bundled, offline); NAME is what bounds and reports call it",
    "models under test",
)
REPEATABLE = (
    MODEL,
    Repeatable(
        "data",
        "[ROLE=][NAME=][LAYOUT:]PATH",
        "data of your own for a role (default: clean), in a layout that `cliprobust data list` names "
        "(default: an image folder); or a TOML file with a table [data], or 'embedded'",
        "data by role, one a line",
        "linelist",
    ),
    Repeatable(
        "require",
        "ROLE|SUITE",
        "a role or suite without which the run is not green (exit code 6)",
        "roles and suites",
    ),
    Repeatable(
        "report",
        "FILE",
        "write a report, FILE.html, .md, .json, .sarif or .intoto.jsonl; several also separated by commas",
        "reports to write",
    ),
    Repeatable("tag", "NAME", "a name for this run in the history", "names of runs in the history"),
    Repeatable(
        "logger",
        "NAME",
        "hand the run over to what tracks experiments, mlflow or wandb",
        "loggers",
    ),
)

#: Switches that an ini file may set, too: name and help.
SWITCHES = (
    ("logger-required", "a run that a logger could not hand over is not green (exit code 7)"),
    ("no-samples", "leave names and pictures of samples out of reports and history"),
)

#: Switches of the command line alone: name and help.
COMMANDS = (
    (
        "suites",
        "run the suites that ship with the plugin (the same as --pyargs pytest_cliprobust.suites)",
    ),
    ("record", "write bounds from this run into the threshold file, and show what changed"),
)


def add_options(parser: pytest.Parser) -> None:
    """Add the options and their ini keys."""
    group = parser.getgroup("clip", "robustness evaluation of CLIP models (pytest-cliprobust)")
    _add_repeatable(parser, group, MODEL)  # what --help shows first
    for option in OPTIONS:
        choices = f" [{', '.join(option.choices)}]" if option.choices else ""
        told = _as_it_is(option.help + choices)
        group.addoption(option.flag, metavar=option.name.upper(), default=None, help=told)
        parser.addini(option.key, option.help, default=option.default)
    for several in REPEATABLE[1:]:
        _add_repeatable(parser, group, several)
    for name, told in (*SWITCHES, *COMMANDS):
        group.addoption(Named(name).flag, action="store_true", help=_as_it_is(told))
    for switch in (Named(name) for name, _ in SWITCHES):
        parser.addini(switch.key, f"see {switch.flag}", type="bool", default=False)


def _as_it_is(told: str) -> str:
    """Return help for argparse, which fills in what a per cent sign seems to ask for ("1% at most")."""
    return told.replace("%", "%%")


def _add_repeatable(parser: pytest.Parser, group: pytest.OptionGroup, option: Repeatable) -> None:
    told = _as_it_is(f"{option.help}; repeatable")
    group.addoption(option.flag, action="append", metavar=option.metavar, help=told)
    parser.addini(option.key, f"{option.listed}, see {option.flag}", type=option.kind)


def switched_on(config: pytest.Config, name: str) -> bool:
    """Return whether one of :data:`SWITCHES` is on, from the command line or the ini file."""
    switch = Named(name)
    return bool(config.getoption(switch.flag) or config.getini(switch.key))


def value_of(config: pytest.Config, name: str) -> str | None:
    """Return an option from the command line or else the ini file.

    Raises:
        pytest.UsageError: a value outside the option's choices.
    """
    option = _BY_NAME[name]
    value: str | None = config.getoption(option.flag)
    if value is None:
        value = config.getini(option.key) or None
    if value is not None and option.choices and value not in option.choices:
        raise pytest.UsageError(f"{option.flag} {value}: choose one of {', '.join(option.choices)}")
    return value


def _listed(config: pytest.Config, name: str) -> list[str]:
    """Return the values of an option that may be given several times, each once."""
    option = Named(name)
    given = config.getoption(option.flag) or config.getini(option.key) or []
    return list(dict.fromkeys(given))


def profile_of(config: pytest.Config) -> str:
    """Return the profile: ``quick``, ``standard`` or ``full``."""
    return value_of(config, "profile") or "standard"


def whole_number(config: pytest.Config, name: str, least: int) -> int | None:
    """Return an option as a whole number of at least ``least``; None if not given or ``auto``.

    Raises:
        pytest.UsageError: anything else.
    """
    value = value_of(config, name)
    if value in (None, "auto"):
        return None
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise pytest.UsageError(f"--clip-{name} {value}: a whole number from {least} on is needed")
    return number


def models_of(config: pytest.Config) -> list[str]:
    """Return the models under test as the user wrote them, each once, in the order given.

    The one that the others are compared with comes first.
    """
    given = _listed(config, "model")
    against = value_of(config, "against")
    first = [against] if against is not None and given else []
    return list(dict.fromkeys([*first, *given]))


def given_models(config: pytest.Config) -> dict[str, str]:
    """Return the models under test by name, as the user wrote them."""
    given: dict[str, str] = {}
    for text in models_of(config):
        given.setdefault(named(text)[0], text)
    return given


def reports_of(config: pytest.Config) -> list[Path]:
    """Return the reports to write.

    Raises:
        pytest.UsageError: another ending than those of :data:`REPORTS`.
    """
    given = _listed(config, "report")
    paths = [Path(name.strip()) for text in given for name in text.split(",") if name.strip()]
    for path in paths:
        if not path.name.endswith(REPORTS):
            raise pytest.UsageError(f"--clip-report {path}: end the name in {' or '.join(REPORTS)}")
    return list(dict.fromkeys(paths))


def data_of(config: pytest.Config) -> list[str]:
    """Return the values of ``--clip-data``, each once; ``embedded`` unless any is given."""
    return _listed(config, "data") or [EMBEDDED]


def required_of(config: pytest.Config) -> tuple[str, ...]:
    """Return the roles and suites that must be measured."""
    return tuple(_listed(config, "require"))


def loggers_of(config: pytest.Config) -> list[str]:
    """Return the loggers that the run is handed over to, each once."""
    return _listed(config, "logger")


def tags_of(config: pytest.Config) -> list[str]:
    """Return the names that this run gets in the history.

    Raises:
        pytest.UsageError: a name that cannot be one.
    """
    try:
        return [checked_tag(name) for name in _listed(config, "tag")]
    except ClipRobustError as error:
        raise pytest.UsageError(f"--clip-tag: {error}") from None


def run_config(config: pytest.Config) -> RunConfig:
    """Collect the options of this run.

    Raises:
        pytest.UsageError: a mistake in one of them, in one line.
    """
    cache_dir, pretrained = value_of(config, "cache-dir"), value_of(config, "pretrained")
    data, templates = data_of(config), value_of(config, "templates")
    against = value_of(config, "against") if models_of(config) else None
    if against is not None and models_of(config) == [against]:
        raise pytest.UsageError(
            f"--clip-against {against}: that is the model under test itself, and would be judged by "
            "nothing; to try the gate on a twin of it write --clip-against NAME=PATH"
        )
    try:
        models = named_models(models_of(config))
        check_pretrained(models, pretrained)
        sets = read_sources(data)
        texts = read_templates(Path(templates).expanduser()) if templates else ()
    except ClipRobustError as error:
        raise pytest.UsageError(str(error)) from None
    return RunConfig(
        models=tuple(models),
        sources={name: source for name, source in models.items() if name != source},
        pretrained=pretrained,
        activation=value_of(config, "activation"),
        data=" ".join(data),
        sets=sets,
        templates=texts,
        templates_file=str(shown_path(Path(templates).expanduser())) if templates else "",
        required=required_of(config),
        depth=value_of(config, "depth"),
        lmm=value_of(config, "lmm"),
        device=value_of(config, "device") or "auto",
        precision=value_of(config, "precision") or "auto",
        batch_size=whole_number(config, "batch-size", 1),
        limit=whole_number(config, "limit", 1),
        cache_dir=Path(cache_dir) if cache_dir else None,
        store=value_of(config, "store") or "auto",
        profile=profile_of(config),
        seed=whole_number(config, "seed", 0) or 0,
        plant=value_of(config, "plant"),
        bad_data=value_of(config, "bad-data") or "error",
        font=None if (font := value_of(config, "font")) is None else Path(font),
        against=None if against is None else named(against)[0],
    )


def require_own_root(config: pytest.Config) -> None:
    """Refuse a command line of which pytest took an option's value for a folder of tests.

    pytest looks for its root folder and its ini file before it knows the options of plugins, so in
    ``--clip-cache-dir DIR`` it takes DIR for a place to find tests in. Where that changes which ini file
    is read, the gate that stands in it would be gone in silence.

    Raises:
        pytest.UsageError: it does; the message says how to write the option.
    """
    added = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    given = [*added, *(str(word) for word in config.invocation_params.args)]
    flags = {option.flag for option in (*OPTIONS, *REPEATABLE)}
    pairs = [
        i for i, word in enumerate(given[:-1]) if word in flags and Path(given[i + 1]).exists()
    ]
    if not pairs or _root(config, given) == _root(config, _joined(given, pairs)):
        return
    flag, value = given[pairs[0]], given[pairs[0] + 1]
    read = config.inipath or "no ini file"
    raise pytest.UsageError(
        f"{flag} {value}: pytest takes {value} for a folder of tests here, makes {config.rootpath} its "
        f"root folder and reads {read}; write {flag}={value}"
    )


def _joined(words: Sequence[str], pairs: Sequence[int]) -> list[str]:
    """Return the words with each option and the value behind it as one."""
    values = {i + 1 for i in pairs}
    return [
        f"{word}={words[i + 1]}" if i in pairs else word
        for i, word in enumerate(words)
        if i not in values
    ]


def _root(config: pytest.Config, words: Sequence[str]) -> tuple[Path, Path | None]:
    """Return the root folder and ini file that pytest finds for these words of a command line."""
    from _pytest.config.findpaths import determine_setup

    settings: dict[str, Any] = {
        "inifile": getattr(config.option, "inifilename", None),
        "override_ini": getattr(config.option, "override_ini", None),
        "args": list(words),
        "rootdir_cmd_arg": getattr(config.option, "rootdir", None),
        "invocation_dir": config.invocation_params.dir,
    }
    takes = inspect.signature(determine_setup).parameters
    found = determine_setup(**{k: v for k, v in settings.items() if k in takes})
    return found[0], found[1]
