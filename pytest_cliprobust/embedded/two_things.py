"""What is said, rightly and wrongly, of a picture of two things side by side.

The false captions (hard negatives) use the words of the true ones, or others as likely, so that a model
cannot tell them by the words alone. Pictures come in pairs in which the things, and their colours, have
changed places: of places and colours each wording is true of one picture and false of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_cliprobust.embedded.captions import CAPTION_TEMPLATES, ordered_templates, phrase
from pytest_cliprobust.embedded.composer import hashed, pick
from pytest_cliprobust.figures.samples import Choice

#: What the false captions get wrong.
KINDS = ("relation", "swap", "object", "attribute", "order", "negation")


@dataclass(frozen=True)
class Thing:
    """One of the things of a picture.

    Attributes:
        article: what goes before the noun: ``"a"``, ``"an"``, ``"a pair of"``.
        label: the noun.
        tint: the colour that it has.
    """

    article: str
    label: str
    tint: str = ""

    @property
    def named(self) -> str:
        """``a dog``, ``a pair of skis``."""
        return phrase(self.article, self.label)

    def coloured(self, tint: str) -> str:
        """Return ``a red dog``, ``a pair of red skis``."""
        article = "a" if self.article == "an" else self.article
        return phrase(article, f"{tint} {self.label}")


def relations(left: Thing, right: Thing) -> tuple[str, str]:
    """Return the two ways to say where they stand."""
    return (
        f"{left.named} to the left of {right.named}",
        f"{right.named} to the right of {left.named}",
    )


def captions_of(pair: str, left: Thing, right: Thing, count: int = 5) -> tuple[str, ...]:
    """Return ``count`` captions that are true of one of the two pictures of a pair, and of no other.

    Args:
        pair: what the two pictures are of, so that they are said in the same words.
        left, right: the things.
        count: at most as many as :data:`~pytest_cliprobust.embedded.captions.CAPTION_TEMPLATES`.
    """
    said = relations(left, right)
    frames = ordered_templates(pair)[:count]
    return tuple(frame.replace("{}", said[i % 2]) for i, frame in enumerate(frames))


def choices_of(pair: str, left: Thing, right: Thing, absent: Thing) -> tuple[Choice, ...]:
    """Return one choice of each of :data:`KINDS` between a true and a false caption.

    ``relation``
        "left" for "right"; the things stay.
    ``swap``
        the two things change places in the sentence.
    ``object``
        one of them is said to be something that the picture does not show.
    ``attribute``
        each has the other's colour.
    ``order``
        the true caption's words in another order (Yuksekgonul et al. 2023).
    ``negation``
        what is denied is there (after NegBench, Alhamoud et al. 2025).

    Args:
        pair: what the two pictures are of; hashed for all that is free, so that both are said alike.
        left, right: the things.
        absent: something that the picture does not show.
    """

    def flip(what: str) -> bool:
        return bool(pick(2, pair, what))

    frame = CAPTION_TEMPLATES[pick(len(CAPTION_TEMPLATES), pair, "choice")]

    def say(text: str) -> str:
        return frame.replace("{}", text)

    # The order of the names is that of the pair, not of the places.
    first, second = sorted((left, right), key=lambda thing: thing.label, reverse=flip("first"))
    side, opposite = ("left", "right") if first is left else ("right", "left")
    where = f"{first.named} to the {side} of {second.named}"
    turned = f"{first.named} to the {opposite} of {second.named}"
    said = relations(left, right)[flip("swap")]
    swapped = relations(right, left)[flip("swap")]
    wrong = (
        f"{absent.named} and {second.named}"
        if flip("object")
        else f"{first.named} and {absent.named}"
    )
    true_caption = say(where)
    return (
        Choice("relation", true_caption, (say(turned),)),
        Choice("swap", say(said), (say(swapped),)),
        Choice("object", say(f"{first.named} and {second.named}"), (say(wrong),)),
        Choice(
            "attribute",
            say(f"{first.coloured(first.tint)} and {second.coloured(second.tint)}"),
            (say(f"{first.coloured(second.tint)} and {second.coloured(first.tint)}"),),
        ),
        Choice("order", true_caption, (shuffled(true_caption, pair),)),
        Choice(
            "negation",
            say(f"{first.named} but no {absent.label}"),
            (say(f"{first.named} but no {second.label}"),),
        ),
    )


def shuffled(caption: str, sample: str) -> str:
    """Return a caption's words in another order, its full stop at the end.

    Raises:
        ValueError: all words are equal, so there is no other order.
    """
    words = caption.removesuffix(".").split()
    if len(set(words)) < 2:
        raise ValueError(f"the words of {caption!r} have one order only")
    mixed, attempt = words, 0
    while mixed == words:
        ranks = [hashed(sample, "order", attempt, i) for i in range(len(words))]
        mixed = [word for _, word in sorted(zip(ranks, words, strict=True))]
        attempt += 1
    return " ".join(mixed) + ("." if caption.endswith(".") else "")
