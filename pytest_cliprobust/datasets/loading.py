"""From what the user wrote (a name, a prefix and a path, a path) to a data set."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pytest_cliprobust.blame import users_code
from pytest_cliprobust.datasets.base import Dataset, Frame
from pytest_cliprobust.datasets.framing import framing_of
from pytest_cliprobust.datasets.layouts.imagefolder import ImageFolder
from pytest_cliprobust.datasets.registry import LAYOUTS, told_of
from pytest_cliprobust.datasets.roles import EMBEDDED, FLAG
from pytest_cliprobust.datasets.sources import FOLDER, Source
from pytest_cliprobust.datasets.subset import whole_of
from pytest_cliprobust.errors import ClipRobustError, UserCodeError, brief, did_you_mean
from pytest_cliprobust.files import own_name, split_name


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    profile: str = "standard",
    limit: int | None = None,
    frame: Frame | None = None,
    size: int = 224,
) -> Dataset:
    """Return the data set that ``name_or_path`` means.

    Args:
        name_or_path: an embedded data set (``"clean"``, ``"factor-pose"``, or with its prefix,
            ``"embedded:clean"``), a layout and its path (``"imagefolder:/data/imagenet-r"``), or the
            path of an image folder. An embedded name wins over a folder of that name: write
            ``./clean`` for the folder. With ``NAME=`` before it, data of the user's own is called so
            (``imagefolder:NAME``), and else after its folder: its name is never a path.
        profile: ``"quick"``, ``"standard"`` or ``"full"``: how many embedded samples.
        limit: use that many samples at most, a prefix that is balanced over the classes.
        frame: how the model under test brings an image of any size to its frame (see
            :meth:`~pytest_cliprobust.targets.base.Target.frame`); embedded pictures are composed in
            their final size and do not need it.
        size: side of the pictures in pixels: the model's own, so that none is enlarged or reduced twice.
            Embedded pictures have :data:`~.embedded.COMPOSED` at least, for which their perturbations
            are set; a smaller model reduces them itself.

    Raises:
        ClipRobustError: no such data set, profile or folder; the message names the nearest.
        UserCodeError: a layout raises anything else.
    """
    from pytest_cliprobust.datasets import embedded

    given, text = split_name(os.fspath(name_or_path), FLAG)
    prefix, colon, rest = text.partition(":")
    known = embedded.names()
    if (colon and prefix == "embedded") or text in known:
        if given is not None:
            raise ClipRobustError(
                f"data set {text!r} has a name of its own and cannot be called {given!r}; drop {given}="
            )
        name = rest if colon else text
        side = max(size, embedded.COMPOSED)
        return embedded.EmbeddedDataset(name, profile=profile, limit=limit, size=side)
    if colon and prefix in LAYOUTS:
        if not rest:
            raise ClipRobustError(f"data set {text!r} names no folder; write {prefix}:PATH")
        data = _laid_out(prefix, rest, limit=limit, frame=frame, size=size)
        return _called(data, prefix, given, rest)
    path = Path(text).expanduser()
    if path.is_dir() or path.is_absolute() or text.startswith((".", "~")) or os.sep in text:
        folder = ImageFolder(path, limit=limit, frame=frame, size=size, name=given)
        folder.framing = framing_of(frame, size)
        return folder
    prefixes = [f"{layout}:PATH" for layout in LAYOUTS]
    raise ClipRobustError(
        f"unknown data set {text!r}.{did_you_mean(text, known)} Known are the embedded "
        f"{', '.join(known)}; {', '.join(prefixes)}; or the path of an image folder"
    )


def load_source(
    source: Source,
    *,
    profile: str = "standard",
    limit: int | None = None,
    frame: Frame | None = None,
    size: int = 224,
) -> Dataset:
    """Return the data set that a value of ``--clip-data`` names; the rest as for :func:`load_dataset`.

    Raises:
        ClipRobustError: it does not lie there, or is something else.
        UserCodeError: a layout raises anything else.
    """
    if source.layout == EMBEDDED:
        given = "" if source.name is None else f"{source.name}="
        return load_dataset(
            f"{given}embedded:{source.path}", profile=profile, limit=limit, frame=frame, size=size
        )
    data = _laid_out(source.layout, source.path, limit=limit, frame=frame, size=size)
    if source.layout != FOLDER:
        # What a command line calls it: its root need not be the path that was given.
        data.source = f"{source.layout}:{source.path}"  # type: ignore[attr-defined]
    return _called(data, source.layout, source.name, source.path)


def _laid_out(
    layout: str, path: str, *, limit: int | None, frame: Frame | None, size: int
) -> Dataset:
    load = LAYOUTS[layout]
    try:
        with users_code(f"layout {layout!r} on {path!r}"):
            data = load(path, limit=limit, frame=frame, size=size)
    except UserCodeError as error:
        if not load.__module__.startswith(__name__.partition(".")[0]):
            raise
        # The code is ours and has met its forms: what it can't read is damaged, or of another form.
        raise ClipRobustError(
            f"data set {f'{layout}:{path}'!r} cannot be read ({brief(error.__cause__ or error)}); check that "
            f"its files are whole, and as their publisher has them ({told_of(layout).source})"
        ) from error
    with suppress(AttributeError):  # an object of the user's may take no more
        whole_of(data).framing = framing_of(frame, size)  # type: ignore[attr-defined]
    return data


def _called(data: Dataset, layout: str, given: str | None, root: str) -> Dataset:
    """Return a data set whose name holds no path: the same data has one name wherever it lies."""
    name = getattr(data, "name", "")
    if given is not None or str(Path(root).expanduser()) in name.partition(":")[2]:
        data.name = f"{layout}:{given or own_name(root)}"
    return data
