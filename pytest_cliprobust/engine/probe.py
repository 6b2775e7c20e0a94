"""A probe of the model before any figure: the same input gives the same features, whatever the company.

A model that is still in training mode (Dropout, BatchNorm), that returns one row for a batch or the same
row for every picture, gives figures all the same, and wrong ones: its randomness passes for numerical
noise, which widens every interval until nothing fails. So a few pictures and texts of the run go through
it first: together, the same again, and each alone. The result is not cached: no digest of a user's code
shows its mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pytest_cliprobust.blame import told
from pytest_cliprobust.engine.memory import as_out_of_memory
from pytest_cliprobust.engine.texts import TOKENIZER
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.base import Target

PICTURES = 8
"""Pictures of a probe; each goes through the model three times."""

TEXTS = ("a photo of a cat.", "two red cars", "a very long caption", "a drawing of the number 7")

ROUNDING = {"fp32": 2e-3, "fp16": 1e-2, "bf16": 5e-2}
"""How far the unit features of one input may lie apart, by precision.

Measured on eight pictures and texts with the bundled model and with small ViT, ResNet, ConvNeXt, CLIP and
SigLIP towers on a CPU: the same pass again 0 in every precision; alone instead of in company up to 4.4e-7
in fp32, 4.6e-4 in fp16 and 3.2e-3 in bf16 (4, 0.5 and 0.4 machine epsilons). The tolerances leave a
factor of 15 and more for deeper models; fp32 has room for TF32, which has no more bits than fp16 and which
accelerators may use. What they are to catch is larger: see ``tests/engine/test_probe.py``.
"""

CONSTANT = 1e-5
"""Unit features no further apart are the same: rounding in fp32, with room. (In half precision equal inputs
gave equal features to the last bit.)"""

#: Modules that compute something else in training mode.
_MODAL = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def rounding_of(target: Target, precision: str) -> str:
    """Return the precision whose rounding a model's features may show.

    A user's own code may compute in half precision, or quantise by batch, whatever it was asked for.
    """
    return str(getattr(target, "rounding", None) or precision)


def check_target(target: Target, images: Tensor, precision: str) -> int:
    """Raise if a model's features cannot be trusted; return how many pictures went through it.

    Args:
        target: the model.
        images: (B, 3, H, W) in [0, 1] on its device: some pictures that differ.
        precision: of its forward passes.

    Raises:
        ClipRobustError: it returns another number of rows, the same features for different inputs, or
            other features for the same input, again or alone.
    """
    with torch.inference_mode():
        pixels = target.preprocess(images)
        probe = _Probe(target, precision)
        together = probe.check(
            "encode_image", "picture", len(pixels), lambda rows: target.encode_image(pixels[rows])
        )
        if bool((images != images[:1]).any()) and _constant(together):
            raise ClipRobustError(
                f"model {target.info.name!r}: encode_image gives the same features for "
                f"{len(images)} different pictures, so no figure means anything; check its weights, "
                "and that it uses its input"
            )
        together = probe.check(
            "encode_text", "text", len(TEXTS), lambda rows: target.encode_text(list(TEXTS[rows]))
        )
        if _constant(together):
            raise ClipRobustError(
                f"model {target.info.name!r}: encode_text gives the same features for different texts "
                f"({TEXTS[0]!r}, {TEXTS[1]!r}, …); {TOKENIZER}"
            )
    return probe.pictures


def checked_rows(target: Target, method: str, features: Any, count: int) -> Tensor:
    """Return features if they are one row for each of ``count`` inputs.

    Raises:
        ClipRobustError: they are something else.
    """
    wanted = (count, target.embed_dim)
    if not isinstance(features, Tensor) or tuple(features.shape) != wanted:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ClipRobustError(
            f"model {target.info.name!r}: {method} returns {got} for {count} inputs instead of "
            f"{wanted}; it must give one row of features for each"
        )
    return features


class _Probe:
    """The three passes of one model's towers."""

    def __init__(self, target: Target, precision: str) -> None:
        self.target = target
        self.pictures = 0
        self.again = ROUNDING.get(precision, ROUNDING["bf16"])
        self.alone = ROUNDING.get(rounding_of(target, precision), ROUNDING["bf16"])

    def check(
        self, method: str, what: str, count: int, encode: Callable[[slice], Tensor]
    ) -> Tensor:
        """Return features of all inputs together, after comparing them with the other passes."""

        def run(rows: slice) -> Tensor:
            return self._run(method, what, len(range(count)[rows]), lambda: encode(rows))

        everything = slice(0, count)
        together = run(everything)
        again = _apart(together, run(everything))
        if again > self.again:
            raise self._unsteady(f"{method} gives the same {what} other features each time", again)
        alone = torch.cat([run(slice(row, row + 1)) for row in range(count)])
        apart = _apart(together, alone)
        if apart > self.alone:
            told = f"{method} gives a {what} other features alone than in a batch of {count}"
            raise self._unsteady(told, apart)
        return together

    def _run(self, method: str, what: str, count: int, encode: Callable[[], Tensor]) -> Tensor:
        try:
            with as_out_of_memory():
                features = encode()
        except (ClipRobustError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise ClipRobustError(
                f"model {self.target.info.name!r}: {method} fails on {count} {what}"
                f"{'s' if count > 1 else ''} ({told(error)}){_in_training(self.target)}"
            ) from error
        self.pictures += count if method == "encode_image" else 0
        rows = checked_rows(self.target, method, features, count).float().cpu()
        if not bool(torch.isfinite(rows).all()):
            raise ClipRobustError(
                f"model {self.target.info.name!r}: {method} gives NaN or infinite features on a {what}; "
                "check the weights, or try --clip-precision fp32"
            )
        return rows

    def _unsteady(self, told: str, apart: float) -> ClipRobustError:
        remedy = _in_training(self.target) or (
            "; call eval() on its modules after loading, and keep rows independent of each other"
        )
        return ClipRobustError(
            f"model {self.target.info.name!r}: {told} ({apart:.2g} apart){remedy}"
        )


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest distance of two rows."""
    return float((one - other).norm(dim=1).max())


def _constant(features: Tensor) -> bool:
    return len(features) > 1 and _apart(features, features[:1]) <= CONSTANT


def _in_training(target: Target) -> str:
    """Return the remedy, with the first module that is in training mode; empty if none is seen."""
    found = [(name, m) for name, m in _modules(target) if m.training]
    modal = [(name, m) for name, m in found if isinstance(m, _MODAL)]
    if not found:
        return ""
    name, module = (modal or found)[0]
    return f"; {name} ({type(module).__name__}) is in training mode: call eval() after loading it"


def _modules(target: Target) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that a target, or the encoder that it adapts, holds as attributes."""
    for holder in (target, getattr(target, "encoder", None)):
        if isinstance(holder, nn.Module):
            yield from holder.named_modules()
            continue
        for attribute, value in getattr(holder, "__dict__", {}).items():
            if isinstance(value, nn.Module):
                for name, module in value.named_modules():
                    yield ".".join(filter(None, (attribute, name))), module
