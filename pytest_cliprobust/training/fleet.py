"""Trains the bundled fleet: ``python -m pytest_cliprobust.training.fleet``.

A base model in three seeds, and siblings that each differ from it in one of the factors of the study:
the architecture of the image tower, the training styles, the number of drawings, the size of the model,
the loss, and fine-tuning on the label classes. All see the same number of samples in the same schedule;
they learn from the same archives as the reference model, through the same code
(:mod:`pytest_cliprobust.training.reference`).

Whatever is finished stays; what was interrupted goes on where it stopped. Every model is an ordinary
open_clip folder in ``pytest_cliprobust/embedded/data/fleet``.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from open_clip.model import CLIP
from safetensors.torch import load_file
from torch import Tensor

from pytest_cliprobust.embedded.captions import EMBEDDED_TEMPLATES
from pytest_cliprobust.training import reference
from pytest_cliprobust.training.reference import (
    CONTEXT,
    DATA,
    Archive,
    Material,
    Training,
    TrainingConfig,
)

FOLDER = DATA / "fleet"

COLOURED = ("emojione", "fluent-emoji", "fxemoji", "noto-v1")
"""The training styles of the base."""

INKED = (
    "emojione-monotone",
    "fluent-emoji-flat",
    "fluent-emoji-high-contrast",
    "streamline-emojis",
)
"""The training styles of the sibling with another training distribution: mostly lines and flat areas."""

EMBEDDING = 80
"""Dimensions that image and text share."""

LABEL_PICTURES, OTHER_PICTURES = 40, 12
"""Augmented pictures of a drawing of a label class, and of any other."""

STRONGEST = 0.8
"""Strength of the augmentation of the strongest of them."""


@dataclass(frozen=True)
class FleetConfig(TrainingConfig):
    """The settings of a model of the fleet; the defaults are those of the base.

    Attributes:
        tower: ``resnet``, ``vit`` or ``convnext``, of about equal numbers of parameters.
        width: channels of the image tower's stem (``resnet``) or of its tokens (``vit``).
        text_width: of the text tower.
        styles: drawing styles that are trained on.
        drawings: the most that are taken of them, the same for every model of one ``fraction``.
        start: name of the model whose weights are fine-tuned; empty: trained from scratch.
    """

    steps: int = 2200
    horizon: int = 4000
    cooldown: int = 800
    tower: str = "resnet"
    image_size: int = 64
    ema: float = 0.998
    mix_style: float = 0.0
    ramp: int = 3000
    small_steps: int = 0
    width: int = 8
    text_width: int = 96
    styles: tuple[str, ...] = COLOURED
    drawings: int = 1400
    start: str = ""

    merges: ClassVar[int] = 1500
    workers: ClassVar[int] = 0

    def model_config(self) -> dict[str, Any]:
        """Return the open_clip model configuration (``model_cfg``) that is trained."""
        return {
            "embed_dim": EMBEDDING,
            "vision_cfg": {"image_size": self.image_size, **self._tower()},
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": 512 + self.merges + 2,
                "width": self.text_width,
                "heads": self.text_width // 32,
                "layers": 1,
            },
        }

    def _tower(self) -> dict[str, Any]:
        if self.tower == "resnet":
            return {"layers": [1, 1, 1, 1], "width": self.width, "head_width": 32}
        if self.tower == "vit":
            return {"layers": 3, "width": self.width, "head_width": 32, "patch_size": 8}
        return {
            "timm_model_name": "test_convnext2",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "timm_proj_bias": True,
        }

    def training(self, material: Material) -> Training:
        """Return the model with what its training on ``material`` needs."""
        if self.start:
            return FineTuning(loaded(self, FOLDER / self.start), material)
        return FleetTraining(self.clip(), len(material.names), half=self.tower != "vit")

    def augmentation(self, material: Material) -> Pictures:
        """Return what takes pictures of the sprites of ``material`` from those made beforehand."""
        return Pictures(material, self.image_size)

    def rows(self, archive: Archive) -> Tensor:
        """Return which sprites of ``archive`` are used, in order.

        At most ``drawings`` of its ``styles``, and of them the ``fraction``; of every name about the same
        share, whatever the seed.
        """
        order = torch.randperm(len(archive.names), generator=torch.Generator().manual_seed(0))
        wanted = [i for i in order.tolist() if archive.styles[i] in self.styles]
        wanted.sort(key=lambda i: archive.names[i])  # stable: within a name, in random order
        wanted = thinned(wanted, min(self.drawings, len(wanted)))
        wanted = thinned(wanted, round(self.fraction * len(wanted)))
        return torch.tensor(wanted).sort().values


class Pictures:
    """Augmented pictures, made once for the whole fleet: making them takes longer than learning from them.

    Of every sprite there are some, from mildly to strongly changed; a draw takes one, flips it, moves it
    by a few pixels and changes its brightness.
    """

    def __init__(self, material: Material, size: int) -> None:
        archive = material.archive
        known = set(material.heldout.names)
        counts = [LABEL_PICTURES if name in known else OTHER_PICTURES for name in archive.names]
        self.counts = torch.tensor(counts)
        self.first = self.counts.cumsum(0) - self.counts
        path = material.work / f"fleet-pictures-{size}.npy"
        if not path.is_file():
            self._make(
                path, reference.SpriteAugmentation(archive.images, material.backgrounds, size)
            )
        self.pictures = np.load(path, mmap_mode="r")

    def _make(self, path: Path, augmentation: reference.SpriteAugmentation) -> None:
        rows = torch.repeat_interleave(self.counts)
        numbers = torch.arange(len(rows)) - self.first[rows]
        strengths = (numbers + 1) / self.counts[rows] * STRONGEST
        partial = path.with_suffix(".part")
        shape = (len(rows), 3, augmentation.size, augmentation.size)
        pictures = open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        # Those of one strength together: it is a number of a batch.
        order = strengths.argsort(stable=True)
        for start in range(0, len(order), 128):
            chosen = order[start : start + 128]
            generator = torch.Generator().manual_seed(start)
            made = augmentation(rows[chosen], generator, float(strengths[chosen].mean()))
            pictures[chosen.numpy()] = (made * 255).round().byte().numpy()
        pictures.flush()
        partial.replace(path)

    def __call__(
        self, indices: Tensor, generator: torch.Generator, strength: float = 1.0
    ) -> Tensor:
        """Return (B, 3, s, s) floats in [0, 1] of the sprites at ``indices`` (B,).

        ``strength`` from 0 to 1 says up to which of a sprite's pictures are drawn, in their order.
        """

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator)

        counts = (self.counts[indices] * min(1.0, strength / STRONGEST)).ceil()
        chosen = self.first[indices] + (rand(len(indices)) * counts).long()
        order = chosen.argsort()  # a file is read forwards
        images = torch.empty(len(indices), *self.pictures.shape[1:])
        images[order] = torch.from_numpy(self.pictures[chosen[order].numpy()]).float() / 255
        images = torch.where(rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)
        moves = ((rand(2) * 2 - 1) * 4).round().int().tolist()
        images = images.roll(moves, (2, 3))
        return (images * (0.85 + 0.3 * rand(len(images), 1, 1, 1))).clamp(0, 1)


def thinned(rows: Sequence[int], count: int) -> list[int]:
    """Return ``count`` of ``rows``, evenly spread over their order."""
    return [rows[i * len(rows) // count] for i in range(count)]


def loaded(config: TrainingConfig, folder: Path) -> CLIP:
    """Return the model of the settings ``config`` with the weights of ``folder``.

    Raises:
        SystemExit: it has not been trained yet.
    """
    path = folder / "open_clip_model.safetensors"
    if not path.is_file():
        raise SystemExit(f"{path} is missing: train {folder.name} first")
    clip = config.clip()
    clip.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return clip


class FleetTraining(Training):
    """The CLIP and the two aids of :class:`.reference.Training`, for any tower of the fleet.

    The classifier of names reads the whitened embedding, which every tower has, not the trunk.
    """

    def __init__(self, clip: CLIP, names: int, *, half: bool) -> None:
        torch.nn.Module.__init__(self)
        self.clip = clip
        self.half_towers = half
        self.norm = torch.nn.BatchNorm1d(EMBEDDING, affine=False)
        self.classifier = torch.nn.Linear(EMBEDDING, names)

    def features(self, pixels: Tensor) -> Tensor:
        """Return the embeddings (B, D) of ``pixels``, before any normalisation."""
        # On a CPU, bfloat16 makes a convolution faster and attention slower.
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=self.half_towers):
            embedding: Tensor = self.clip.visual(pixels)
        return embedding.float()

    def folded(self) -> CLIP:
        """Return a copy of the CLIP on the CPU that needs no batch norm after its projection."""
        clip = copy.deepcopy(self.clip).cpu().eval()
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        fold(clip.visual, mean.cpu(), (variance + self.norm.eps).rsqrt().cpu())
        return clip

    def loss(self, pixels: Tensor, captions: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Return the loss of B images against the C captions of the names ``present`` (C,)."""
        white = self.norm(self.features(pixels))
        image = F.normalize(white, dim=-1)
        text = F.normalize(self.clip.encode_text(captions), dim=-1)
        scale = self.clip.logit_scale.exp()
        contrastive = reference.contrastive_loss(
            image, text, positions, scale, self.clip.logit_bias
        )
        return contrastive + F.cross_entropy(
            self.classifier(white), present[positions], label_smoothing=0.05
        )


@torch.no_grad()
def fold(visual: Any, mean: Tensor, scale: Tensor) -> None:
    """Make an image tower's embedding y become (y - mean) * scale, in place, for (D,) vectors.

    open_clip's transformer projects without a bias: there the mean is taken off the bias of the norm
    before, by the least vector whose projection it is.
    """
    if hasattr(visual, "ln_post"):
        projection = visual.proj
        visual.ln_post.bias.sub_(torch.linalg.pinv(projection.T.double()).float() @ mean)
        projection.mul_(scale)
        return
    linear = visual.attnpool.c_proj if hasattr(visual, "attnpool") else visual.head.proj
    linear.bias.copy_((linear.bias - mean) * scale)
    linear.weight.mul_(scale[:, None])


class FineTuning(FleetTraining):
    """Supervised fine-tuning: the image tower learns to classify the labels by the zero-shot head.

    The head's weights are the text tower's, which stays as it is: so the result is a CLIP like any other
    (the classifier of Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, is set up in
    this way, too, and trained with the tower).
    """

    def __init__(self, clip: CLIP, material: Material) -> None:
        super().__init__(clip, 1, half=True)
        labels = sorted(set(material.heldout.names))
        number = {name: i for i, name in enumerate(labels)}
        self.labels: Tensor
        self.register_buffer("labels", torch.tensor([number.get(n, -1) for n in material.names]))
        phrases = [material.heldout.phrases[name] for name in labels]
        self.head: Tensor
        self.register_buffer("head", zero_shot_head(clip, material, phrases))
        for parameter in (*text_parameters(clip), *self.classifier.parameters()):
            parameter.requires_grad_(False)

    def folded(self) -> CLIP:
        """Return a copy of the CLIP on the CPU."""
        return copy.deepcopy(self.clip).cpu().eval()

    def loss(self, pixels: Tensor, captions: Tensor, present: Tensor, positions: Tensor) -> Tensor:
        """Return the cross-entropy of B images over the label classes."""
        image = F.normalize(self.features(pixels), dim=-1)
        logits = self.clip.logit_scale.exp() * image @ self.head.T
        return F.cross_entropy(logits, self.labels[present[positions]], label_smoothing=0.05)


@torch.no_grad()
def zero_shot_head(clip: CLIP, material: Material, phrases: Sequence[str]) -> Tensor:
    """Return the normalised mean over the templates of the text embeddings of ``phrases`` (C, D)."""
    texts = [[template.format(phrase) for phrase in phrases] for template in EMBEDDED_TEMPLATES]
    embeddings = [F.normalize(clip.encode_text(material.tokenizer(row)), dim=-1) for row in texts]
    return F.normalize(torch.stack(embeddings).mean(0), dim=-1)


def text_parameters(clip: CLIP) -> list[torch.nn.Parameter]:
    """Return the parameters of ``clip`` that its image tower does not have, but for the logit scale."""
    image = {id(parameter) for parameter in clip.visual.parameters()}
    return [
        parameter
        for name, parameter in clip.named_parameters()
        if id(parameter) not in image and name != "logit_scale"
    ]


FLEET = {
    "base": FleetConfig(),
    "base-seed1": FleetConfig(seed=1),
    "inked-styles": FleetConfig(styles=INKED),
    "half-data": FleetConfig(fraction=0.5),
    "convnext": FleetConfig(tower="convnext"),
    "finetuned": FleetConfig(
        start="base",
        steps=400,
        horizon=800,
        cooldown=200,
        warmup=50,
        learning_rate=5e-4,
        label_share=1.0,
        ramp=400,
    ),
    "sigmoid": FleetConfig(loss="sigmoid"),
    "smaller": FleetConfig(width=5, text_width=64),
    "vit": FleetConfig(tower="vit", width=96),
    "base-seed2": FleetConfig(seed=2),
}
"""The models, in the order in which they are trained."""


def tags(config: FleetConfig) -> dict[str, str | int]:
    """Return what a model of the fleet is, in the study's six factors (prompts belong to a run)."""
    return {
        "architecture": {"resnet": "ResNet", "vit": "ViT", "convnext": "ConvNeXt"}[config.tower],
        "data": "inked styles" if config.styles == INKED else "coloured styles",
        "set_size": round(config.drawings * config.fraction),
        "fine_tuning": "label classes" if config.start else "none",
        "base": f"fleet:{config.start}" if config.start else "",
        "loss": config.loss,
        "seed": config.seed,
    }


def finish(name: str, config: FleetConfig, work: Path) -> dict[str, Any]:
    """Complete the model card of ``name`` with tags, sizes and its accuracy on the clean set."""
    folder = FOLDER / name
    card = card_in(folder)
    archive = Archive(work / "training_sprites.npz")
    rows = config.rows(archive).tolist()
    drawn = defaultdict(int, dict.fromkeys(config.styles, 0))
    for row in rows:
        drawn[archive.styles[row]] += 1
    state = load_file(folder / "open_clip_model.safetensors")
    image = sum(value.numel() for key, value in state.items() if key.startswith("visual."))
    card |= {
        "sprites": len(rows),
        "names": len({archive.names[row] for row in rows}),
        "training_styles": dict(drawn),
        "parameters": {"image": image, "all": sum(value.numel() for value in state.values())},
        "tags": tags(config) | {"parameters": sum(value.numel() for value in state.values())},
        "top1_clean_set": reference.benchmark(folder),
    }
    (folder / "model_card.json").write_text(json.dumps(card, indent=1) + "\n")
    return card


def card_in(folder: Path) -> dict[str, Any]:
    """Return the model card in a folder; empty if there is none."""
    path = folder / "model_card.json"
    card: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return card


def is_trained(card: Mapping[str, Any], config: FleetConfig) -> bool:
    """Whether ``card`` is that of a model that was trained to its end with ``config``."""
    same = card.get("config") == json.loads(json.dumps(asdict(config)))
    return same and bool(card["steps_done"] == config.steps)


def train_fleet(names: Sequence[str], work: Path) -> None:
    """Train those of ``names`` that are not finished, one after the other."""
    for name in names:
        config = FLEET[name]
        if not is_trained(card_in(FOLDER / name), config):
            print(f"{name}: {config}", flush=True)
            reference.train(config, work, FOLDER / name)
        card = card_in(FOLDER / name)
        if not tags(config).items() <= card.get("tags", {}).items():
            card = finish(name, config, work)
            print(f"{name}: top-1 on the clean set {card['top1_clean_set']['all']}", flush=True)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m pytest_cliprobust.training.fleet")
    parser.add_argument("names", nargs="*", default=list(FLEET), metavar="NAME")
    parser.add_argument("--work", type=Path, default=Path("build/embedded"))
    options = parser.parse_args()
    if unknown := set(options.names) - FLEET.keys():
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(FLEET)}")
    train_fleet(options.names, options.work)


if __name__ == "__main__":
    main()
