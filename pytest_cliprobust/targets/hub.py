"""Files from the model hub: from the local cache without a network, else downloaded, else one error.

huggingface_hub retries a host that cannot be reached for some 23 seconds a file. One short request of
our own finds that out first.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief

#: Seconds; the second bounds name resolution too, which no HTTP time-out does.
REQUEST_TIMEOUT = 5.0
PROBE_TIMEOUT = 10.0

CHECKPOINT_REMEDY = (
    "give a local checkpoint with --clip-pretrained PATH, or use --clip-model reference"
)
FOLDER_REMEDY = "give a local folder as --clip-model PATH, or use --clip-model reference"


def require_hub(wanted: str, remedy: str = CHECKPOINT_REMEDY) -> None:
    """Return if the model hub answers (any answer will do), within :data:`PROBE_TIMEOUT`.

    Args:
        wanted: what it is needed for, for the message: ``"model 'ViT-B-32/openai'"``.
        remedy: what the user can do instead, for the message.

    Raises:
        Unavailable: no hub in reach, or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import constants, get_session

    failure: list[str] = ["no answer"]

    def probe() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=REQUEST_TIMEOUT)
            failure.clear()
        except Exception as error:  # whatever the HTTP library of the day raises
            failure[0] = brief(error, 80)

    if constants.HF_HUB_OFFLINE:
        failure[0] = "HF_HUB_OFFLINE is set"
    else:
        thread = threading.Thread(target=probe, daemon=True)
        thread.start()
        thread.join(PROBE_TIMEOUT)
    if failure:
        raise Unavailable(
            f"{wanted} is not in the local cache and the model hub cannot be reached "
            f"({failure[0]}); {remedy}"
        )


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
                return Path(hf_hub_download(repository, name))
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
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        try:
            folder = Path(snapshot_download(repository, local_files_only=True))
            if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
                return folder
        except FileNotFoundError:  # LocalEntryNotFoundError, by its base class in all versions
            pass
        require_hub(wanted, remedy)
        folder = Path(snapshot_download(repository, allow_patterns=patterns))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(repository, allow_patterns=[*patterns, "*.bin"])
        return folder
    except ClipRobustError:
        raise
    except Exception as error:
        raise _failed(repository, wanted, error, remedy) from None


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
