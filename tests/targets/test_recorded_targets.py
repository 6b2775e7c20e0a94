"""What is loaded of small folders and files of models, whole and broken, as the record has it.

That it is right is for the other tests to show. After a change that is meant, look at what differs in
``recorded.txt`` and record anew::

    RECORD=1 python -m pytest -q tests/targets/test_recorded_targets.py
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import records
import torch
from model_helpers import MERGES, VIT, write_folder, write_merges
from safetensors.torch import load_file, save_file
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import names
from pytest_cliprobust.targets.callable_target import adapt
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.naflex import NaFlexPreprocessing
from pytest_cliprobust.targets.preprocessing import Preprocessing

pytestmark = pytest.mark.floors

RECORD = Path(__file__).with_name("recorded.txt")

CONFIG, WEIGHTS = "open_clip_config.json", "model.safetensors"

TEXTS = ["a photo of a cat.", "Two red CARS", ""]

#: (height, width) of pictures that are framed.
SHAPES = ((40, 60), (61, 33), (7, 90))

VISION: dict[str, Any] = VIT["vision_cfg"]

RESNET = {**VIT, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}}

#: Configuration and preprocessing.
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vit": (VIT, {}),
    "vit, quickgelu and pooled": (
        {**VIT, "quick_gelu": True, "vision_cfg": {**VISION, "pool_type": "avg"}},
        {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"},
    ),
    "vit, upright and bordered": (
        {**VIT, "vision_cfg": {**VISION, "image_size": [48, 32]}},
        {"resize_mode": "longest", "fill_color": 127, "interpolation": "bilinear"},
    ),
    "vit with a bias": ({**VIT, "init_logit_bias": -10}, {"size": [32, 32]}),
    "resnet": (RESNET, {"interpolation": "bilinear"}),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def values(name: str, like: Tensor) -> Tensor:
    """Return numbers that are the same with every version of every library."""
    if not like.is_floating_point():
        return like
    if name == "logit_scale":
        return torch.full_like(like, 3.0)
    if name == "logit_bias":
        return torch.full_like(like, -4.0)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = torch.from_numpy(generator.normal(size=tuple(like.shape) or (1,))).to(like)
    drawn = 0.2 * drawn.reshape(like.shape)
    if name.endswith("running_var"):
        return drawn.abs() + 0.5
    return 1.0 + drawn if like.ndim == 1 and name.endswith("weight") else drawn


def written(root: Path, key: str) -> Path:
    """Write one of :data:`MODELS`."""
    config, images = MODELS[key]
    folder = write_folder(root / "model", config, **images)
    state = load_file(folder / WEIGHTS)
    save_file({k: values(k, v).contiguous() for k, v in state.items()}, folder / WEIGHTS)
    return folder


def picture(height: int, width: int) -> Tensor:
    """Return a picture (3, H, W) uint8 of a slope with a few edges."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes = [3 * rows + 2 * columns, 5 * columns + rows, (rows // 5 + columns // 7) * 40]
    return torch.stack(planes).remainder(256).to(torch.uint8)


def numbers(tensor: Tensor, count: int = 6) -> str:
    """Return the first numbers of a tensor, and its mean; of pictures' levels as shares of 255.

    Some processors round a level up where others round it down.
    """
    flat = tensor.detach().float().flatten() / (255 if tensor.dtype == torch.uint8 else 1)
    return " ".join(f"{value:.3f}" for value in [*flat[:count].tolist(), float(flat.mean())])


def plain(text: str, root: Path) -> str:
    """Return one line without the paths of this machine and other libraries' words."""
    text = text.replace(str(root), "ROOT").replace(str(Path.cwd()), "HERE")
    text = text.replace(f"('{Path.cwd().name}'", "('HERE'")
    text = re.sub(r"\((?:\w*[Ee]rror|\w*File|\w*Exception): .*?\)(?=[;,.]|$)", "(…)", text)
    return re.sub(r"0x[0-9a-f]+", "0x…", text)


def tried(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Return what a call gives, or its mistake."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*given, **named)
    except ClipRobustError as error:
        return f"{type(error).__name__}: {error}"


def load(name: str | Path, **options: Any) -> Any:
    return tried(load_target, str(name), device="cpu", **options)


# --- A whole model ----------------------------------------------------------------------------------


def told(target: Any) -> Iterator[str]:
    """Yield what a model says of itself."""
    info, images = target.info, target.preprocessing
    yield f"architecture {info.architecture}, pretrained {info.pretrained}"
    yield f"tags {json.dumps(dict(info.tags), sort_keys=True)}"
    yield from (f"note: {note}" for note in info.notes)
    yield f"weights {[path.name for path in info.weights]}"
    yield f"image size {target.image_size}, features of {target.embed_dim}, {target.probability}"
    yield f"logit scale {target.logit_scale:.3f}, bias {target.logit_bias}"
    yield f"size {images.size}, resize {images.resize}, {images.resize_mode}, {images.interpolation}"
    yield f"mean {numbers(torch.tensor(images.mean), 3)}; std {numbers(torch.tensor(images.std), 3)}"
    yield f"fill {images.fill}, crop {images.crop}, any shape {images.any_shape}"


def seen(target: Any) -> Iterator[str]:
    """Yield what a model makes of pictures and texts."""
    side = max(target.image_size)
    framed = []
    for shape in SHAPES:
        image = target.frame(picture(*shape), side)
        framed.append(image)
        smaller = tuple(target.frame(picture(*shape), side // 2).shape[1:])
        alters = target.preprocessing.alters_shape(shape)
        yield f"{shape} framed: {tuple(image.shape[1:])}, {smaller}, alters {alters}: {numbers(image)}"
    pixels = target.preprocess(torch.stack(framed).float() / 255)
    yield f"pixels: {tuple(pixels.shape)} {numbers(pixels)}"
    for what, features in (
        ("pictures", target.encode_image(pixels)),
        ("texts", target.encode_text(TEXTS)),
    ):
        yield f"{what}: {tuple(features.shape)}"
        yield from (f"  {numbers(row)}" for row in features)
    for layer in ("last", 0, 1, 9, "values"):
        found = tried(target.dense_features, pixels, *([] if layer == "last" else [layer]))
        yield f"patches of {layer}: " + (
            found if isinstance(found, str) else f"{tuple(found.shape)} {numbers(found)}"
        )
    found = tried(lambda: target.local_features(pixels))
    yield "local: " + (
        found if isinstance(found, str) else f"{tuple(found.shape)} {numbers(found)}"
    )
    wrong = tried(lambda: target.encode_image(pixels[..., :-1]))
    yield f"a wrong shape: {wrong if isinstance(wrong, str) else tuple(wrong.shape)}"


def whole(key: str, root: Path) -> Iterator[str]:
    """Yield everything of one model, in both precisions of the CPU and as its twin in int8."""
    folder = written(root, key)
    target = load(folder)
    yield from told(target)
    yield from seen(target)
    half = load(folder, precision="bf16")
    same = half.info.digest == target.info.digest
    yield f"in bf16: {numbers(half.encode_text(TEXTS[:1]), 2)}; same digest {same}"
    yield f"in fp16: {load(folder, precision='fp16')}"
    small = load(f"{folder}@int8")
    if isinstance(small, str):
        yield f"in int8: {small}"
        return
    yield from (f"in int8: note: {note}" for note in small.info.notes)
    yield f"in int8: {small.info.name}, {small.info.architecture}, tags {dict(small.info.tags)}"
    yield f"in int8: {numbers(small.encode_text(TEXTS[:1]), 2)}"


#: What a value of a configuration is changed to; ... leaves it out.
OTHERS: tuple[Any, ...] = (..., None, 0, -1, 2.5, "x", [1, 2], {}, True, 10**9)


# --- A broken one -----------------------------------------------------------------------------------


def leaves(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value of a configuration."""
    if isinstance(content, dict):
        yield at
        for key, value in content.items():
            yield from leaves(value, (*at, key))
    else:
        yield at


def changed(content: Any, at: tuple[Any, ...], value: Any) -> Any:
    """Return a configuration with one value changed, or left out (...)."""
    if not at:
        return value
    content = copy.deepcopy(content)
    inner = content
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return content


def short(found: Any, base: Any) -> str:
    """Return a mistake, or what is loaded in its stead."""
    if isinstance(found, str):
        return found
    same = "the same digest" if found.info.digest == base.info.digest else "another digest"
    notes = [note for note in found.info.notes if note not in base.info.notes]
    return "; ".join([f"loads, {same}, {found.image_size}", *notes])


def configured(root: Path) -> Iterator[str]:
    """Yield what is said of a folder one value of whose configuration is another."""
    folder = written(root, "vit")
    base = load(folder)
    path = folder / CONFIG
    content = json.loads(path.read_text())
    content["preprocess_cfg"] = {
        "size": 32,
        "mean": [0.4] * 3,
        "std": [0.3] * 3,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
        "mode": "RGB",
    }
    path.write_text(json.dumps(content))
    yield f"as it is: {short(load(folder), base)}"
    for at in leaves(content):
        for value in OTHERS:
            if value is ... and not at:
                continue
            path.write_text(json.dumps(changed(content, at, value)))
            name = "gone" if value is ... else json.dumps(value)
            yield f"{'.'.join(at) or 'all'} = {name}: {short(load(folder), base)}"
    for part in ("model_cfg", "preprocess_cfg"):
        path.write_text(json.dumps({**content, part: {**content[part], "other": 1}}))
        yield f"{part} with another key: {short(load(folder), base)}"
    path.write_text(json.dumps({**content, "other": 1}))
    yield f"with another key: {short(load(folder), base)}"


def damaged(root: Path) -> Iterator[str]:
    """Yield what is said of a folder one of whose files is not as it should be."""
    folder = written(root, "vit")
    base = load(folder)
    for name in (CONFIG, WEIGHTS, "merges.txt.gz"):
        file = folder / name
        content = file.read_bytes()
        for how, other in {
            "missing": None,
            "empty": b"",
            "cut": content[: len(content) // 2],
            "a page": b"<!DOCTYPE html><html>not found</html>",
            "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "no text": b"\xff\xfe\x00\x01" * 9,
        }.items():
            file.unlink()
            if other is not None:
                file.write_bytes(other)
            yield f"{name} {how}: {short(load(folder), base)}"
            file.write_bytes(content)
    write_merges(folder, MERGES - 1)
    yield f"merges, one fewer: {short(load(folder), base)}"
    write_merges(folder, MERGES + 1)
    yield f"merges, one more: {short(load(folder), base)}"
    write_merges(folder)
    yield f"activation quickgelu: {short(load(folder, activation='quickgelu'), base)}"
    yield f"activation gelu: {short(load(folder, activation='gelu'), base)}"
    yield f"activation relu: {load(folder, activation='relu')}"
    yield f"device tpu: {tried(lambda: load_target(str(folder), device='tpu'))}"
    yield f"precision int4: {load(folder, precision='int4')}"
    for name in ("second.pt", "tokenizer.json", "README.md"):
        (folder / name).write_bytes(b"{}")
        yield f"with {name}: {short(load(folder), base)}"
        (folder / name).unlink()
    shutil.copyfile(folder / WEIGHTS, root / "alone.safetensors")
    yield f"of another file: {short(load(folder, pretrained=str(root / 'alone.safetensors')), base)}"
    yield f"of no file: {load(folder, pretrained=str(root / 'gone.pt'))}"
    yield f"of a tag: {load(folder, pretrained='openai')}"
    yield f"the file alone: {load(root / 'alone.safetensors')}"


def checkpoints(root: Path) -> Iterator[str]:
    """Yield what is said of checkpoints with other tensors than the model has."""
    folder = written(root, "vit")
    base = load(folder)
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    file = folder / "open_clip_pytorch_model.bin"
    first = "visual.proj"
    shapes = {
        "one missing": {k: v for k, v in state.items() if k != first},
        "two missing": {k: v for k, v in state.items() if k not in (first, "text_projection")},
        "one more": {**state, "head.weight": torch.zeros(2)},
        "of another shape": {**state, first: torch.zeros(32, 99)},
        "of int8": {k: v.to(torch.int8) if v.ndim > 1 else v for k, v in state.items()},
        "of half": {k: v.half() for k, v in state.items()},
        "of bfloat16": {k: v.bfloat16() for k, v in state.items()},
        "of double": {k: v.double() for k, v in state.items()},
        "not finite": {**state, first: state[first] * float("nan")},
        "no scale": {k: v for k, v in state.items() if k != "logit_scale"},
        "scale of nan": {**state, "logit_scale": torch.tensor(float("nan"))},
        "large scale": {**state, "logit_scale": torch.tensor(1e4)},
        "bits": {**state, first: state[first] > 0},
        "none": {},
        "prefixed": {f"module.{k}": v for k, v in state.items()},
        "compiled": {f"_orig_mod.{k}": v for k, v in state.items()},
        "of lightning": {f"model.{k}": v for k, v in state.items()},
        "half prefixed": {(f"module.{k}" if "visual" in k else k): v for k, v in state.items()},
    }
    for how, tensors in shapes.items():
        torch.save(tensors, file)
        yield f"{how}: {short(load(folder), base)}"
    nested: dict[str, Any] = {
        "state_dict": {"epoch": 3, "state_dict": state},
        "model": {"model": state, "optimizer": {"state": {}}},
        "model_state_dict": {"model_state_dict": state},
        "moving average": {"state_dict": state, "state_dict_ema": state},
        "only a moving average": {"epoch": 1, "model_ema": state},
        "nothing": {"epoch": 3, "loss": [1.0]},
        "a list": [state],
        "a tensor": state[first],
        "a number": 3,
        "an object": {"model": torch.nn.Linear(2, 2)},
        "something that runs": {"state_dict": state, "hook": print},
    }
    for how, content in nested.items():
        torch.save(content, file)
        yield f"within {how}: {short(load(folder), base)}"
    torch.save(state, file, _use_new_zipfile_serialization=False)
    yield f"in the old format: {short(load(folder), base)}"
    content = file.read_bytes()
    for how, part in (("half", len(content) // 2), ("without its last bytes", -40)):
        file.write_bytes(content[:part])
        yield f"in the old format, {how}: {short(load(folder), base)}"
    torch.save(state, file)
    content = file.read_bytes()
    for how, part in (("half", len(content) // 2), ("without its last bytes", -40)):
        file.write_bytes(content[:part])
        yield f"in the new format, {how}: {short(load(folder), base)}"


# --- Names, frames, encoders ------------------------------------------------------------------------

NAMES = (
    *("", " ", "reference", "reverence", "reference-", "reference-x", "fleet:base", "fleet:bas"),
    *("fleet:", "ViT-B-32", "ViT-B-32/", "ViT-B-32/openai", "ViT-B-32/opnai", "VitB32/openai"),
    *("vit-b-32", "hf-hub:", "hf-hub:a", "hf-hub:a/b/c", "local-dir:", "local-dir:/gone"),
    *("/gone", "/gone/x.pt", "./gone", "~gone", "gone.pt", "transformers:", "transformers:a b"),
    *("json:loads", "os", "os:path.join", "nosuchmodule:x", "pathlib:gone", "a:b:c", "a=b"),
    *("reference@int8@int8", "reference@int4", "reference@onnx:", "reference@onnx:/gone.onnx"),
    *("reference@/gone.pt", "ViT-B-32@int8x", "@int8", "NAME=", "=reference", "torch:nn"),
    *("planted:", "planted:gone", "reference\nx", "x" * 300, "ViT-B-32-quickgelu", "RN50/yfcc"),
)


def named(root: Path) -> Iterator[str]:
    """Yield what names are taken for."""
    folder = root / "models"
    folder.mkdir()
    (folder / "some.pt").touch()
    for name in (*NAMES, str(folder), str(folder / "some.pt"), f"mine={folder}"):
        parts = [
            f"named {tried(names.named, name)}",
            f"twin {tried(names.split_twin, name)}",
            f"checkpoint {tried(names.split_checkpoint, name)}",
            f"path {tried(names.path_in, name)}",
            f"architecture {tried(names.is_architecture, name)}",
        ]
        yield f"{name[:60]!r}: {'; '.join(parts)}"
    for given in (
        ["reference", "fleet:base"],
        ["reference", "reference"],
        ["a=reference", "a=fleet:base"],
        ["/x/one/m.pt", "/x/two/m.pt"],
        ["m=/x/one/m.pt", "/x/two/m.pt"],
        ["ViT-B-32@/x/a.pt", "ViT-B-32@/y/a.pt"],
        ["reference", "reference@int8"],
    ):
        yield f"{given}: {tried(names.named_models, given)}"
        models = tried(names.named_models, given)
        if isinstance(models, dict):
            for pretrained in (None, "openai", "/x/a.pt"):
                checked = tried(names.check_pretrained, models, pretrained)
                yield f"  with {pretrained}: {checked}"


def refused(root: Path) -> Iterator[str]:
    """Yield what is said of names that are no model, or one out of reach."""
    bundled = {"reference", "fleet:base", "ViT-B-32", "ViT-B-32-quickgelu"}
    far = ("ViT-B-32/openai", "RN50/yfcc", "hf-hub:a", "transformers:a b", "reference@int8@int8")
    for name in NAMES:
        if name not in bundled and name not in far and not name.startswith("hf-hub:a/"):
            found = load(name)
            yield f"{name[:60]!r}: {found if isinstance(found, str) else found.info.name}"


PREPROCESSINGS: dict[str, dict[str, Any]] = {
    "shortest": {},
    "shortest, bilinear": {"interpolation": "bilinear"},
    "shortest, nearest": {"interpolation": "nearest"},
    "resized to 40": {"resize": 40},
    "resized to 40, floor": {"resize": 40, "crop": "floor"},
    "resized to 24": {"resize": 24, "fill": (9, 8, 7)},
    "longest": {"resize_mode": "longest", "fill": (127, 1, 2)},
    "squash": {"resize_mode": "squash"},
    "squash, resized": {"resize_mode": "squash", "resize": (40, 50)},
    "keep": {"resize_mode": "keep", "fill": (5, 5, 5)},
    "keep, floor": {"resize_mode": "keep", "crop": "floor"},
    "oblong": {"size": (48, 32)},
    "oblong, longest": {"size": (32, 48), "resize_mode": "longest"},
    "other colours": {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)},
    "cubic": {"interpolation": "cubic"},
    "fit": {"resize_mode": "fit"},
    "no size": {"size": (0, 3)},
    "three sizes": {"size": (3, 3, 3)},
    "too large": {"size": (32, 5000)},
    "resized too large": {"resize": 5000},
    "no spread": {"std": (0.0, 1.0, 1.0)},
    "two means": {"mean": (0.1, 0.2)},
    "no number": {"mean": (float("nan"), 0.0, 0.0)},
    "no colour": {"fill": (300, 0, 0)},
    "crop ceil": {"crop": "ceil"},
}


def framed(root: Path) -> Iterator[str]:
    """Yield what preprocessings make of pictures of several shapes."""
    shapes = (*SHAPES, (32, 32), (20, 20), (33, 47), (500, 4))
    for key, settings in PREPROCESSINGS.items():
        images = tried(Preprocessing, **{"size": (32, 32), **settings})
        if isinstance(images, str):
            yield f"{key}: {images}"
            continue
        yield f"{key}: {images.framing()}"
        yield f"{key}: {images.identity()}"
        for shape in shapes:
            image = images.frame(picture(*shape), max(images.size))
            twice = images.frame(picture(*shape), 2 * max(images.size))
            fit = images.fit(picture(*shape)[None].float() / 255)
            yield (
                f"  {shape}: alters {images.alters_shape(shape)}, takes {images.takes(shape)}; "
                f"{tuple(image.shape[1:])} {numbers(image, 3)}; {tuple(twice.shape[1:])} "
                f"{numbers(twice, 1)}; fit {tuple(fit.shape[2:])} {numbers(fit, 2)}"
            )
    for patch, most in ((16, 256), (8, 16), (16, 1)):
        own = NaFlexPreprocessing(size=(patch, patch), patch=patch, most_patches=most)
        for shape in shapes:
            image = own.frame(picture(*shape), 1)
            yield (
                f"naflex {patch} {most} {shape}: {own.own_shape(shape)}, takes {own.takes(shape)}; "
                f"{tuple(image.shape[1:])} {numbers(image, 3)}"
            )


class Encoder:
    """An encoder of one's own: what a picture's channels and a text's letters add up to."""

    def __init__(self, **changes: Any) -> None:
        self.image_size = 8
        for name, value in changes.items():
            if value is not ...:
                setattr(self, name, value)

    def encode_image(self, pixels: Tensor) -> Tensor:
        return torch.stack([pixels.mean((1, 2, 3)), pixels[:, 0].mean((1, 2)) + 2], 1)

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[len(text) + 1.0, text.count("a") + 1.0] for text in texts])


ENCODERS: dict[str, Any] = {
    "plain": {},
    "oblong": {"image_size": (8, 4)},
    "size of a text": {"image_size": "8"},
    "size 0": {"image_size": 0},
    "scale": {"logit_scale": 50.0},
    "scale of a text": {"logit_scale": "50"},
    "scale below 0": {"logit_scale": -1.0},
    "bias": {"logit_bias": -3.0, "probability": "sigmoid"},
    "probability": {"probability": "logistic"},
    "mean": {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)},
    "one mean": {"mean": 0.5, "std": 0.2},
    "wrong mean": {"mean": (0.5,)},
    "squash": {"resize_mode": "squash", "interpolation": "bilinear"},
    "wrong mode": {"resize_mode": "fit"},
    "name": {"name": "mine"},
    "digest": {"digest": "abc"},
    "precision": {"precision": "fp32"},
    "notes": {"notes": ("one",)},
    "tags": {"tags": {"size": "3"}},
    "no texts": {"encode_text": None},
    "texts of another width": {"encode_text": lambda texts: torch.ones(len(texts), 3)},
    "texts of numbers": {"encode_text": lambda texts: [1.0 for _ in texts]},
    "texts of one row": {"encode_text": lambda texts: torch.ones(1, 2)},
    "pictures of nan": {"encode_image": lambda pixels: torch.full((len(pixels), 2), torch.nan)},
    "pictures of zeros": {"encode_image": lambda pixels: torch.zeros(len(pixels), 2)},
    "pictures of whole numbers": {"encode_image": lambda pixels: torch.ones(len(pixels), 2).int()},
    "pictures in a table": {"encode_image": lambda pixels: {"x": pixels}},
    "pictures that fail": {"encode_image": lambda pixels: 1 / 0},
    "pictures all alike": {"encode_image": lambda pixels: torch.ones(len(pixels), 2)},
    "pictures by one": {"encode_image": lambda pixels: torch.ones(2)},
}


def encoders(root: Path) -> Iterator[str]:
    """Yield what becomes of encoders of one's own."""
    options: dict[str, Any] = {
        "pretrained": None,
        "explicit_precision": False,
        "device": torch.device("cpu"),
        "precision": "fp32",
        "activation": None,
    }
    for key, settings in ENCODERS.items():
        target = tried(adapt, "own:x", Encoder(**settings), **options)
        if isinstance(target, str):
            yield f"{key}: {target}"
            continue
        image = target.frame(picture(20, 30), max(target.image_size))
        pixels = target.preprocess(image[None].float() / 255)
        parts = [
            f"{target.info.name}, {target.info.architecture}, {target.image_size}, "
            f"{target.embed_dim}, {target.probability}, {target.logit_scale:.3f}, {target.logit_bias}",
            f"{tuple(image.shape)} {numbers(pixels, 2)}",
            f"features {numbers(target.encode_image(pixels), 2)}, "
            f"{numbers(target.encode_text(TEXTS[:2]), 4)}",
            *target.info.notes,
            *(f"{name}: {value}" for name, value in target.info.tags.items()),
        ]
        yield f"{key}: {'; '.join(parts)}"
    for what, value in {
        "a number": 3,
        "a text": "x",
        "nothing": None,
        "a class": Encoder,
        "a function": lambda: Encoder(),
        "a function of options": lambda device, precision: Encoder(name=f"{device} {precision}"),
        "a function of another option": lambda colour: Encoder(),
        "a function of nothing": lambda: None,
        "a namespace": SimpleNamespace(encode_image=1, encode_text=2),
    }.items():
        found = tried(adapt, "own:x", value, **options)
        yield f"{what}: {found if isinstance(found, str) else found.info.name}"
    yield "with weights: " + str(
        tried(adapt, "own:x", Encoder(), **{**options, "pretrained": "openai"})
    )
    yield "with an activation: " + str(
        tried(adapt, "own:x", Encoder(), **{**options, "activation": "gelu"})
    )


PARTS: dict[str, Callable[[Path], Iterator[str]]] = {
    **{key: partial(whole, key) for key in MODELS},
    "configurations": configured,
    "damaged folders": damaged,
    "checkpoints": checkpoints,
    "names": named,
    "names that are refused": refused,
    "frames": framed,
    "encoders": encoders,
}


def recorded(part: str) -> list[str]:
    """Return what is recorded of one part."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        return [plain(line, root) for line in PARTS[part](root)]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_loaded_is_what_the_record_says(part: str) -> None:
    records.check(RECORD, PARTS, part, recorded(part))
