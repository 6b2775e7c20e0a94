"""Captions said otherwise: typing mistakes and paraphrases, and what they cost in retrieval.

Both changes are functions of the caption and its id alone, so that two runs see the same texts. A paraphrase
changes the words around what is shown ("a drawing of a dog." becomes "this picture shows a dog."), never what
is shown; of a caption without such a frame it puts one around it. Class names can be mistyped, too: what
classification loses by that is an :func:`~pytest_cliprobust.properties.accuracy.accuracy_drop`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from pytest_cliprobust.figures.bootstrap import paired_drop_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.samples import Captioned
from pytest_cliprobust.figures.taken import takes_samples
from pytest_cliprobust.properties.retrieval import caption_keys, captions_of, retrieval_ranks

#: Words of fewer letters are left alone: a mistake in them often makes another word.
SHORTEST = 4

#: What class names with typing mistakes are called, in place of a perturbation of the pictures.
CLASS_NAME_TYPOS = "class_name_typos"

#: Neighbours on a keyboard.
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

#: What stands before what is shown, in captions of pictures.
_FRAME = re.compile(
    r"^(?:(?:an?|the|this is an?) )?(?:[a-z-]+ )?(?:photo|photograph|picture|image|drawing|illustration|"
    r"icon|cartoon|sketch|painting|clip art) of |^(?:this|that|it) is |^there (?:is|are) ",
    re.IGNORECASE,
)

_FRAMES = ("this picture shows {}", "what can be seen here is {}", "{}, in a picture", "we see {}")


def _number(*key: object) -> int:
    text = "\0".join(map(str, key))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def with_typos(caption: str, name: str, count: int = 1) -> str:
    """Return a caption with ``count`` typing mistakes, each in another word as far as there are as many.

    A mistake is a letter left out, doubled, exchanged with the next, or hit beside (Pruthi et al. 2019).
    First letters stay, and so do words of fewer than :data:`SHORTEST` letters, if there are longer ones.

    Args:
        caption: the text.
        name: its id; what goes wrong is a hash of it.
        count: number of mistakes.
    """
    words = re.findall(r"[A-Za-z]+|[^A-Za-z]+", caption)
    longest = [i for i, word in enumerate(words) if word.isalpha() and len(word) >= SHORTEST]
    able = longest or [i for i, word in enumerate(words) if word.isalpha() and len(word) > 1]
    ranked = sorted(able, key=lambda i: _number(name, "word", i))
    for number in range(count if able else 0):
        place = ranked[number % len(ranked)]
        words[place] = _mistyped(words[place], f"{name}\0{number}")
    return "".join(words)


def _mistyped(word: str, name: str) -> str:
    """Return a word of two letters or more with one mistake; it always differs."""
    kinds = (_left_out, _doubled, _exchanged, _beside)
    first = _number(name, "kind") % len(kinds)
    place = 1 + _number(name, "place") % (len(word) - 1)
    made = (kind(word, place, name) for kind in (*kinds[first:], *kinds[:first]))
    # A letter more is another word always.
    return next(changed for changed in made if changed != word)


def _left_out(word: str, place: int, name: str) -> str:
    return word[:place] + word[place + 1 :] if len(word) > 2 else word


def _doubled(word: str, place: int, name: str) -> str:
    return word[: place + 1] + word[place:]


def _exchanged(word: str, place: int, name: str) -> str:
    return word[:place] + word[place + 1 : place + 2] + word[place] + word[place + 2 :]


def _beside(word: str, place: int, name: str) -> str:
    letter = word[place].lower()
    row = next((keys for keys in _ROWS if letter in keys), "")
    if not row:
        return word
    spot = row.index(letter)
    near = [row[i] for i in (spot - 1, spot + 1) if 0 <= i < len(row)]
    return word[:place] + near[_number(name, "beside") % len(near)] + word[place + 1 :]


def mistyped_phrases(phrases: Sequence[str], class_names: Sequence[str]) -> tuple[str, ...]:
    """Return what fills the templates with a typing mistake in each class name: "an aligator".

    The mistake is a hash of the class name, and stands in it where the phrase holds it, else anywhere in the
    phrase. Classes of one name stay of one name.

    Args:
        phrases: (C,) what fills the templates.
        class_names: (C,) their classes.
    """
    mistyped = []
    for phrase, name in zip(phrases, class_names, strict=True):
        wrong = with_typos(name, name)
        mistyped.append(phrase.replace(name, wrong) if name in phrase else with_typos(phrase, name))
    return tuple(mistyped)


def paraphrased(caption: str, name: str) -> str:
    """Return a caption that says the same in other words around what is shown.

    Args:
        caption: the text.
        name: its id; which words are chosen is a hash of it.
    """
    bare = caption.strip()
    stop = "." if bare.endswith(".") else ""
    bare = bare.removesuffix(".")
    shown = _FRAME.sub("", bare, count=1).removesuffix(" in the scene") or bare
    if shown == bare and shown[:1].isupper() and not shown[:2].isupper():
        shown = shown[:1].lower() + shown[1:]
    frame = _FRAMES[_number(name, "frame") % len(_FRAMES)]
    return frame.replace("{}", shown) + stop


#: Changes of captions, as figures and bounds call them.
CHANGES: Mapping[str, Callable[[str, str], str]] = MappingProxyType(
    {"caption_typos": with_typos, "caption_paraphrase": paraphrased}
)


@register_metric(
    "caption_drop",
    higher_is_better=False,
    meaning="recall at 1, text to image, lost when captions are said otherwise",
    low=-1.0,
)
@takes_samples
def caption_drop(samples: Captioned, change: str) -> Figure:
    """Return ``caption_drop``: text→image recall at 1 lost by a change of the captions.

    In [-1, 1], positive = worse; paired by caption, whose units are those of the images. Each caption is
    changed alone: it competes for the images, not with other captions. Filed under the name of the change.

    Args:
        samples: with captions.
        change: one of :data:`CHANGES`.

    Raises:
        NotRun: the data has no captions.
    """
    hits = []
    for changed in (None, CHANGES[change]):
        features, texts, owner = captions_of(samples, changed)
        _, ranks = retrieval_ranks(features, texts, owner)
        hits.append(ranks <= 1)
    before, after = hits
    bootstrap = samples.bootstrap.of(caption_keys(samples.bootstrap.keys, owner))
    figure = paired_drop_figure(
        "caption_drop",
        before,
        after,
        bootstrap,
        {"recall": float(before.mean()), "changed_recall": float(after.mean())},
    )
    return figure.measured_on(samples.condition.in_other_words(change))
