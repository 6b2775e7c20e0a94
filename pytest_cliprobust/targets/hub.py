"""Files from the model hub: from the local cache without a network, else downloaded, else one error.

huggingface_hub retries a host that cannot be reached for some 23 seconds a file. One short request of
our own finds that out first. It compares the length of what arrives with what was announced, and not the
content: that is done here, with the digests that the hub gives its files by.

Offline mode (``HF_HUB_OFFLINE``), a mirror (``HF_ENDPOINT``), the place of the cache (``HF_HOME``) and tokens
are huggingface_hub's own, and work as everywhere.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief

#: Seconds; the second bounds name resolution too, which no HTTP time-out does.
REQUEST_TIMEOUT = 1.5
PROBE_TIMEOUT = 2.0

#: So many seconds a hub that did not answer is not asked again: each test of a run would wait for it anew.
SILENCE = 60.0

#: When a hub did not answer, and what came instead, by its address.
_silent: dict[str, tuple[float, str]] = {}

#: For a hub that is slow to answer: huggingface_hub's own variable, in seconds.
PATIENCE = "HF_HUB_ETAG_TIMEOUT"

CHECKPOINT_REMEDY = (
    "give a local checkpoint with --clip-pretrained PATH, or use --clip-model reference"
)
DATA_REMEDY = "give a local folder with --clip-data ROLE=LAYOUT:PATH"
FOLDER_REMEDY = "give a local folder as --clip-model PATH, or use --clip-model reference"

Kind = Literal["model", "dataset"]

#: Told how many bytes of how many of a file have arrived.
Told = Callable[[str, int, int], None]

#: Who is told; a single entry, which a session sets. Where it is None huggingface_hub draws bars of its own.
_listeners: list[Told | None] = [None]


def tell_progress_to(told: Told | None) -> None:
    """Let a function be told how far downloads are, in place of huggingface_hub's own bars."""
    _listeners[0] = told


def require_hub(wanted: str, remedy: str = CHECKPOINT_REMEDY) -> None:
    """Return if the model hub answers (any answer will do), within :data:`PROBE_TIMEOUT`.

    Args:
        wanted: what it is needed for, for the message: ``"model 'ViT-B-32/openai'"``.
        remedy: what the user can do instead, for the message.

    Raises:
        Unavailable: no hub in reach, or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants, get_session

    asked, whole = _patience()
    since, reason = _silent.get(constants.ENDPOINT, (-math.inf, "no answer"))
    failure: list[str] = [reason]

    def probe() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=asked)
            failure.clear()
        except Exception as error:  # whatever the HTTP library of the day raises
            failure[0] = brief(error, 80)

    if constants.HF_HUB_OFFLINE:
        failure[0] = "HF_HUB_OFFLINE is set"
    elif time.monotonic() - since > SILENCE:
        failure[0] = "no answer"
        thread = threading.Thread(target=probe, daemon=True)
        thread.start()
        thread.join(whole)
        if failure:
            _silent[constants.ENDPOINT] = (time.monotonic(), failure[0])
    if failure:
        raise Unavailable(
            f"{wanted} is not in the local cache and the model hub cannot be reached "
            f"({failure[0]}); {remedy}"
        )


def _patience() -> tuple[float, float]:
    """Return how many seconds one request, and all of it, may take."""
    with suppress(ValueError):
        own = float(os.environ.get(PATIENCE, ""))
        return own, own + PROBE_TIMEOUT - REQUEST_TIMEOUT
    return REQUEST_TIMEOUT, PROBE_TIMEOUT


def has_folder(repository: str, kind: Kind = "model") -> bool:
    """Return whether the local cache has a folder for a repository: without one, it has nothing of it."""
    from huggingface_hub import constants

    name = f"{kind}s--{repository.replace('/', '--')}"
    return (Path(constants.HF_HUB_CACHE) / name).is_dir()


def hub_file(
    repository: str, names: Sequence[str], wanted: str, remedy: str = CHECKPOINT_REMEDY
) -> Path:
    """Return the local path of the first of ``names`` that ``repository`` holds.

    A file in the cache is taken as it is, without asking the hub for a newer one.

    Raises:
        Unavailable: not cached, and no hub in reach or the download failed.
        ClipRobustError: no such repository, or none of the files.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        for name in names:
            try:
                return Path(hf_hub_download(repository, name, local_files_only=True))
            except LocalEntryNotFoundError:
                continue
        require_hub(wanted, remedy)
        for name in names:
            try:
                return _fetched(repository, name, wanted)
            except LocalEntryNotFoundError:  # a subclass of the next, but it means "no connection"
                raise
            except EntryNotFoundError:
                continue
    except ClipRobustError:
        raise
    except Exception as error:
        raise _failed(repository, wanted, error, remedy) from None
    raise ClipRobustError(
        f"{wanted}: hub repository {repository!r} holds none of {', '.join(names)}; check the name"
    )


def hub_folder(repository: str, wanted: str, remedy: str = FOLDER_REMEDY) -> Path:
    """Return a local folder with the model, tokenizer and configuration files of ``repository``.

    Args:
        repository: ``owner/name``.
        wanted, remedy: as for :func:`require_hub`.

    Raises:
        Unavailable: not cached, and no hub in reach or the download failed.
        ClipRobustError: no such repository.
    """
    folder = _cached(repository)
    if (
        folder is not None
        and (folder / "config.json").is_file()
        and any(folder.glob("*.safetensors"))
    ):
        return folder

    def of_a_model(names: Sequence[str]) -> list[str]:
        small = [n for n in names if _matches(n, ("*.json", "*.txt", "*.model"))]
        weights = [n for n in names if _matches(n, ("*.safetensors",))]
        return small + (weights or [n for n in names if _matches(n, ("*.bin",))])

    return _folder(repository, of_a_model, wanted, remedy)


def hub_data(
    repository: str,
    choose: Callable[[Sequence[str]], list[str]],
    wanted: str,
    remedy: str,
    revision: str | None = None,
) -> Path:
    """Return a local folder with files of a repository of data.

    Args:
        repository: ``owner/name``.
        choose: which of its files, of their names.
        wanted, remedy: as for :func:`require_hub`.
        revision: branch, tag or commit; None for the newest.

    Raises:
        Unavailable: not cached, and no hub in reach or the download failed.
        ClipRobustError: no such repository, or nothing of it was chosen.
    """
    folder = _cached(repository, "dataset", revision)
    if folder is not None and (folder.parent.parent / f"{_WHOLE}{folder.name}").is_file():
        return folder
    folder = _folder(repository, choose, wanted, remedy, "dataset", revision)
    # So that the next run knows, without asking, that nothing is missing.
    with suppress(OSError):
        (folder.parent.parent / f"{_WHOLE}{folder.name}").touch()
    return folder


_WHOLE = ".pytest-cliprobust-"


def _cached(repository: str, kind: Kind = "model", revision: str | None = None) -> Path | None:
    """Return the folder of what is in the cache of a repository, if anything is."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            snapshot_download(repository, repo_type=kind, revision=revision, local_files_only=True)
        )
    except (FileNotFoundError, HFValidationError):  # the first in all versions, by its base class
        return None


def _folder(
    repository: str,
    choose: Callable[[Sequence[str]], list[str]],
    wanted: str,
    remedy: str,
    kind: Kind = "model",
    revision: str | None = None,
) -> Path:
    """Fetch what is chosen of a repository; return the folder that it lies in."""
    from huggingface_hub import HfApi, constants

    require_hub(wanted, remedy)
    try:
        api = HfApi(endpoint=constants.ENDPOINT)
        info: Any = api.repo_info(repository, repo_type=kind, revision=revision)
        chosen = choose(sorted(entry.rfilename for entry in info.siblings or ()))
        # By branch, not by commit: only so does the cache know what the branch stands for.
        places = {name: _fetched(repository, name, wanted, kind, revision) for name in chosen}
    except ClipRobustError:
        raise
    except Exception as error:
        raise _failed(repository, wanted, error, remedy) from None
    if not places:
        raise ClipRobustError(
            f"{wanted}: hub repository {repository!r} holds no file that is looked for; check the name"
        )
    folders = {path.parents[name.count("/")] for name, path in places.items()}
    if len(folders) > 1:
        raise Unavailable(
            f"{wanted}: hub repository {repository!r} changed while it was fetched; run again"
        )
    return folders.pop()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _fetched(
    repository: str,
    name: str,
    wanted: str,
    kind: Kind = "model",
    revision: str | None = None,
) -> Path:
    """Return a file of a repository, downloaded unless it is in the cache, and compared with its digest.

    Raises:
        Unavailable: it arrived damaged; it is removed.
    """
    from huggingface_hub import constants, hf_hub_download

    told = _listeners[0]
    path = Path(
        hf_hub_download(
            repository,
            name,
            repo_type=kind,
            revision=revision,
            endpoint=constants.ENDPOINT,
            tqdm_class=None if told is None else _bar(f"{repository}, {name}", told),
        )
    )
    blob = path.resolve()
    if not _is_whole(blob):
        for damaged in (path, blob):
            with suppress(OSError):
                damaged.unlink()
        raise Unavailable(
            f"{wanted}: {name!r} of hub repository {repository!r} has arrived damaged, as its digest "
            "says, and is removed; run again"
        )
    return path


def _is_whole(blob: Path) -> bool:
    """Return whether a file of the cache has the content that its name promises.

    huggingface_hub calls it by the hub's own digest: sha256 of a large file, which its pointer in the
    repository holds, and git's of a small one. Where the cache has no such names (a disk without links),
    nothing is known.
    """
    known: dict[int, Callable[[], Any]] = {
        64: hashlib.sha256,
        40: lambda: hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False),
    }
    name = blob.name
    if len(name) not in known or set(name) - set("0123456789abcdef"):
        return True
    with blob.open("rb") as file:
        return hashlib.file_digest(file, known[len(name)]).hexdigest() == name


def _bar(what: str, told: Told) -> type[Any]:
    """Return a class of bars for huggingface_hub that draws nothing, and tells how far a file is."""
    base: Any = import_module("huggingface_hub.utils").tqdm

    class Bar(base):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "file": _Nowhere(), "disable": False})

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            told(f"fetching {what}, MB", int(self.n / 1e6), int((self.total or self.n) / 1e6) + 1)

        def close(self) -> None:
            super().close()
            told(f"fetching {what}, MB", 1, 1)

    return Bar


class _Nowhere:
    """A stream that keeps nothing."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Take a text."""
        return len(text)

    def flush(self) -> None:
        """Do nothing."""


def _failed(repository: str, wanted: str, error: Exception, remedy: str) -> ClipRobustError:
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return ClipRobustError(
            f"{wanted}: the model hub has no repository {repository!r} that you may read; check the "
            "name and, if it is private or gated, your hub token"
        )
    return Unavailable(
        f"{wanted}: download from hub repository {repository!r} failed ({brief(error, 120)}); {remedy}"
    )
