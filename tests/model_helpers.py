"""Tiny random models in their real formats, for the tests of several files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from pytest_cliprobust.targets.open_clip_target import build_model

MERGES = 300

VIT: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 12,
        "vocab_size": 514 + MERGES,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}


#: The same, which reads whole names of classes.
WORDY: dict[str, Any] = {**VIT, "text_cfg": {**VIT["text_cfg"], "context_length": 77}}


def write_merges(folder: Path, merges: int = MERGES) -> None:
    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    (folder / "merges.txt.gz").write_bytes(gzip.compress("\n".join(lines[: 1 + merges]).encode()))


def write_folder(
    folder: Path, config: dict[str, Any] = VIT, *, seed: int = 0, **preprocess: Any
) -> Path:
    """An open_clip folder with random weights."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model, _ = build_model(config, "test")
    for name, value in model.named_parameters():  # ModifiedResNet starts with dead branches
        if name.endswith("bn3.weight"):
            nn.init.uniform_(value, 0.5, 1.5)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )
    write_merges(folder)
    return folder


def write_tokenizer(folder: Path, *, pad: str = "<pad>", letters: bool = False) -> None:
    """A tokenizer of eleven words, or of all letters, as transformers saves it."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = ["a", "photo", "of", "cat", "two", "red", "cars", "very", "long", "caption", "."]
    if letters:
        known = [chr(number) for number in range(32, 127)]
    words = ["<unk>", "<pad>", *known, "</s>"]  # CLIP looks for the largest token
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if letters:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", len(words) - 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token=pad,
        eos_token="</s>",
        sep_token="</s>",
    ).save_pretrained(folder)
