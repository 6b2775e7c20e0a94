"""What CONTRIBUTING promises: whoever adds one of these adds one file, and touches no other."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pytest_cliprobust
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS, register_metric
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.reading import load_thresholds
from pytest_cliprobust.gating.recording import record

ADDED = {
    "perturbations/sepia.py": """
        from pytest_cliprobust import register_perturbation

        @register_perturbation(severities=({"amount": 0.5},))
        def sepia(images, *, amount):
            return images * (1 - amount)
    """,
    "perturbations/common/drizzle.py": """
        from pytest_cliprobust import register_perturbation

        @register_perturbation()
        def drizzle(images):
            return images
    """,
    "properties/agreement.py": """
        from pytest_cliprobust import register_metric

        @register_metric("agreement", higher_is_better=True, meaning="share of equal answers")
        @register_metric("agreement_nats", higher_is_better=False, meaning="…", unit="nats", high=None)
        def agreement(clean, shifted):
            ...
    """,
    "datasets/layouts/flat.py": """
        from pytest_cliprobust import register_layout

        @register_layout("flat")
        class Flat:
            def __init__(self, root, *, limit=None, frame=None, size=224):
                self.asked = (root, limit, frame, size)
    """,
    "reporting/loggers/board.py": """
        from pytest_cliprobust import register_logger

        @register_logger("board", library="json")
        def log(told):
            return f"{told.name} on the board"
    """,
    "gating/packs/company.toml": """
        schema = 1
        extends = "release"
        [policy]
        churn = 0.1
    """,
    "targets/echo.py": """
        import torch
        from pytest_cliprobust import register_target
        from pytest_cliprobust.targets.registry import register_format

        class Echo:
            image_size = 8

            def __init__(self, source, name="", precision=""):
                self.tags = {"source": source, "name": name, "precision": precision}

            def encode_image(self, pixels):
                return pixels.mean((2, 3)) + 1

            def encode_text(self, texts):
                return torch.tensor([[len(text), 1.0, 2.0] for text in texts])

        register_target("echo:")(Echo)
        register_target("echoes", recognise=lambda name: name.endswith("!"), names=lambda: ["hey!"])(Echo)
        register_format("echo.json")(Echo)

        @register_target("silence")
        def silence(device):
            return Echo(str(device))
    """,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package, made of links, and of the files of :data:`ADDED`."""
    root = tmp_path_factory.mktemp("one_file")
    ours = Path(pytest_cliprobust.__path__[0])
    for folder, _, names in os.walk(ours):
        copy = root / ours.name / Path(folder).relative_to(ours)
        copy.mkdir(parents=True)
        for name in names:
            (copy / name).symlink_to(Path(folder) / name)
    for name, text in ADDED.items():
        (root / ours.name / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return root


def lines(package: Path, code: str) -> list[str]:
    """Run ``code`` in a new process in which the copy is imported, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package)},
        cwd=package,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_perturbation(package: Path) -> None:
    names, family, inside, pixel = lines(
        package,
        "import torch\n"
        "from pytest_cliprobust.perturbations import registry\n"
        "print(*registry.names())\n"
        "print(registry.get('sepia').family)\n"
        "print(registry.get('drizzle').family)\n"
        "print(float(registry.get('sepia')(torch.ones(1, 3, 2, 2), 1).mean()))\n",
    )
    assert {"sepia", "drizzle"} <= set(names.split())
    assert names.startswith("gaussian_noise ")
    assert (family, inside, pixel) == ("sepia", "common", "0.5")


@pytest.mark.slow
def test_a_metric(package: Path) -> None:
    printed = lines(
        package,
        "import sys\n"
        "from types import SimpleNamespace\n"
        "from pytest_cliprobust.figures.metrics import METRICS\n"
        "from pytest_cliprobust.gating.reading import parse_thresholds\n"
        "from pytest_cliprobust.gating.vocabulary import direction\n"
        "text = 'schema = 1\\n[[threshold]]\\nmetric = \"agreement\"\\nmin = 0.5\\n'\n"
        "print(len(parse_thresholds(text).rules), direction('agreement'))\n"
        "print(METRICS['agreement_nats'].high, 'torch' in sys.modules)\n"
        "from pytest_cliprobust.engine.evaluation import Evaluation\n"
        "noisy = SimpleNamespace(noise=(0.1, 0.2))\n"
        "floor = Evaluation.noise_floor\n"
        "print(floor(noisy, 'agreement'), floor(noisy, 'agreement_nats'), floor(noisy, 'other'))\n",
    )
    assert printed == ["1 higher", "None False", "0.1 0.2 0.0"]


@pytest.mark.slow
def test_a_layout(package: Path) -> None:
    asked, unknown = lines(
        package,
        "from pytest_cliprobust.datasets.loading import load_dataset\n"
        "from pytest_cliprobust import ClipRobustError\n"
        "print(load_dataset('flat:/data/x', limit=5, size=64).asked)\n"
        "try:\n"
        "    load_dataset('nowhere')\n"
        "except ClipRobustError as error:\n"
        "    print(error)\n",
    )
    assert asked == "('/data/x', 5, None, 64)"
    assert "flat:PATH" in unknown
    assert "imagefolder:PATH" in unknown


@pytest.mark.slow
def test_a_kind_of_model(package: Path, tmp_path: Path) -> None:
    (tmp_path / "echo.json").touch()
    light, prefixed, recognised, folder, plain, empty, names = lines(
        package,
        "import sys\n"
        "from pytest_cliprobust import ClipRobustError\n"
        "from pytest_cliprobust.targets.loading import known_names, load_target\n"
        "def tags(name):\n"
        "    return tuple(load_target(name, device='cpu').info.tags.values())\n"
        "first = tags('echo:7')\n"
        "print(*sorted({'open_clip', 'transformers'} & set(sys.modules)))\n"
        f"print(first, tags('hey!'), tags({str(tmp_path)!r}), tags('silence'), sep='\\n')\n"
        "try:\n"
        "    load_target('echo:')\n"
        "except ClipRobustError as error:\n"
        "    print(error)\n"
        "print(*known_names())\n",
    )
    assert light == ""  # no kind of model imports its library before it is asked for
    assert prefixed == "('7', 'echo:7', 'fp32')"
    assert recognised == "('hey!', 'hey!', 'fp32')"
    assert folder == f"('{tmp_path}', '{tmp_path}', 'fp32')"
    assert plain == "('cpu', '', '')"
    assert empty == "--clip-model echo: names nothing after echo:"
    assert {"hey!", "silence", "reference", "ViT-B-32"} <= set(names.split())
    assert not {"echo:", "echoes"} & set(names.split())


@pytest.mark.slow
def test_a_logger_and_a_pack(package: Path) -> None:
    names, where, libraries, share = lines(
        package,
        "import sys\n"
        "from pytest_cliprobust.reporting.trackers import LOGGERS, Logged, check_loggers\n"
        "print(*LOGGERS)\n"
        "check_loggers(['board'])\n"
        "print(LOGGERS['board'].log(Logged('v1', {})))\n"
        "print({'mlflow', 'wandb', 'torch'} & set(sys.modules))\n"
        "from pytest_cliprobust.gating.reading import parse_thresholds\n"
        "policy = parse_thresholds('schema = 1\\nextends = \"company\"\\n').policy\n"
        "print(policy.churn, policy.inconclusive_share)\n",
    )
    assert {"board", "mlflow", "wandb"} <= set(names.split())
    assert where == "v1 on the board"
    assert libraries == "set()"  # no logger imports its library before it is asked for
    assert share == "0.1 0.1"


def test_a_metric_of_a_users_own(tmp_path: Path) -> None:
    """Registered in a conftest.py or a suite it is known to threshold files, with its range."""
    path = tmp_path / "thresholds.toml"
    figure = Figure("my_share", 0.99, 0.95, 1.0, 50)
    measurement = Measurement("mine", "reference", figure.measured_on(Condition("clean")))
    with METRICS.preserved():
        (before,) = record(path, [measurement], dry_run=True)
        assert "register_metric" in str(before)

        @register_metric("my_share", higher_is_better=False, meaning="mine")
        def my_share() -> None: ...

        (change,) = record(path, [measurement])
        assert change.action == "skipped"  # a bound of 1.03 is one that no share can miss
        low = Figure("my_share", 0.1, 0.05, 0.2, 50).measured_on(Condition("clean"))
        (change,) = record(path, [Measurement("mine", "reference", low)])
        assert (change.bound, change.action) == ("max", "added")
        assert len(load_thresholds(path).rules) == 1
    with pytest.raises(ClipRobustError, match="unknown metric 'my_share'"):
        load_thresholds(path)


@pytest.mark.parametrize(
    ("low", "high", "words"), [(1.0, 1.0, "low 1 is not below high 1"), (2.0, 1.0, "low 2 is not")]
)
def test_a_range_that_is_none(low: float, high: float, words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        register_metric("m", higher_is_better=True, meaning="m", low=low, high=high)
