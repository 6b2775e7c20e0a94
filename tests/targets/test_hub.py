"""What is fetched from a model hub: once, whole, and from where the user says."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_helpers import COMMIT, Hub, in_reach, serving
from huggingface_hub import constants

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.targets import hub

WEIGHTS = bytes(range(256)) * 4000
FILES = {
    "models/some/model": {
        "config.json": b'{"a": 1}',
        "model.safetensors": WEIGHTS,
        "pytorch_model.bin": b"the same in another form",
        "README.md": b"words",
        "tokenizer/vocab.txt": b"a\nb\n",
    },
    "models/old/model": {"config.json": b"{}", "pytorch_model.bin": WEIGHTS},
    "datasets/some/data": {"train/0.tar": b"0", "test/0.tar": b"1", "a.txt": b"2"},
}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, and an empty cache."""
    with in_reach(FILES, tmp_path / "hub", monkeypatch) as own:
        yield own


def test_a_file_is_fetched_once(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        path = hub.hub_file("some/model", ("absent.bin", "model.safetensors"), "model 'm'")
        assert path.read_bytes() == WEIGHTS
    assert served.fetched("model.safetensors") == 1
    asked = len(served.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.hub_file("some/model", ("model.safetensors",), "model 'm'") == path
    with pytest.raises(Unavailable, match="HF_HUB_OFFLINE is set"):
        hub.hub_file("some/model", ("config.json",), "model 'm'")
    assert len(served.asked) == asked


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_arrives_damaged_is_not_taken(served: Hub, name: str) -> None:
    served.damaged.add(name)
    with pytest.raises(Unavailable, match=rf"^model 'm': '{name}' .* has arrived damaged") as told:
        hub.hub_file("some/model", (name,), "model 'm'")
    assert "\n" not in str(told.value)
    served.damaged.clear()
    assert hub.hub_file("some/model", (name,), "m").read_bytes() == FILES["models/some/model"][name]


def test_a_transfer_that_stops_is_made_whole(served: Hub) -> None:
    served.cut.add("model.safetensors")
    try:
        path = hub.hub_file("some/model", ("model.safetensors",), "model 'm'")
    except Unavailable:  # an older huggingface_hub leaves the rest to the next run
        path = hub.hub_file("some/model", ("model.safetensors",), "model 'm'")
    assert path.read_bytes() == WEIGHTS


def test_a_folder_has_what_a_model_needs_and_no_more(served: Hub) -> None:
    for _ in range(2):
        folder = hub.hub_folder("some/model", "model 'm'")
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
        assert found == {"config.json", "model.safetensors", "tokenizer/vocab.txt"}
        assert folder.name == COMMIT
    assert served.fetched("model.safetensors") == 1
    assert served.fetched("config.json") == 1
    # Where there is no other form, the old one is taken.
    assert (hub.hub_folder("old/model", "m") / "pytorch_model.bin").read_bytes() == WEIGHTS


def test_data_that_is_there_as_a_whole_needs_no_hub(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tests(names: list[str]) -> list[str]:
        return [name for name in names if not name.startswith("train")]

    folder = hub.hub_data("some/data", tests, "data 'd'", "do without")  # type: ignore[arg-type]
    assert (folder / "test" / "0.tar").read_bytes() == b"1"
    assert not (folder / "train").exists()
    asked = len(served.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.hub_data("some/data", tests, "data 'd'", "do without") == folder  # type: ignore[arg-type]
    assert len(served.asked) == asked


def test_data_of_which_a_part_is_missing_is_completed(served: Hub) -> None:
    first = hub.hub_data("some/data", lambda names: ["a.txt"], "d", "r")
    next(
        first.parent.parent.glob(".pytest-cliprobust-*")
    ).unlink()  # as a run that was killed leaves it
    folder = hub.hub_data("some/data", lambda names: list(names), "d", "r")
    assert (folder / "train" / "0.tar").is_file()
    assert served.fetched("a.txt") == 1


@pytest.mark.usefixtures("served")
def test_what_the_hub_has_not_is_one_line() -> None:
    for repository in ("no/such", "not a name"):
        with pytest.raises(ClipRobustError, match=r"has no repository .* that you may read"):
            hub.hub_file(repository, ("config.json",), "model 'm'")
        with pytest.raises(ClipRobustError, match="has no repository"):
            hub.hub_data(repository, lambda names: list(names), "data 'd'", "r")
    with pytest.raises(ClipRobustError, match=r"holds none of a\.bin, b\.bin"):
        hub.hub_file("some/model", ("a.bin", "b.bin"), "model 'm'")
    with pytest.raises(ClipRobustError, match="holds no file that is looked for"):
        hub.hub_data("some/data", lambda names: [], "data 'd'", "r")


def test_a_folder_in_the_cache_is_one_with_configuration_and_weights(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "model.safetensors"):
        hub.hub_file("some/model", (name,), "m")
    folder = hub.hub_folder("some/model", "m")
    assert not (folder / "tokenizer").exists()  # nothing was fetched
    for name in ("config.json", "model.safetensors"):
        content = (folder / name).resolve()
        (folder / name).unlink()
        assert (hub.hub_folder("some/model", "m") / "tokenizer").is_dir()
        (folder / name).unlink()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(Unavailable, match="HF_HUB_OFFLINE is set"):
            hub.hub_folder("some/model", "m")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        (folder / name).symlink_to(content)
    assert served.fetched("model.safetensors") == 1


@pytest.mark.usefixtures("served")
def test_files_of_two_commits_are_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = iter("ab")

    def fetched(repository: str, name: str, *_: object) -> Path:
        return Path("/cache", next(commits), name)

    monkeypatch.setattr(hub, "_fetched", fetched)
    with pytest.raises(Unavailable, match="changed while it was fetched; run again"):
        hub.hub_data("some/data", lambda names: ["a.txt", "test/0.tar"], "d", "r")


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        (hashlib.sha256(b"content").hexdigest(), True),
        (hashlib.sha256(b"other").hexdigest(), False),
        (hashlib.sha1(b"blob 7\0content").hexdigest(), True),  # as git names it
        (hashlib.sha1(b"content").hexdigest(), False),
        ("model.safetensors", True),  # a cache without links: nothing is known
        ("g" * 40, True),
        ("-" * 64, True),
        ("a" * 39, True),
        ("a" * 41, True),
    ],
)
def test_a_name_that_is_a_digest_promises_the_content(
    name: str, whole: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"content")
    assert hub._is_whole(tmp_path / name) == whole


def test_progress_in_megabytes() -> None:
    """The last one has begun until the file is closed."""
    told: list[tuple[str, int, int]] = []
    bar = hub._bar("a file", lambda *line: told.append(line))
    one = bar(total=3_500_000)
    for step in (400_000, 1_800_000, 1_300_000):
        one.update(step)
    one.close()
    what = "fetching a file, MB"
    assert told == [(what, 0, 4), (what, 2, 4), (what, 3, 4), (what, 1, 1)]
    told.clear()
    bar(total=None).update(2_500_000)
    assert told[0] == (what, 2, 3)


@pytest.mark.usefixtures("served")
def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(hub, "_listeners", [None])
    hub.tell_progress_to(lambda *line: told.append(line))
    hub.hub_file("some/model", ("model.safetensors",), "model 'm'")
    assert told
    assert {what for what, _, _ in told} == {"fetching some/model, model.safetensors, MB"}
    assert all(done <= total for _, done, total in told)
    assert told[-1][1] == told[-1][2]


def test_no_answer_is_waited_for_less_than_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hub.PATIENCE, raising=False)
    assert max(hub._patience()) < 3
    monkeypatch.setenv(hub.PATIENCE, "30")
    assert hub._patience() == (30, 30.5)
    monkeypatch.setenv(hub.PATIENCE, "a while")
    assert max(hub._patience()) < 3


def test_a_mirror_is_asked_in_place_of_the_hub(tmp_path: Path) -> None:
    code = (
        "from pytest_cliprobust.targets.hub import hub_file\n"
        "print(hub_file('some/model', ('config.json',), 'm').read_text())"
    )
    with serving(FILES) as own:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_ENDPOINT": own.address,
            "HF_HOME": str(tmp_path),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
    assert done.stdout.strip() == '{"a": 1}'


def test_a_hub_that_does_not_answer_is_not_waited_for_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every test of a role would wait for it, one after the other."""
    asked: list[str] = []

    class Session:
        def head(self, address: str, timeout: float) -> None:
            asked.append(address)
            raise OSError("nobody there")

    monkeypatch.setattr(hub, "_silent", {})
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://one")
    for _ in range(2):  # in the same words, so that a run tells of it once
        with pytest.raises(Unavailable, match=r"cannot be reached \(OSError: nobody there\)"):
            hub.require_hub("data set 'x'")
    assert asked == ["http://one"]
    monkeypatch.setattr(constants, "ENDPOINT", "http://other")
    with pytest.raises(Unavailable):
        hub.require_hub("data set 'x'")
    # After a minute it may be back.
    monkeypatch.setattr("time.monotonic", lambda: 5000.0)
    monkeypatch.setattr(
        hub, "_silent", {"http://one": (4940.0, "busy"), "http://other": (4939.0, "busy")}
    )
    for address, reason in (("http://one", "busy"), ("http://other", "OSError: nobody there")):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        with pytest.raises(Unavailable, match=reason):
            hub.require_hub("data set 'x'")
    assert asked == ["http://one", "http://other", "http://other"]


def test_the_hubs_own_words_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def head(self, address: str, timeout: float) -> None:
            raise OSError("x" * 200)

    monkeypatch.setattr(hub, "_silent", {})
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(Unavailable, match=r"\(OSError: x{79}…\); do without"):
        hub.require_hub("data set 'x'", "do without")
    told = hub._failed("a/b", "data set 'x'", OSError("x" * 200), "do without")
    assert f"failed (OSError: {'x' * 119}…); do without" in str(told)
    assert isinstance(told, Unavailable)
