"""The pytest plugin: options, markers, fixtures and hooks. Imports nothing heavy.

Torch, numpy and everything else load when ``--clip-model`` is given, and never otherwise.
"""

from __future__ import annotations

import ast
import contextlib
import math
import os
import re
import shlex
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pytest_cliprobust
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.files import shown_path

if TYPE_CHECKING:
    from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig
    from pytest_cliprobust.figures.figure import Figure, Measurement
    from pytest_cliprobust.gating.thresholds import RecordChange, ThresholdFile
    from pytest_cliprobust.gating.verdict import Verdict
    from pytest_cliprobust.results.journal import Journal
    from pytest_cliprobust.search.stress import Evidence

PROFILES = ("quick", "standard", "full")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
SUITES = (
    "accuracy",
    "calibration",
    "ood",
    "shape_bias",
    "corruption_2d",
    "corruption_3d",
    "view",
    "occlusion",
    "typographic",
    "kornia",
    "worst_case",
    "frontier",
    "adversarial",
)
"""Names of the shipped suites: ``suites/test_<name>.py``; each is a marker, too."""

PROPERTIES = {"corruption_2d": "corruption", "corruption_3d": "corruption"}
"""Suites that measure the same property share a further marker."""

#: option, ini help, default, choices; each is ``--clip-<name>`` and ini key ``clip_<name>``.
OPTIONS: tuple[tuple[str, str, str | None, tuple[str, ...] | None], ...] = (
    ("pretrained", "tag of the weights, or the path of a checkpoint", None, None),
    ("activation", "activation of a checkpoint that does not say", None, ("gelu", "quickgelu")),
    ("data", "'embedded', or the path of an ImageFolder that replaces the clean set", None, None),
    (
        "depth",
        "depth for data without: an estimator (folder or hub name) or a folder of depth maps",
        None,
        None,
    ),
    ("device", "device of the model (default: the accelerator there is, else cpu)", "auto", None),
    ("precision", "precision of the forward passes", "auto", PRECISIONS),
    ("batch-size", "images loaded and perturbed at a time (default: auto)", "auto", None),
    ("limit", "at most so many samples of each data set", None, None),
    (
        "thresholds",
        "the threshold file (default: thresholds.toml, else the shipped one)",
        None,
        None,
    ),
    ("cache-dir", "folder of the feature cache", None, None),
    ("profile", "how many samples: quick, standard or full", "standard", PROFILES),
    ("seed", "seed of perturbations and bootstrap", "0", None),
)
SUITES_MODULE = "pytest_cliprobust.suites"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--clip-*`` options and their ini keys."""
    group = parser.getgroup("clip", "robustness evaluation of CLIP models (pytest-cliprobust)")
    group.addoption(
        "--clip-model",
        action="append",
        metavar="MODEL",
        help="the model under test, e.g. ViT-B-32, ViT-B-32/laion2b_s34b_b79k, hf-hub:…, a folder, "
        "or 'reference' (bundled, offline); repeatable",
    )
    parser.addini("clip_model", "models under test, see --clip-model", type="args")
    for name, text, default, choices in OPTIONS:
        shown = f"{text} [{', '.join(choices)}]" if choices else text
        group.addoption(f"--clip-{name}", metavar=name.upper(), default=None, help=shown)
        parser.addini(f"clip_{name.replace('-', '_')}", text, default=default)
    group.addoption(
        "--clip-report",
        action="append",
        metavar="FILE",
        help="write a report, FILE.json or FILE.md; repeatable, or separated by commas",
    )
    parser.addini("clip_report", "reports to write, see --clip-report", type="args")
    group.addoption(
        "--clip-suites",
        action="store_true",
        help="run the suites that ship with the plugin (the same as --pyargs pytest_cliprobust.suites)",
    )
    group.addoption(
        "--clip-record",
        action="store_true",
        help="write bounds from this run into the threshold file, and show what changed",
    )


def option(config: pytest.Config, name: str) -> str | None:
    """Return an option from the command line or else the ini file.

    Raises:
        pytest.UsageError: a value outside the option's choices.
    """
    value: str | None = config.getoption(f"--clip-{name}")
    if value is None:
        value = config.getini(f"clip_{name.replace('-', '_')}") or None
    choices = next(c for n, _, _, c in OPTIONS if n == name)
    if value is not None and choices and value not in choices:
        raise pytest.UsageError(f"--clip-{name} {value}: choose one of {', '.join(choices)}")
    return value


def whole_number(config: pytest.Config, name: str, least: int) -> int | None:
    """Return an option as a whole number of at least ``least``; None if not given or ``auto``."""
    value = option(config, name)
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
    """Return the models under test, each once, in the order given."""
    given = config.getoption("--clip-model") or config.getini("clip_model") or []
    return list(dict.fromkeys(given))


def reports_of(config: pytest.Config) -> list[Path]:
    """Return the reports to write.

    Raises:
        pytest.UsageError: another ending than ``.json`` or ``.md``.
    """
    given = config.getoption("--clip-report") or config.getini("clip_report") or []
    paths = [Path(name.strip()) for text in given for name in text.split(",") if name.strip()]
    for path in paths:
        if path.suffix not in (".json", ".md"):
            raise pytest.UsageError(f"--clip-report {path}: end the name in .json or .md")
    return list(dict.fromkeys(paths))


def suites_folder() -> Path:
    """Return the folder of the shipped suites: in the wheel, or in the repository."""
    package = Path(pytest_cliprobust.__path__[0])
    inside = package / "suites"
    return inside if inside.is_dir() else package.parent / "suites"


def run_config(config: pytest.Config) -> RunConfig:
    """Collect the options of this run."""
    from pytest_cliprobust.engine.evaluation import RunConfig

    cache_dir = option(config, "cache-dir")
    return RunConfig(
        models=tuple(models_of(config)),
        pretrained=option(config, "pretrained"),
        activation=option(config, "activation"),
        data=option(config, "data") or "embedded",
        depth=option(config, "depth"),
        device=option(config, "device") or "auto",
        precision=option(config, "precision") or "auto",
        batch_size=whole_number(config, "batch-size", 1),
        limit=whole_number(config, "limit", 1),
        cache_dir=Path(cache_dir) if cache_dir else None,
        profile=option(config, "profile") or "standard",
        seed=whole_number(config, "seed", 0) or 0,
    )


class Session:
    """What a run with ``--clip-model`` keeps: loaded models, the threshold file, all records."""

    def __init__(self, config: pytest.Config) -> None:
        self.pytest_config = config
        self.config = run_config(config)
        self.is_worker = hasattr(config, "workerinput")
        self.evaluations: dict[str, Evaluation] = {}
        self.records: list[dict[str, Any]] = []
        self.suites: set[str] = set()
        self.broken: set[str] = set()
        self.not_run: list[dict[str, str]] = []
        self.interrupted = False
        self.exit_status = 0
        self.worker_notes: list[str] = []
        self.encoded: dict[str, dict[str, int]] = {}
        self.noise: dict[str, tuple[float, float]] = {}
        self.mistakes: list[str] = []
        self.changes: list[RecordChange] = []
        self.started = time.monotonic()
        self.progress = ProgressLine(config)
        # Listing tests measures nothing, and must not replace a report that did.
        self.reports = [] if config.option.collectonly else reports_of(config)
        self.journal: Journal | None = None
        self.threshold_path = self._threshold_path()
        self.thresholds: ThresholdFile | None = None
        self.baseline: dict[str, Figure] | None = None

    def evaluation(self, model: str) -> Evaluation:
        """Return the evaluation of ``model``, loading the model at the first request."""
        from pytest_cliprobust.engine.evaluation import Evaluation

        if model not in self.evaluations:
            self.evaluations[model] = Evaluation(self.config, model, self.progress)
        return self.evaluations[model]

    def start(self) -> None:
        """Load the models and the threshold file, so that mistakes show before any test runs."""
        for model in self.config.models:
            self.evaluation(model)
        if self.config.data != "embedded":
            next(iter(self.evaluations.values())).dataset("clean")
        self.thresholds = self._load_thresholds()
        self.thresholds.register_perturbations()
        policy = self.thresholds.policy
        if policy.baseline is not None:
            from pytest_cliprobust.gating.thresholds import load_baseline

            self.baseline = load_baseline(policy.baseline)
        if self.reports and not self.is_worker:
            from pytest_cliprobust.results.journal import Journal

            self.journal = Journal(self)

    def _threshold_path(self) -> Path | None:
        named = option(self.pytest_config, "thresholds")
        if named:
            return Path(named)
        shipped = suites_folder()
        inside = shipped.parent == Path(pytest_cliprobust.__path__[0])
        own = (self.pytest_config.invocation_params.dir, self.pytest_config.rootpath)
        # An installed package's file is for reading; recording makes one of the user's own.
        theirs = [] if inside and self.recording else [shipped if inside else shipped.parent]
        for folder in (*own, *theirs):
            path = folder / "thresholds.toml"
            if path.is_file():
                return path
        return own[0] / "thresholds.toml" if self.recording else None

    @property
    def recording(self) -> bool:
        """Whether ``--clip-record`` was given."""
        return bool(self.pytest_config.getoption("--clip-record"))

    def _load_thresholds(self) -> ThresholdFile:
        import open_clip

        from pytest_cliprobust.datasets import embedded
        from pytest_cliprobust.datasets.registry import LAYOUTS
        from pytest_cliprobust.gating import thresholds
        from pytest_cliprobust.perturbations import registry
        from pytest_cliprobust.targets.registry import TARGETS

        if self.threshold_path is None or (self.recording and not self.threshold_path.is_file()):
            return thresholds.ThresholdFile(profile=self.config.profile)
        architectures = open_clip.list_models()
        return thresholds.load_thresholds(
            self.threshold_path,
            profile=self.config.profile,
            known_suites=known_suites(self.pytest_config),
            known_metrics=(
                *thresholds.known_metrics(),
                *registered_in_suites(self.pytest_config),
            ),
            known_datasets=(
                *embedded.names(),
                "clean:*",
                *(f"{layout}:*" for layout in LAYOUTS),
            ),
            known_perturbations=(
                *registry.names(),
                *registered_in_suites(self.pytest_config),
                *("kornia:*", "all_2d", "all_3d", "apgd"),
            ),
            models=(
                *self.config.models,
                "reference",
                *architectures,
                *(f"{name}/*" for name in architectures),
                *(f"{prefix}*" for prefix in TARGETS if prefix.endswith(":")),
            ),
            known_profiles=PROFILES,
        )

    def header(self) -> list[str]:
        """Return the lines of the report header."""
        config = self.config
        lines = []
        for name, evaluation in self.evaluations.items():
            info = evaluation.target.info
            lines.append(
                f"clip model: {name} ({info.architecture}, {info.pretrained}), weights "
                f"{info.digest[:12]}, {evaluation.target.device}, precision "
                f"{evaluation.encoder.precision}"
            )
            lines += [f"  note: {note}" for note in info.notes]
        size = f", at most {config.limit} samples" if config.limit else ""
        shown = shown_path(self.threshold_path) if self.threshold_path else "none"
        lines.append(
            f"clip data: {config.data}, profile {config.profile}{size}, seed {config.seed}; "
            f"thresholds: {shown}"
        )
        if config.depth is not None:
            used = " (not needed: embedded data has its own)" if config.data == "embedded" else ""
            lines.append(f"clip depth: {config.depth}{used}")
        if self.journal is not None:
            lines += [f"  note: {note}" for note in self.journal.notes]
        return lines

    def noise_floor(self, model: str, metric: str) -> float:
        """Return the numerical noise below which no figure of ``metric`` decides anything."""
        evaluation = self.evaluation(model)
        floor = evaluation.noise_floor(metric)
        self.noise[model] = evaluation.noise
        return floor

    def notes(self) -> list[str]:
        """Return what a reader of the summary must know beside the figures."""
        notes = [n for evaluation in self.evaluations.values() for n in evaluation.encoder.notes]
        return list(dict.fromkeys([*notes, *self.worker_notes]))

    def work_done(self) -> dict[str, dict[str, int]]:
        """Return, by model, how many images this process encoded and how many it found cached."""
        return {
            name: {"encoded": e.encoder.forwarded, "cached": e.encoder.cached}
            for name, e in self.evaluations.items()
        }

    def add_work(self, work: dict[str, dict[str, int]]) -> None:
        """Add what a process did (an xdist worker, or this one)."""
        for name, counts in work.items():
            total = self.encoded.setdefault(name, {"encoded": 0, "cached": 0})
            for kind, count in counts.items():
                total[kind] += count

    def finish(self) -> None:
        """Write reports and recorded bounds."""
        from pytest_cliprobust.gating import thresholds
        from pytest_cliprobust.reporting import files

        if self.recording and self.threshold_path is not None and not self.interrupted:
            self.changes = thresholds.record(
                self.threshold_path,
                [files.measurement_of(record) for record in self.records],
                profile=self.config.profile,
                generic=("profile",),
                comparisons=len(self.thresholds.rules) if self.thresholds else 1,
                noise={str(record["key"]): record["noise_floor"] for record in self.records},
            )
        for path in self.reports:
            files.write(path, self)
        if self.journal is not None:
            self.journal.close([str(record["key"]) for record in self.records])


class ProgressLine:
    """A single line with a bar and the remaining time; nothing unless output is a terminal."""

    #: Seconds between two drawings of the line.
    PAUSE = 0.1

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began: tuple[str, float, int] | None = None
        self._drawn: float | None = None

    def __call__(self, description: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` samples of ``description`` are finished."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        # While a test runs its output is captured, the terminal's own stream with it: ask the reporter.
        if reporter is None or hasattr(self._config, "workerinput") or not reporter.isatty:
            return
        now = time.monotonic()
        if done >= total:
            if self._drawn is not None:
                # What pytest had written on this line comes back.
                self._write(reporter, getattr(reporter._tw, "_current_line", ""))
            self._began = self._drawn = None
            return
        if self._began is None or self._began[0] != description:
            self._began = (description, now, done)
            return
        if self._drawn is not None and now - self._drawn < self.PAUSE:
            return
        _, start, before = self._began
        left = (now - start) / max(done - before, 1) * (total - done)
        filled = round(20 * done / total)
        bar = "━" * filled + "╌" * (20 - filled)
        text = f"  {description} {bar} {done}/{total}, {duration(left)} left"
        self._write(reporter, text[: reporter._tw.fullwidth - 1])
        self._drawn = now

    def _write(self, reporter: Any, text: str) -> None:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            reporter._tw._file.write(f"\r\x1b[2K{text}")
            reporter._tw._file.flush()


def duration(seconds: float) -> str:
    """Return ``12 s``, ``3:05 min`` or ``2:05 h``."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


SESSION: pytest.StashKey[Session] = pytest.StashKey()
CHECK: pytest.StashKey[Check] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; set up the session if there is a model to test."""
    config.addinivalue_line(
        "markers", "clip_suite(name): the suite that a measurement of this test belongs to"
    )
    for name in SUITES:
        config.addinivalue_line("markers", f"{name}: tests of the {name} suite")
    for name in sorted(set(PROPERTIES.values())):
        config.addinivalue_line("markers", f"{name}: tests of the property {name}, in any suite")
    find_suites(config)
    if models_of(config):
        # Threads that wait for others sleep instead of spinning. Corruptions are many short parallel
        # steps; where workers or other programs share the cores, spinning made them five times slower.
        # The figures do not depend on it. Torch's OpenMP reads it once, when it is first loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            config.stash[SESSION] = Session(config)
        except ClipRobustError as error:
            raise pytest.UsageError(str(error)) from None


def find_suites(config: pytest.Config) -> None:
    """Put the shipped suites' real path where the command line names them as a module.

    So ``--pyargs pytest_cliprobust.suites`` works from a wheel and from an editable install alike.
    """
    if config.option.pyargs:
        for position, argument in enumerate(config.args):
            module, colons, rest = argument.partition("::")
            if module == SUITES_MODULE or module.startswith(f"{SUITES_MODULE}."):
                inner = module.removeprefix(SUITES_MODULE).replace(".", "/")
                path = f"{suites_folder()}{inner}{'.py' if inner else ''}"
                config.args[position] = f"{path}{colons}{rest}"
    if config.getoption("--clip-suites"):
        named = config.args if config.args_source == config.ArgsSource.ARGS else []
        config.args[:] = [*named, str(suites_folder())]
        config.args_source = config.ArgsSource.ARGS


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Load models and thresholds; a mistake ends the session in one line, exit code 4."""
    global _reporting_session  # the report hook is given no config
    own = session.config.stash.get(SESSION, None)
    if own is None:
        return
    _reporting_session = own
    try:
        own.start()
    except ClipRobustError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is under test, on what."""
    own = config.stash.get(SESSION, None)
    return own.header() if own else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize every test that uses a CLIP fixture over the models under test."""
    if "clip_model" in metafunc.fixturenames:
        models = models_of(metafunc.config) or ["no-model"]
        metafunc.parametrize("clip_model", models, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests with their suite; explain and stop where a model is needed and none is given."""
    needs = [item for item in items if "clip_model" in getattr(item, "fixturenames", ())]
    if needs and not models_of(config) and not config.option.collectonly:
        raise pytest.UsageError(
            f"{len(needs)} of the collected tests evaluate a CLIP model and none is named: add "
            "--clip-model reference (bundled, offline), or --clip-model ViT-B-32 and the like"
        )
    for item in needs:
        suite = suite_of(item)
        if suite in SUITES:
            item.add_marker(suite)
        if suite in PROPERTIES:
            item.add_marker(PROPERTIES[suite])


def known_suites(config: pytest.Config) -> tuple[str, ...]:
    """Return the names of the shipped suites and of those in the files that pytest will collect."""
    names = set(SUITES)
    for file, text in _suite_files(config):
        names.add(file.stem.removeprefix("test_"))
        names.update(re.findall(r"clip_suite\(\s*[\"']([^\"']+)", text))
    return tuple(sorted(names))


def registered_in_suites(config: pytest.Config) -> tuple[str, ...]:
    """Return what suite files register (perturbations, metrics); they are not imported yet.

    (A conftest.py is imported before the threshold file is read, so what it registers is known.)
    """
    names: set[str] = set()
    for _, text in _suite_files(config):
        with contextlib.suppress(SyntaxError):
            for node in ast.walk(ast.parse(text)):
                for call in getattr(node, "decorator_list", []):
                    if isinstance(call, ast.Call) and "register" in ast.unparse(call.func):
                        first = call.args[0] if call.args else None
                        named = first.value if isinstance(first, ast.Constant) else None
                        names.add(str(named or getattr(node, "name", "")))
    return tuple(sorted(names))


def _suite_files(config: pytest.Config) -> Iterator[tuple[Path, str]]:
    for argument in config.args:
        path = Path(argument.partition("::")[0])
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
            yield file, text


def suite_of(item: pytest.Item) -> str:
    """Return the suite of a test: its ``clip_suite`` marker, or its file's name without ``test_``."""
    marker = item.get_closest_marker("clip_suite")
    if marker and marker.args:
        return str(marker.args[0])
    return item.path.stem.removeprefix("test_")


@pytest.fixture(scope="session")
def clip_model() -> str:
    """Name of the model under test; parametrized over all ``--clip-model``."""
    raise pytest.UsageError("no model under test: add --clip-model MODEL")  # pragma: no cover


@pytest.fixture
def clip(request: pytest.FixtureRequest, clip_model: str) -> Evaluation:
    """The evaluation of the model under test: data sets, features, logits, labels."""
    return request.config.stash[SESSION].evaluation(clip_model)


@pytest.fixture
def check(request: pytest.FixtureRequest, clip_model: str) -> Check:
    """Compares figures with the threshold file; the test fails at its end if any bound is missed."""
    checker = Check(request.node, request.config.stash[SESSION], clip_model)
    request.node.stash[CHECK] = checker
    return checker


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test whose figures missed a bound, in its call phase: a failure, not a set-up error."""
    result = yield
    checker = item.stash.get(CHECK, None)
    if checker is not None:
        checker.finish()
    return result


class Check:
    """Judges figures and keeps them for the reports.

    Call it with one figure, several, or a mapping of them; all are judged before the test fails, so
    that one failure does not hide another.
    """

    def __init__(self, item: pytest.Item, session: Session, model: str) -> None:
        self._item = item
        self._session = session
        self._model = model
        self._failures: list[str] = []
        self._also_used: list[str] = []

    def __call__(
        self,
        figures: Figure | Iterable[Figure] | dict[str, Figure],
        *,
        dataset: str = "clean",
        perturbation: str = "clean",
        severity: int | None = None,
        explain: Callable[[Verdict], Evidence] | None = None,
    ) -> None:
        """Judge ``figures``, measured on ``dataset`` under ``perturbation`` at ``severity``.

        ``explain`` is asked for evidence (a picture, a command that shows it) if a bound is missed.
        """
        from pytest_cliprobust.figures.figure import Figure, Measurement

        if isinstance(figures, Figure):
            figures = [figures]
        elif isinstance(figures, dict):
            figures = list(figures.values())
        dataset = self._session.evaluation(self._model).measured_on(dataset)
        for figure in figures:
            measurement = Measurement(
                suite=suite_of(self._item),
                model=self._model,
                dataset=dataset,
                figure=figure,
                perturbation=perturbation,
                severity=severity,
            )
            self._judge(measurement, explain)

    def limit(
        self, metric: str, *, dataset: str = "clean", perturbation: str = "clean"
    ) -> float | None:
        """Return the ``max`` that the threshold file sets for a metric, None if it sets none."""
        from pytest_cliprobust.figures.figure import Figure, Measurement

        thresholds = self._session.thresholds
        assert thresholds is not None
        nothing = Figure(metric, 0.0, 0.0, 0.0, 0)
        dataset = self._session.evaluation(self._model).measured_on(dataset)
        suite = suite_of(self._item)
        rule = thresholds.lookup(
            Measurement(suite, self._model, dataset, nothing, perturbation=perturbation)
        )
        if rule is None:
            return None
        self._also_used.append(rule.id)
        return rule.maximum

    def _judge(
        self, measurement: Measurement, explain: Callable[[Verdict], Evidence] | None
    ) -> None:
        from pytest_cliprobust.gating import verdict
        from pytest_cliprobust.reporting import files

        thresholds = self._session.thresholds
        assert thresholds is not None
        rule = thresholds.lookup(measurement)
        floor = 0.0
        if rule or self._session.recording:
            floor = self._session.noise_floor(self._model, measurement.metric)
        judged = verdict.judge(
            measurement,
            rule,
            thresholds.policy,
            baseline=self._session.baseline,
            comparisons=len(thresholds.rules),
            noise_floor=floor,
        )
        record = files.record_of(measurement, judged, rule, self._item.nodeid)
        record["also_used"] = list(self._also_used)
        record["noise_floor"] = floor
        records = self._item.__dict__.setdefault("clip_records", [])
        records.append(record)
        self._item.user_properties.append((measurement.key, files.one_line(record)))
        if judged.failed and not self._session.recording:
            told = verdict.failure_message(judged, measurement, rerun_command(self._item))
            if explain is not None:
                folder = files.picture_folder(self._item.config)
                record["evidence"] = files.evidence_of(explain(judged), measurement.key, folder)
                told += "\n" + files.evidence_text(record["evidence"])
            self._failures.append(told)

    def finish(self) -> None:
        """Fail the test with all that was missed."""
        if self._failures:
            pytest.fail("\n\n".join(self._failures), pytrace=False)


def rerun_command(item: pytest.Item) -> str:
    """Return the command line that runs just this test again, with this run's options."""
    config = item.config
    # The path as the user can type it here: a node id starts at the root folder.
    path = shown_path(item.path)
    parts = ["pytest", f"{path}::{item.nodeid.partition('::')[2]}"]
    callspec = getattr(item, "callspec", None)
    model = callspec.params.get("clip_model") if callspec else None
    # Written with "=": pytest takes a folder that stands alone for one of tests, and roots itself there.
    parts += [f"--clip-model={name}" for name in ([model] if model else models_of(config))]
    for name, *_ in OPTIONS:
        value = config.getoption(f"--clip-{name}")
        if value is not None:
            parts.append(f"--clip-{name}={value}")
    return shlex.join(parts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Tell a user mistake in one line, and hand the test's records over (also from xdist workers)."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(NotRun):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {call.excinfo.value}")
    elif call.excinfo is not None and call.excinfo.errisinstance(ClipRobustError):
        report.longrepr = str(call.excinfo.value)
        report.clip_mistake = str(call.excinfo.value)
    if "clip_model" in getattr(item, "fixturenames", ()):
        report.clip_suite = suite_of(item)
    if call.when == "teardown":
        report.clip_records = item.__dict__.get("clip_records", [])
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect what the tests measured, in the process that reports."""
    own = _reporting_session
    if own is None:
        return
    suite = getattr(report, "clip_suite", None)
    if suite is not None:
        own.suites.add(suite)
        if report.failed and not getattr(report, "clip_records", None):
            own.broken.add(suite)
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            reason = str(reason).removeprefix("Skipped: ")
            own.not_run.append({"test": report.nodeid, "suite": suite, "reason": reason})
    records = getattr(report, "clip_records", [])
    own.records += records
    if own.journal is not None and records:
        own.journal.add(records)
    mistake = getattr(report, "clip_mistake", None)
    if mistake:
        own.mistakes.append(mistake)


_reporting_session: Session | None = None


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Take over what an xdist worker has to say."""
    own = node.config.stash.get(SESSION, None)
    told = getattr(node, "workeroutput", {}).get("cliprobust")
    if own is not None and told:
        own.worker_notes += told["notes"]
        own.add_work(told["work"])
        own.noise.update(told["noise"])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
    """Write the reports, whatever ended the session.

    The exit code is 4 after a user mistake, and 1 where a bound was not measured as its test was
    skipped: neither is green.
    """
    from pytest_cliprobust.gating import unjudged as bounds

    own = session.config.stash.get(SESSION, None)
    if own is None or own.thresholds is None:
        return
    if own.is_worker:
        told = {"notes": own.notes(), "work": own.work_done(), "noise": own.noise}
        session.config.workeroutput["cliprobust"] = told  # type: ignore[attr-defined]
        return
    own.add_work(own.work_done())
    own.records.sort(key=lambda record: str(record["key"]))
    own.interrupted = exitstatus not in (
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
    ) or bool(session.shouldstop or session.shouldfail)
    if bounds.fails(own, bounds.unjudged(own)) and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    own.exit_status = int(session.exitstatus)
    if own.mistakes:
        own.exit_status = int(pytest.ExitCode.USAGE_ERROR)
    try:
        own.finish()
    except ClipRobustError as error:
        own.mistakes.append(str(error))
    if own.mistakes:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of all that was measured."""
    own = config.stash.get(SESSION, None)
    if own is None or own.is_worker or own.thresholds is None:
        return
    from pytest_cliprobust.reporting import terminal

    terminal.summarise(terminalreporter, own)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forget the session, so that pytest can run again in this process."""
    global _reporting_session
    if _reporting_session is not None and _reporting_session.pytest_config is config:
        _reporting_session = None
