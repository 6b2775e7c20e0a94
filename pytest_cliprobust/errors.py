"""The exceptions that are told in one line: a user's mistake, and what the environment lacks."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from itertools import islice


class ClipRobustError(Exception):
    """A user mistake or a missing resource, told in one line that names the culprit and the remedy.

    The plugin turns it into a clean exit with code 4 (pytest's usage error), without a traceback.
    The message therefore must stand on its own: what is wrong, where, and what to do. Names of files in it
    may hold what moves a terminal's cursor: as a text it has that escaped.
    """

    def __str__(self) -> str:
        """Return the message, printable."""
        return printable(super().__str__())


class NotRun(ClipRobustError):  # noqa: N818
    """Something that a test needs is not there: an encoder, a depth map.

    The plugin reports the test as not run, in one line, and never as passed; if a bound of the threshold
    file waits for its figure, the test fails.
    """


class Unavailable(ClipRobustError):  # noqa: N818
    """The environment lacks something: memory, room on the disk, the model hub, an encoder.

    No mistake in what the user wrote, and no regression: the plugin ends such a run with a code of its
    own.
    """


class UnreadableSample(ClipRobustError):  # noqa: N818
    """A sample of a data set cannot be read: a damaged picture, a pipe in its place.

    ``--clip-bad-data skip`` leaves it out.

    Args:
        message: as for other errors.
        reason: the same without the path and the remedy, for a list of samples.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = printable(reason)

    def __reduce__(self) -> tuple[type[UnreadableSample], tuple[str, str]]:
        """Return what another process makes the same error of."""
        return type(self), (str(self.args[0]), self.reason)


class UserCodeError(ClipRobustError):
    """Code of the user's own (a perturbation, a layout) raised an error, which is the cause of this one.

    In a test that is a failure of this test; before any test it ends the session as other mistakes do.
    """


#: What libraries say where memory was refused, beside torch's own class for it: the allocator of the CPU
#: (on Linux and Windows), MPS, XPU and HIP, and the libraries for matrices and convolutions.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "OUT_OF_DEVICE_MEMORY",
    "OUT_OF_HOST_MEMORY",
    "_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that there was too little memory, of whichever kind."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


#: Letters that are not shown but do something: controls, formats such as those that turn the direction of
#: writing, and halves of letters (which names of files that are not UTF-8 come as).
_UNSEEN = ("Cc", "Cf", "Cs")


def printable(text: str) -> str:
    """Return a text whose control letters are escaped, ends of lines and tabs aside."""
    if text.isprintable():
        return text
    return "".join(
        ascii(letter)[1:-1]
        if unicodedata.category(letter) in _UNSEEN and letter not in "\n\t"
        else letter
        for letter in text
    )


def one_line(text: str) -> str:
    """Return a text that moves no cursor and begins no line: for names of files and folders."""
    plain = printable(text)
    return "".join(ascii(c)[1:-1] if c in "\n\t\u2028\u2029" else c for c in plain)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest of ``known``, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def first_of(names: Sequence[str], most: int) -> str:
    """Return ``a, b, c and 4 more``: the first ``most`` names, and how many others there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``1 figure`` or ``1,200 figures``; ``many`` where it is not ``one`` with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def brief(error: BaseException, limit: int = 200) -> str:
    """Return the first line of an exception's message, shortened, for one-line errors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = _cut(lines[0].rstrip(".:"), limit) if lines else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shortened(value: object, limit: int = 80) -> str:
    """Return a value as Python writes it, in one line and shortened, for one-line errors."""
    return _cut(" ".join(repr(value).split()), limit)


def as_toml(value: object) -> str:
    """Return a value of a TOML file as the file has it, in one short line: ``true``, ``{ a = 1 }``."""
    return _toml(value, 4)


#: Of a list or table so many entries are shown, and of a text or number so many characters.
_ENTRIES, _LETTERS = 6, 100

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def _toml(value: object, levels: int) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _toml_text(_without_middle(value))
    if isinstance(value, int):
        try:
            return _without_middle(str(value))
        except ValueError:  # a hexadecimal one may be larger than Python writes
            return "an integer of too many digits"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        pairs = [
            f"{_toml_key(key)} = {_toml(one, levels - 1)}" if levels else "…"
            for key, one in islice(value.items(), _ENTRIES)
        ]
        return f"{{ {_joined(pairs, len(value))} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        entries = [_toml(one, levels - 1) if levels else "…" for one in value[:_ENTRIES]]
        return f"[{_joined(entries, len(value))}]"
    return repr(value)


def _joined(told: Sequence[str], count: int) -> str:
    return ", ".join([*told, "…"] if count > len(told) else told)


def _without_middle(text: str) -> str:
    half = _LETTERS // 2 - 1
    return text if len(text) <= _LETTERS else f"{text[:half]}…{text[-half:]}"


def _toml_key(key: object) -> str:
    text = _without_middle(str(key))
    return text if _BARE.fullmatch(text) else _toml_text(text)


def _toml_text(text: str) -> str:
    """Return a text between single quotes, where nothing is escaped, or between double ones if it must."""
    if text.isprintable() and "'" not in text:
        return f"'{text}'"
    return f'"{"".join(map(_toml_letter, text))}"'


def _toml_letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
