"""What commands print and write over a made-up history, word for word, as ``commands/`` has it.

See ``tests/records.py``.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import records
from helpers import write_pictures
from history_helpers import keep
from study_helpers import BASE
from whole_runs import BOUNDS, DAY, RUNS, whole

from pytest_cliprobust import cli
from pytest_cliprobust.gating import waivers
from pytest_cliprobust.reporting.json import document
from pytest_cliprobust.results.history import History

pytestmark = pytest.mark.floors

FOLDER = Path(__file__).with_name("commands")

HISTORY = """\
history
history --all
show 1
show last
show 9
compare 1 2
compare 1 2 --all
compare 1 2 --base-model mine --head-model other
compare 1 2 --base-model mine --head-model mine --samples --json out.json
compare 1 2 --base-model mine --head-model mine --all --confidence 0.8 --fail-on-loss
compare 1 1 --fail-on-loss
compare report.json 2 --base-model mine --head-model mine
compare 1 nothing.json
trend accuracy
trend mine
trend other
trend accuracy/accuracy/clean/clean/mine
trend accuracy/*/fog*@3/mine
trend accuracy/accuracy/clean/clean/mine --csv
trend acuracy
explain accuracy/accuracy/clean/fog_3d@3/mine --run 2
explain calibration/nll/*/mine --run 2
explain accuracy/accuracy/clean/clean/* --run 2
explain * --run 2
explain accuracy/accuracy/clean/fog_3d@5/mine --run 2 --thresholds other.toml
explain acuracy/accuracy/clean/clean/mine --run 2
explain accuracy/accuracy/clean/clean/mine --run 5
card 2
card 2 --model other --name owner/model --dataset clean=owner/clean --out card
card 2 --model mine --figures */fog_*,ood/* --dataset near_ood=owner/near --dataset bad
card 2 --model mine --figures */fog_*,ood/* --out few
report 2 1 --out page.html --head-model other
report 2 1 --base-model mine --head-model mine --out page.html
report report.json --out alone.html
tag 2 v2.0 good
tag 2 good --remove
tag 2 7
tag 1 v2.0
anchor 1
anchor 2
history
show anchor
anchor 2 --remove
export 2 one.json --no-samples
prune --keep 3 --dry-run
prune --before 2026-11-26
prune --before yesterday
prune --keep 2
history
"""

OTHERS = """\
init --model ViT-B-32 --data --out new
init --model ViT-B-32 --data --out new
init --model reference --ci gitlab --out lab
perturbations
perturbations nothing
schema extra
models list --match rn50
models list --match nothing-like-it
data list
data check photos
data check clean=photos ood=others
data check manifest:table.csv
data check manifest:table.csv --fast
data check manifest:missing.csv
data check
shape-bias
nothing
show
"""

STUDY = """\
study a.json b.json c.json d.json e.json --no-plots --cards cards.toml --by loss --out made
study a.json b.json --no-plots --out few
study a.json
study a.json b.json --confidence 2
study a.json b.json --by colour --no-plots
"""

#: Commands that list what is registered.
LISTS = ("perturbations", "data list")

#: Files whose text stands in the record, too.
TEXTS = (".md", ".yaml", ".toml", ".csv", ".yml", ".py", ".json", ".ini")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--clip-history=history.sqlite")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(waivers, "today", lambda: DAY)


def files(folder: Path) -> dict[str, str]:
    """Return the texts in a folder; of other files there is the name alone."""
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        if path.suffix in TEXTS
        else ""
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".sqlite"
    }


def said(commands: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """Yield what each command prints, its exit code, and the files that it writes."""
    before = files(folder)
    for line in commands.splitlines():
        capsys.readouterr()
        try:
            code: object = cli.main(shlex.split(line))
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        yield f"$ cliprobust {line}" + (f"    # exit code {code}" if code else "")
        out = printed.out.rstrip()
        if line in LISTS:  # in the order in which the process came to import what they list
            out = "\n".join(sorted(out.splitlines()))
        yield out + "".join(f"\nstderr: {x}" for x in printed.err.splitlines())
        after = files(folder)
        for name, text in after.items():
            if before.get(name) != text or name not in before:
                yield f"--- {name}\n{text if name.count('.json') == 0 else shape(text)}"
        before = after


def shape(text: str, most: int = 60) -> str:
    """Return the beginning of JSON: what is below its first levels is for other records."""
    lines = json.dumps(json.loads(text), indent=0, ensure_ascii=False).splitlines()
    return "\n".join(lines[:most])


def test_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thresholds.toml").write_text(BOUNDS, encoding="utf-8")
    (tmp_path / "other.toml").write_text(
        'schema = 1\n[[threshold]]\nmetric = "accuracy"\nperturbation = "mist"\nmin = 0.2\n',
        encoding="utf-8",
    )
    first = whole({"mine": 0}, written="2026-11-25T12:00:00+0000")
    with History(tmp_path / "history.sqlite", create=True) as history:
        keep(history, first, "v1.0")
        for name in list(RUNS)[:1] + list(RUNS)[3:]:
            keep(history, RUNS[name]())
    (tmp_path / "report.json").write_text(json.dumps(document(first)), encoding="utf-8")
    now = "\n".join(said(HISTORY, tmp_path, capsys))
    records.compare(FOLDER / "history.txt", records.plain(now, tmp_path))


def test_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(tmp_path / "photos", ("cat", "dog"), each=3)
    write_pictures(tmp_path / "others", ("owl",), each=2)
    (tmp_path / "photos" / "cat" / "9.png").write_bytes(b"no picture")
    (tmp_path / "table.csv").write_text(
        "image,label\nphotos/cat/0.png,cat\nphotos/dog/0.png,dog\nphotos/cat/9.png,cat\n"
        "photos/none.png,dog\n",
        encoding="utf-8",
    )
    now = "\n".join(said(OTHERS, tmp_path, capsys))
    records.compare(FOLDER / "others.txt", records.plain(now, tmp_path))


def test_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "a": BASE,
        "b": BASE | {"seed": "1"},
        "c": BASE | {"loss": "sigmoid"},
        "d": BASE | {"loss": "sigmoid", "seed": "1"},
        "e": BASE | {"architecture": "ViT", "fine_tuning": "labels"},
    }
    for number, name in enumerate(facts):
        text = json.dumps(document(whole({name: 8 * number + 1})))
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    lines = [
        f"[model.{model}]\n" + "".join(f'{name} = "{value}"\n' for name, value in own.items())
        for model, own in facts.items()
    ]
    (tmp_path / "cards.toml").write_text("\n".join(lines), encoding="utf-8")
    now = "\n".join(said(STUDY, tmp_path, capsys))
    records.compare(FOLDER / "study.txt", records.plain(now, tmp_path))
