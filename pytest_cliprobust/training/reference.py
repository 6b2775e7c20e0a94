"""Trains the bundled reference CLIP: ``python -m pytest_cliprobust.training.reference``.

A small CLIP (an ordinary open_clip configuration) is trained contrastively on the training styles of
the sprites, with every trained name as a caption in varied templates. The evaluation styles (see
``styles.toml``) and the out-of-distribution names are never seen.

The training is deterministic for a given seed and number of threads, resumes from its last
checkpoint, and writes an open_clip folder: ``open_clip_config.json``, ``open_clip_model.safetensors``
(half precision), ``merges.txt.gz`` (the first merges of CLIP's own byte-pair vocabulary, so that the
token table stays small) and ``model_card.json``.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import hashlib
import json
import math
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import pytest_cliprobust.embedded
from pytest_cliprobust.embedded import procedural
from pytest_cliprobust.embedded.captions import TRAINING_TEMPLATES
from pytest_cliprobust.figures.intervals import wilson

MERGES = 6000
"""Number of byte-pair merges kept of CLIP's 48,894."""

CONTEXT = 24
"""Tokens of a caption."""

BACKGROUNDS = 1536
"""Procedural pictures behind the sprites, a multiple of 64."""

CHECKPOINT_STEPS = 250
"""Steps between two checkpoints, each with a validation and a model folder."""

DATA = Path(pytest_cliprobust.embedded.__path__[0]) / "data"


class Augmentation(Protocol):
    """Makes pictures (B, 3, s, s) in [0, 1] of the sprites at ``indices`` (B,)."""

    def __call__(
        self, indices: Tensor, generator: torch.Generator, strength: float = 1.0
    ) -> Tensor:
        """Return them; ``strength`` from 0 to 1 scales how far they are changed."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the outcome of a training run.

    Attributes:
        steps: optimiser steps.
        horizon: steps after which the cosine schedule would reach zero.
        cooldown: steps at the end over which the rate falls from the cosine to zero on a line.
        batch_size: sprites a step.
        learning_rate: peak of the schedule (AdamW).
        weight_decay: of the matrices; vectors are exempt.
        warmup: steps of linear warm-up.
        seed: of initialisation, order and augmentation.
        loss: ``softmax`` (CLIP; Radford et al. 2021) or ``sigmoid`` (SigLIP; Zhai et al. 2023).
        fraction: share of the sprites used, for the training-set-size sibling.
        tower: timm name of the image tower (average pooling, linear projection).
        label_share: share of each batch drawn from the label classes' sprites.
        image_size: pixels.
        ema: decay of the averaged weights that are shipped.
        mix_style: share of the batches whose early channel statistics are mixed between samples.
        ramp: steps over which augmentation grows from mild to full strength.
        small_steps: steps, at the beginning, that see pictures of 4/5 of the size.
    """

    steps: int = 6000
    horizon: int = 11000
    cooldown: int = 2000
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 200
    seed: int = 0
    loss: str = "softmax"
    fraction: float = 1.0
    tower: str = "ese_vovnet19b_slim"
    label_share: float = 0.65
    image_size: int = 80
    ema: float = 0.999
    mix_style: float = 0.5
    ramp: int = 4400
    small_steps: int = 4000

    merges: ClassVar[int] = MERGES
    workers: ClassVar[int] = 1

    def model_config(self) -> dict[str, Any]:
        """Return the open_clip model configuration (``model_cfg``) that is trained."""
        return {
            "embed_dim": 256,
            "vision_cfg": {
                "image_size": self.image_size,
                "timm_model_name": self.tower,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "linear",
                "timm_proj_bias": True,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": 512 + self.merges + 2,
                "width": 128,
                "heads": 4,
                "layers": 2,
            },
        }

    def clip(self) -> CLIP:
        """Return the model, as it is before its training."""
        bias = {"init_logit_bias": -6.0} if self.loss == "sigmoid" else {}
        return CLIP(**copy.deepcopy(self.model_config()), init_logit_scale=math.log(15), **bias)

    def training(self, material: Material) -> Training:
        """Return the model with what its training on ``material`` needs."""
        return Training(self.clip(), len(material.names), mix_style=self.mix_style)

    def augmentation(self, material: Material) -> Augmentation:
        """Return what makes pictures of the sprites of ``material``."""
        return SpriteAugmentation(material.archive.images, material.backgrounds, self.image_size)

    def rows(self, archive: Archive) -> Tensor:
        """Return which sprites of ``archive`` are used, in order: all, or the ``fraction``."""
        count = len(archive.names)
        if self.fraction >= 1:
            return torch.arange(count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        return order[: int(count * self.fraction)].sort().values


def write_merges(path: Path, count: int = MERGES) -> None:
    """Write the first ``count`` merges of CLIP's vocabulary, in the format of the original."""
    with gzip.open(default_bpe()) as original:
        lines = original.read().decode("utf-8").split("\n")
    payload = "\n".join(lines[: 1 + count]).encode("utf-8")
    with open(path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as file:
        file.write(payload)


class SpriteAugmentation:
    """Batched scenes for training: sprites under random transforms over procedural backgrounds.

    Sprites are composed at twice the image size and averaged down, so that thin lines do not alias.
    """

    def __init__(self, sprites: Tensor, backgrounds: Tensor, image_size: int) -> None:
        self.sprites = sprites  # (N, 4, S, S) uint8, straight alpha
        self.backgrounds = backgrounds  # (M, 3, s, s) float
        self.size = image_size

    def __call__(
        self, indices: Tensor, generator: torch.Generator, strength: float = 1.0
    ) -> Tensor:
        """Return (B, 3, s, s) floats in [0, 1] for the sprites at ``indices`` (B,).

        ``strength`` from 0 to 1 scales how far, and how often, pictures are changed.
        """
        count, size = len(indices), self.size

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator)

        def between(low: float, high: float) -> Tensor:
            return rand(count) * (high - low) + low

        def spread(reach: float) -> Tensor:
            return (rand(count) * 2 - 1) * (reach * strength)

        def sometimes(share: float, *shape: int) -> Tensor:
            return rand(count, *shape) < share * strength

        rgba = self.sprites[indices].float() / 255
        colour, alpha = rgba[:, :3], rgba[:, 3:]
        scale = between(0.4, 0.8)
        extreme = between(0.2, 1.1)
        scale = torch.where(sometimes(0.15), extreme, scale)
        angle = torch.where(sometimes(0.15), spread(1.2), spread(0.25))
        flip = torch.where(rand(count) < 0.5, -1.0, 1.0)
        shear, aspect = spread(0.25), torch.exp(spread(0.3))
        # Turned about an upright axis as well as in the plane.
        aspect = aspect * torch.where(sometimes(0.1), between(0.5, 0.8), torch.ones(()))
        room = (1 - scale * 0.7).clamp(min=0.1)
        shift = torch.stack([between(-1, 1) * room * 0.5, between(-1, 1) * room * 0.5], 1)
        cos, sin = angle.cos(), angle.sin()
        forward = torch.stack(
            [
                torch.stack([cos * flip * aspect, -sin + shear], 1),
                torch.stack([sin * flip, cos / aspect], 1),
            ],
            1,
        ) * scale.view(-1, 1, 1)
        inverse = torch.linalg.inv(forward)
        theta = torch.cat([inverse, -(inverse @ shift[..., None])], 2)
        grid = F.affine_grid(theta, [count, 4, 2 * size, 2 * size], align_corners=False)
        # Drawings of one thing differ in their proportions: a smooth random deformation, in units of
        # the sprite.
        bend = (rand(count, 2, 5, 5) * 2 - 1) * (between(0.0, 0.16) * strength).view(-1, 1, 1, 1)
        field = F.interpolate(bend, size=grid.shape[1:3], mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
        premultiplied = torch.cat([colour * alpha, alpha], 1)
        layer = F.grid_sample(premultiplied, grid, align_corners=False)
        layer = F.avg_pool2d(layer, 2)
        if bool(rand(1) < 0.3 * strength):  # soft pictures, as a strong down-scaling gives
            layer = F.avg_pool2d(F.pad(layer, (1, 1, 1, 1)), 3, 1)
        alpha = layer[:, 3:]
        colour = self._jitter(layer[:, :3] / alpha.clamp(min=1e-3), rand, strength) * alpha

        chosen = torch.randint(len(self.backgrounds), (count,), generator=generator)
        background = self.backgrounds[chosen]
        background = torch.where(rand(count, 1, 1, 1) < 0.5, background, background.flip(-1))
        plain = rand(count, 3, 1, 1).expand_as(background)
        background = torch.where(rand(count, 1, 1, 1) < 0.15, plain, background)
        shadow = F.avg_pool2d(F.pad(alpha, (2, 2, 2, 2)), 5, 1)
        shadow = torch.roll(shadow, shifts=(3, 2), dims=(2, 3)) * (rand(count, 1, 1, 1) * 0.6)
        background = background * (1 - shadow * (rand(count, 1, 1, 1) < 0.6))
        # Soft shading across the thing, as the composer's relief gives.
        slope = (rand(count, 2, 1, 1) * 2 - 1) * (0.25 * strength)
        ticks = (torch.arange(size) + 0.5) / size - 0.5
        light = 1 + slope[:, :1] * ticks.view(1, 1, 1, -1) + slope[:, 1:] * ticks.view(1, 1, -1, 1)
        image = colour * light + background * (1 - alpha)
        image = self._occlude(image, rand, 0.2 * strength)
        gain = torch.exp(spread(0.35)).view(-1, 1, 1, 1)
        lift = spread(0.1).view(-1, 1, 1, 1)
        noise = torch.randn(image.shape, generator=generator) * (
            spread(0.08).clamp(min=0).view(-1, 1, 1, 1)
        )
        return (image * gain + lift + noise).clamp(0, 1)

    def _jitter(self, colour: Tensor, rand: Any, strength: float) -> Tensor:
        """Turn the hue, saturation and lightness of the drawings; sometimes drop or invert them."""
        count = len(colour)
        grey = colour.mean(1, keepdim=True)
        chroma = colour - grey
        # A rotation about the grey axis turns the hue (Rodrigues' formula).
        strong = rand(count) < 0.15 * strength
        angle = (rand(count) * 2 - 1) * torch.where(strong, math.pi, 0.25 * strength)
        cos, sin = angle.cos().view(-1, 1, 1, 1), angle.sin().view(-1, 1, 1, 1)
        cross = (chroma.roll(1, 1) - chroma.roll(-1, 1)) / math.sqrt(3)
        saturation = 1 + (rand(count, 1, 1, 1) * 1.2 - 0.7) * strength
        saturation = saturation * (rand(count, 1, 1, 1) > 0.15 * strength)
        contrast = 1 + (rand(count, 1, 1, 1) * 0.6 - 0.3) * strength
        out = (grey - 0.5) * contrast + 0.5 + (chroma * cos + cross * sin) * saturation
        tint = rand(count, 3, 1, 1)
        mixed = torch.where(rand(count, 1, 1, 1) < 0.08 * strength, out * 0.35 + tint * 0.65, out)
        inverted = torch.where(rand(count, 1, 1, 1) < 0.05 * strength, 1 - mixed, mixed)
        return inverted.clamp(0, 1)

    def _occlude(self, image: Tensor, rand: Any, share: float) -> Tensor:
        """Cover a random rectangle of a ``share`` of the images (Zhong et al. 2020)."""
        count, size = len(image), self.size
        side = rand(count, 2) * 0.25 + 0.1
        corner = rand(count, 2) * (1 - side)
        ticks = (torch.arange(size) + 0.5) / size
        rows = (ticks > corner[:, :1]) & (ticks < (corner + side)[:, :1])
        columns = (ticks > corner[:, 1:]) & (ticks < (corner + side)[:, 1:])
        patch = (rows[:, :, None] & columns[:, None, :])[:, None]
        patch = patch & (rand(count, 1, 1, 1) < share)
        return torch.where(patch, rand(count, 3, 1, 1), image)


def contrastive_loss(
    image: Tensor, text: Tensor, targets: Tensor, scale: Tensor, bias: Tensor | None
) -> Tensor:
    """Return the symmetric contrastive loss of B images against the C captions of their names.

    Several images of a batch may share a caption, so text→image has soft targets: all of them.
    ``image`` (B, D) and ``text`` (C, D) are normalised, ``targets`` (B,) name indices.
    """
    logits = scale * image @ text.T
    onehot = F.one_hot(targets, len(text)).to(logits)
    if bias is not None:
        return -F.logsigmoid((2 * onehot - 1) * (logits + bias)).sum() / len(image)
    forward = F.cross_entropy(logits, targets, label_smoothing=0.05)
    backward = F.cross_entropy(logits.T, (onehot / onehot.sum(0)).T)
    return forward + 0.5 * backward


class MixStyle(torch.nn.Module):
    """Mixes each sample's channel statistics with another's (Zhou et al., ICLR 2021).

    Channel means and deviations of early features carry the drawing style; mixing them makes styles
    that no set has. Used as a forward hook, in training only, so that the weights' layout stays that of
    the tower.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def __call__(self, module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Return ``output`` (B, C, H, W) in mixed styles, in ``share`` of the calls."""
        if not module.training or float(torch.rand(())) >= self.share:
            return output
        x = output.float()
        mean, deviation = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True) + 1e-5
        normal = (x - mean.detach()) / deviation.detach()
        order = torch.randperm(len(x), device=x.device)
        beta = torch.distributions.Beta(0.3, 0.3).sample((len(x), 1, 1, 1)).to(x)
        mixed_mean = beta * mean.detach() + (1 - beta) * mean.detach()[order]
        mixed = beta * deviation.detach() + (1 - beta) * deviation.detach()[order]
        return (normal * mixed + mixed_mean).to(output.dtype)


class Batches(IterableDataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """The training batches from ``start`` on, each a pure function of the seed and its step.

    A resumed run therefore draws what an uninterrupted one would have drawn, and a worker process may
    compose the pictures while the towers train.
    """

    def __init__(
        self,
        config: TrainingConfig,
        start: int,
        rows: Tensor,
        weights: Tensor,
        targets: Tensor,
        tokens: Tensor,
        augmentation: Augmentation,
    ) -> None:
        self.config, self.start = config, start
        self.rows, self.weights, self.targets, self.tokens = rows, weights, targets, tokens
        self.augmentation = augmentation

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield pixels (B, 3, s, s), captions (C, context), names (C,), positions (B,) in them."""
        config = self.config
        for step in range(self.start, config.steps):
            generator = torch.Generator().manual_seed(config.seed * 10**9 + step)
            chosen = torch.multinomial(self.weights, config.batch_size, True, generator=generator)
            rows = self.rows[chosen]
            # From mild to full strength: at full strength from the start, nothing is learned for long.
            ramp = min(1.0, 0.2 + 0.8 * step / config.ramp)
            pixels = normalise(self.augmentation(rows, generator, ramp))
            if step < config.small_steps:
                small = config.image_size * 4 // 5
                pixels = F.interpolate(
                    pixels,
                    size=(small, small),
                    mode="bilinear",
                    antialias=True,
                    align_corners=False,
                )
            # As in CLIP the negatives are the other captions of the batch, each name once.
            present, positions = torch.unique(self.targets[rows], return_inverse=True)
            template = torch.randint(len(self.tokens), (len(present),), generator=generator)
            yield pixels, self.tokens[template, present], present, positions


class Training(torch.nn.Module):
    """The CLIP, and what only its training needs.

    Two aids keep so small a run from collapsing onto one direction (measured: without them, loss stays
    at chance for 250 steps): image features are whitened per dimension by a batch norm without
    parameters, which :meth:`folded` folds into the projection, and a linear classifier of the names
    on the trunk's pooled features beside the contrastive loss, thrown away afterwards.
    """

    def __init__(
        self, clip: CLIP, names: int, embed_dim: int = 256, mix_style: float = 0.0
    ) -> None:
        super().__init__()
        self.clip = clip
        if mix_style:
            trunk = clip.visual.trunk
            first, second = (level["module"] for level in trunk.feature_info[:2])
            # The whole stem ("stem.1" → "stem"), and the first stage after it.
            for name in (first.partition(".")[0], second):
                trunk.get_submodule(name).register_forward_hook(MixStyle(mix_style))
        self.norm = torch.nn.BatchNorm1d(embed_dim, affine=False)
        self.classifier = torch.nn.Linear(clip.visual.trunk.num_features, names)

    def folded(self) -> CLIP:
        """Return a copy of the CLIP on the CPU that needs no batch norm after its projection."""
        clip = copy.deepcopy(self.clip).cpu().eval()
        projection = clip.visual.head.proj
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = (variance + self.norm.eps).rsqrt().cpu()
        with torch.no_grad():
            projection.bias.copy_((projection.bias - mean.cpu()) * scale)
            projection.weight.mul_(scale[:, None])
        return clip

    def loss(self, pixels: Tensor, captions: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Return the loss of B images against the C captions of the names ``present`` (C,)."""
        # bfloat16 has the range of single precision, and halves the time of a convolution.
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16):
            trunk = self.clip.visual.trunk(pixels)
        trunk = trunk.float()
        image = F.normalize(self.norm(self.clip.visual.head(trunk)), dim=-1)
        text = F.normalize(self.clip.encode_text(captions), dim=-1)
        scale = self.clip.logit_scale.exp()
        contrastive = contrastive_loss(image, text, positions, scale, self.clip.logit_bias)
        return contrastive + F.cross_entropy(
            self.classifier(trunk), present[positions], label_smoothing=0.05
        )


class Archive:
    """The sprites that ``embedded.build`` wrote for training or validation."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SystemExit(
                f"{path} is missing: run `python -m pytest_cliprobust.embedded.build --work "
                f"{path.parent}` first"
            )
        data = np.load(path, allow_pickle=False)
        self.images = torch.from_numpy(data["image"]).permute(0, 3, 1, 2).contiguous()
        self.names: list[str] = data["name"].tolist()
        self.styles: list[str] = data["style"].tolist()
        self.phrases: dict[str, str] = {
            name: f"{article} {caption}".strip()
            for name, article, caption in zip(
                self.names, data["article"].tolist(), data["caption"].tolist(), strict=True
            )
        }


def validate(
    model: CLIP, tokenizer: Any, archive: Archive, backgrounds: Tensor, size: int
) -> dict[str, dict[str, float]]:
    """Return zero-shot top-1 on the held-out sprites, upright over backgrounds, per style and all.

    Each with the ends of its 95% Wilson interval and its number of sprites.
    """
    names = sorted(set(archive.names))
    labels = torch.tensor([names.index(name) for name in archive.names])
    rgba = F.interpolate(archive.images.float() / 255, size=(int(size * 0.7),) * 2, mode="area")
    pad = (size - rgba.shape[-1]) // 2
    rgba = F.pad(rgba, (pad, size - rgba.shape[-1] - pad) * 2)
    under = backgrounds[torch.arange(len(rgba)) % len(backgrounds)]
    images = rgba[:, :3] * rgba[:, 3:] + under * (1 - rgba[:, 3:])
    model.eval()
    with torch.inference_mode():
        head = torch.stack(
            [
                F.normalize(
                    model.encode_text(tokenizer([t.format(archive.phrases[n]) for n in names]))
                )
                for t in TRAINING_TEMPLATES[:4]
            ]
        ).mean(0)
        features = model.encode_image(normalise(images))
        hits = ((features @ head.T).argmax(1) == labels).numpy()
    styles = np.array(archive.styles)
    return {"all": share_of(hits)} | {
        style: share_of(hits[styles == style]) for style in sorted(set(archive.styles))
    }


def share_of(hits: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the share of ``hits`` (N,), the ends of its 95% Wilson interval, and N."""
    interval = wilson(int(hits.sum()), len(hits))
    return {
        "value": float(hits.mean()),
        "low": interval.low,
        "high": interval.high,
        "n": len(hits),
    }


def benchmark(folder: Path) -> dict[str, dict[str, float]]:
    """Return the zero-shot top-1 of the model in ``folder`` on the composed clean set, as is shipped.

    The standard profile; per held-out style and all.
    """
    # The evaluation stands above this module in the data flow; it is needed at the very end only.
    from pytest_cliprobust.engine.evaluation import Evaluation, RunConfig

    evaluation = Evaluation(RunConfig(models=(str(folder),)), str(folder))
    clean = evaluation.on("clean")
    hits, styles = clean.correct, np.array(clean.groups["style"])
    return {"all": share_of(hits)} | {
        style: share_of(hits[styles == style]) for style in sorted(set(styles.tolist()))
    }


def normalise(images: Tensor) -> Tensor:
    """Apply the mean and standard deviation of the preprocessing configuration."""
    return (images - 0.5) / 0.25


@dataclass(frozen=True)
class Material:
    """What a run learns from and is looked at with.

    Attributes:
        archive: the sprites for training.
        heldout: those for validation.
        names: everything that is trained, in order; its position is its number.
        rows: which sprites of the archive are used (N,).
        weights: how often each of them is drawn (N,).
        backgrounds: pictures to stand before (M, 3, s, s).
        tokenizer: of the captions.
        work: the folder that the archives lie in.
    """

    archive: Archive
    heldout: Archive
    names: list[str]
    rows: Tensor
    weights: Tensor
    backgrounds: Tensor
    tokenizer: SimpleTokenizer
    work: Path

    @classmethod
    def load(cls, config: TrainingConfig, work: Path, merges: Path) -> Material:
        """Return the material in the folder ``work``; ``merges`` is the vocabulary's file."""
        archive = Archive(work / "training_sprites.npz")
        heldout = Archive(work / "heldout_sprites.npz")
        rows = config.rows(archive)
        return cls(
            archive=archive,
            heldout=heldout,
            names=sorted(set(archive.names)),
            rows=rows,
            weights=draw_weights([archive.names[i] for i in rows.tolist()], heldout.names, config),
            backgrounds=backgrounds(config.image_size),
            tokenizer=SimpleTokenizer(bpe_path=str(merges), context_length=CONTEXT),
            work=work,
        )

    def batches(self, config: TrainingConfig, start: int) -> Batches:
        """Return the training batches from step ``start`` on."""
        position = {name: number for number, name in enumerate(self.names)}
        phrases = self.archive.phrases
        tokens = torch.stack(
            [
                self.tokenizer([template.format(phrases[name]) for name in self.names])
                for template in TRAINING_TEMPLATES
            ]
        )  # (templates, names, context)
        return Batches(
            config,
            start,
            self.rows,
            self.weights,
            torch.tensor([position[name] for name in self.archive.names]),
            tokens,
            config.augmentation(self),
        )


def draw_weights(names: Sequence[str], labels: Iterable[str], config: TrainingConfig) -> Tensor:
    """Return how often each sprite is drawn (N,): ``label_share`` of a batch has a name of ``labels``."""
    known = set(labels)
    is_label = torch.tensor([name in known for name in names]).double()
    share = config.label_share if bool((is_label == 0).any()) else 1.0
    others = (1 - is_label) * ((1 - share) / (1 - is_label).sum().clamp(min=1))
    return is_label * (share / is_label.sum()) + others


def backgrounds(size: int) -> Tensor:
    """Return :data:`BACKGROUNDS` procedural pictures (M, 3, size, size)."""
    starts = range(10**6, 10**6 + BACKGROUNDS, 64)
    return torch.cat([procedural.backgrounds(torch.arange(i, i + 64), size, size) for i in starts])


class Course:
    """What changes in the course of a training: the towers, their running average, the optimiser.

    Args:
        config: of the run.
        material: that it learns from.
    """

    def __init__(self, config: TrainingConfig, material: Material) -> None:
        self.config = config
        training = config.training(material)
        training.clip.visual.to(memory_format=torch.channels_last)
        self.device = torch.device("cpu")
        if torch.accelerator.is_available():
            self.device = torch.accelerator.current_accelerator() or self.device
        self.training = training.to(self.device)
        self.averaged = copy.deepcopy(self.training).eval().requires_grad_(False)
        self.optimiser = optimiser_of(self.training, config.learning_rate, config.weight_decay)

    def advance(self, step: int, batch: Iterable[Tensor]) -> float:
        """Take a step on a batch of :class:`Batches`, and return the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step)
        pixels, captions, present, positions = (part.to(self.device) for part in batch)
        torch.manual_seed(self.config.seed * 10**9 + step)  # mixed styles
        self.training.train()
        loss = self.training.loss(
            pixels.to(memory_format=torch.channels_last), captions, present, positions
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.training.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.training.clip.logit_scale.clamp_(0, math.log(100))
            self._average(min(self.config.ema, (1 + step) / (10 + step)))
        return loss.item()

    def _average(self, decay: float) -> None:
        """Move the running average towards the towers; what counts is copied."""
        now = self.training.state_dict().values()
        for mean, value in zip(self.averaged.state_dict().values(), now, strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def save(self, path: Path, steps_done: int) -> None:
        """Write a checkpoint, in one step."""
        write_checkpoint(path, self._parts(), steps_done)

    def resume(self, path: Path) -> int:
        """Take up a checkpoint if there is one, and return the number of steps done."""
        return take_up(path, self._parts())

    def _parts(self) -> dict[str, Any]:
        return {"model": self.training, "averaged": self.averaged, "optimiser": self.optimiser}


def optimiser_of(
    model: torch.nn.Module, learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return AdamW over a model's parameters; vectors do not decay."""
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98))


def write_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Write a file of torch, in one step."""
    partial = path.with_suffix(".part")
    torch.save(dict(state), partial)
    partial.replace(path)


def write_checkpoint(path: Path, parts: Mapping[str, Any], steps_done: int) -> None:
    """Write the states of ``parts`` (modules, the optimiser) and the number of steps, in one step."""
    states = {name: part.state_dict() for name, part in parts.items()}
    write_tensors(path, {**states, "step": steps_done})


def take_up(path: Path, parts: Mapping[str, Any]) -> int:
    """Load the states of ``parts`` if there is a checkpoint, and return the number of steps done."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def train(config: TrainingConfig, work: Path, out: Path) -> dict[str, Any]:
    """Train, write the open_clip folder ``out`` and return the model card."""
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    write_merges(out / "merges.txt.gz", config.merges)
    material = Material.load(config, work, out / "merges.txt.gz")
    course = Course(config, material)
    checkpoint = work / f"checkpoint-{digest_of(config)}.pt"
    start = course.resume(checkpoint)
    batches = drawn(material.batches(config, start), config.workers)
    began = time.monotonic()
    # Closed also where an error keeps this function's values: the processes that draw would wait on.
    with closing(batches), progress_bar() as progress:
        bar = progress.add_task("training", total=config.steps, completed=start)
        for step in range(start, config.steps):
            loss = course.advance(step, next(batches))
            done = step + 1
            if done % CHECKPOINT_STEPS == 0 or done == config.steps:
                course.save(checkpoint, done)
                minutes = (time.monotonic() - began) / 60
                figures = written(course, material, done, out)["top1_heldout_sprites"]
                shown = ", ".join(f"{k} {v['value']:.3f}" for k, v in figures.items())
                progress.console.print(
                    f"step {done}: loss {loss:.3f}, held-out {shown} ({minutes:.1f} min)"
                )
            if done % 50 == 0:
                progress.console.print(f"step {done}: loss {loss:.3f}")
            progress.update(bar, completed=done, description=f"training, loss {loss:.2f}")
    return written(course, material, max(start, config.steps), out)


def drawn(batches: IterableDataset[Any], workers: int) -> Generator[Any, None, None]:
    """Yield batches that ``workers`` processes draw ahead; they end with the generator."""
    ahead = 8 if workers else None
    yield from DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=ahead)


def written(course: Course, material: Material, steps_done: int, out: Path) -> dict[str, Any]:
    """Write the averaged model to ``out``, with its figures on the held-out sprites; return its card."""
    folded = course.averaged.folded()
    size = course.config.image_size
    figures = validate(folded, material.tokenizer, material.heldout, material.backgrounds, size)
    return write_folder(folded, course.config, material.archive, figures, steps_done, out)


def progress_bar() -> Progress:
    """Return the bar that a training draws."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the rate of ``step``: a line up, a cosine towards the horizon, a line down to zero."""
    rate = config.learning_rate * min(1.0, (step + 1) / config.warmup)
    rate *= 0.5 * (1 + math.cos(math.pi * min(step / config.horizon, 1.0))) * 0.99 + 0.01
    return rate * min(1.0, (config.steps - step) / max(config.cooldown, 1))


def digest_of(config: TrainingConfig) -> str:
    """Return a short name of ``config``, for its checkpoint."""
    return hashlib.sha256(json.dumps(asdict(config)).encode()).hexdigest()[:12]


def write_folder(
    model: CLIP,
    config: TrainingConfig,
    archive: Archive,
    figures: dict[str, dict[str, float]],
    step: int,
    out: Path,
) -> dict[str, Any]:
    """Write weights (half precision), open_clip configuration and model card to ``out``."""
    state = {
        k: (v.half() if v.dtype.is_floating_point else v).contiguous()
        for k, v in model.state_dict().items()
    }
    save_file(state, out / "open_clip_model.safetensors", metadata={"format": "pt"})
    model_cfg = config.model_config()
    if config.loss == "sigmoid":
        model_cfg["init_logit_bias"] = -6.0
    preprocess = {
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    (out / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess}, indent=1) + "\n"
    )
    card = {
        "model": "a small CLIP for pytest-cliprobust's offline benchmark; weak by design",
        "config": asdict(config),
        "steps_done": step,
        "samples_seen": step * config.batch_size,
        "sprites": len(archive.names),
        "names": len(archive.phrases),
        "training_styles": sorted(set(archive.styles)),
        "top1_heldout_sprites": figures,
        "open_clip": open_clip.__version__,
        "torch": torch.__version__,
    }
    (out / "model_card.json").write_text(json.dumps(card, indent=1) + "\n")
    return card


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m pytest_cliprobust.training.reference")
    parser.add_argument("--work", type=Path, default=Path("build/embedded"))
    parser.add_argument("--out", type=Path, default=DATA / "reference")
    defaults = TrainingConfig()
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--loss", choices=("softmax", "sigmoid"), default=defaults.loss)
    parser.add_argument("--fraction", type=float, default=defaults.fraction)
    parser.add_argument("--tower", default=defaults.tower)
    parser.add_argument("--image-size", type=int, default=defaults.image_size)
    options = parser.parse_args()
    config = TrainingConfig(
        steps=options.steps,
        seed=options.seed,
        loss=options.loss,
        fraction=options.fraction,
        tower=options.tower,
        image_size=options.image_size,
    )
    card = train(config, options.work, options.out)
    card["top1_clean_set"] = benchmark(options.out)
    (options.out / "model_card.json").write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
