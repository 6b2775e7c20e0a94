"""Files damaged on purpose: each is read right, or refused in one line, soon and with little memory.

    python tests/fuzz.py --count 10000 --seed 1
    python tests/fuzz.py --kind checkpoint-zip --seed 17 --count 1

Every kind of file has a sound one (made small, in its real format) and the function that reads it. A number
decides the damage: bytes flipped, cut, doubled, overwritten with lengths that no file has; in JSON also
values replaced by others that no file has. ``tests/test_fuzz.py`` runs a few hundred of them.

What counts as a failure: any error but :class:`ClipRobustError`, a message of several lines, more than
:data:`SECONDS`, a connection to anywhere, or a process that has grown by more than :data:`BYTES`.
"""

from __future__ import annotations

import argparse
import collections
import copy
import importlib.util
import io
import json
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from history_helpers import a_run, answers, figures, kept
from layout_helpers import devkit, encoded, flat_imagenet, kaggle_solution, picture, shards
from model_helpers import VIT, write_folder, write_tokenizer
from multimodal_helpers import write as write_multimodal
from PIL import Image
from safetensors.torch import save_file

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.depth.estimator import DepthEstimator
from pytest_cliprobust.datasets.depth.files import DepthFiles, read_depth
from pytest_cliprobust.datasets.layouts.imagefolder import ImageFolder, read_image
from pytest_cliprobust.datasets.loading import load_dataset, load_source
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.datasets.templates import read_templates
from pytest_cliprobust.errors import ClipRobustError, UserCodeError
from pytest_cliprobust.gating.baseline import load_baseline
from pytest_cliprobust.gating.reading import load_thresholds
from pytest_cliprobust.results import journal
from pytest_cliprobust.results.compare import compare
from pytest_cliprobust.results.earlier import of_file
from pytest_cliprobust.results.history import History
from pytest_cliprobust.targets.checkpoint import read_checkpoint
from pytest_cliprobust.targets.loading import load_target
from pytest_cliprobust.targets.multimodal_loading import load_multimodal

SECONDS = 10
BYTES = 2 * 2**30

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        path: a sound one.
        read: reads whatever lies at a path.
    """

    path: Path
    read: Callable[[Path], Any]


class TooLong(BaseException):
    """Reading took more than :data:`SECONDS`."""


# --- Sound files -----------------------------------------------------------------------------------


def _folder(path: Path) -> None:
    load_target(str(path.parent), device="cpu")


def _cached(path: Path) -> None:
    cache = FeatureCache(path.parent.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cache.get_or_compute({"a": 1}, lambda: np.zeros((4, 8), np.float32))
    if found.shape != (4, 8) or found.any():
        raise AssertionError("a damaged entry was served")


def _classes(path: Path) -> None:
    data = ImageFolder(path.parent, size=8, cache=path.parent.parent / "known")
    if len(data) != 2 or len(data.class_names) != 2:
        raise AssertionError("classes went or came")


def _checkpoints(root: Path) -> dict[str, Kind]:
    root.mkdir(parents=True)
    torch.manual_seed(0)
    state = {f"layers.{i}.weight": torch.randn(4, 3) for i in range(4)}
    state["half"] = torch.arange(6).half()
    whole = {
        "epoch": 3,
        "best": np.float64(0.5),
        "state_dict": state,
        "args": argparse.Namespace(a=1),
    }
    torch.save(whole, root / "zip.pt")
    torch.save(whole, root / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(state, root / "w.safetensors")
    (root / "w.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(state, "w.safetensors")})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))).save(
            str(root / "script.pt")
        )
    np.savez(root / "w.npz", a=np.ones(3))
    names = (
        "zip.pt",
        "legacy.pt",
        "w.safetensors",
        "w.safetensors.index.json",
        "script.pt",
        "w.npz",
    )
    return {
        f"checkpoint-{name.replace('.', '-')}": Kind(root / name, read_checkpoint) for name in names
    }


def _transformers(folder: Path) -> Path:
    import transformers

    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = transformers.CLIPConfig(
        vision_config={**tower, "image_size": 16, "patch_size": 8},
        text_config={**tower, "vocab_size": 40, "max_position_embeddings": 8, "eos_token_id": 2},
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(folder)
    return folder


def kinds(root: Path) -> dict[str, Kind]:
    """Write a sound file of every kind into ``root``, and return them by name."""
    made = _checkpoints(root / "checkpoints")
    folder = write_folder(root / "vit")
    (folder / "model_card.json").write_text(json.dumps({"tags": {"loss": "x"}, "samples_seen": 3}))
    for name in ("open_clip_config.json", "model.safetensors", "merges.txt.gz", "model_card.json"):
        made[f"open-clip-{name.partition('.')[0]}"] = Kind(folder / name, _folder)
    timm = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}
    folder = write_folder(root / "timm", {**VIT, "vision_cfg": {**timm, "image_size": 160}})
    made["open-clip-timm"] = Kind(folder / "open_clip_config.json", _folder)
    folder = _transformers(root / "clip")
    files = ("config", "model", "tokenizer", "tokenizer_config", "preprocessor_config")
    for name in files:
        ending = "safetensors" if name == "model" else "json"
        made[f"transformers-{name}"] = Kind(folder / f"{name}.{ending}", _folder)
    cache = FeatureCache(root / "cache")
    cache.get_or_compute({"a": 1}, lambda: np.zeros((4, 8), np.float32))
    made["cache-entry"] = Kind(cache.path({"a": 1}), _cached)
    _pictures(root / "pictures", made)
    _around_models(root, folder, made)
    _results(root / "results", made)
    _tables(root / "tables", made)
    _shards(root / "shards", made)
    _multimodal(root / "multimodal", made)
    made["thresholds"] = Kind(ROOT / "thresholds.toml", load_thresholds)
    made["baseline"] = Kind(ROOT / "thresholds.baseline.safetensors", load_baseline)
    return made


def _around_models(root: Path, clip: Path, made: dict[str, Kind]) -> None:
    """Files that lead to a model, or stand beside one: adapters, modules, graphs, estimators."""
    rows = {"lora_A": (2, 16), "lora_B": (16, 2)}
    names = [f"vision_model.encoder.layers.0.mlp.fc1.{part}.weight" for part in rows]
    folder = shutil.copytree(clip, root / "adapted")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["fc1"]})
    )
    save_file(
        {
            f"base_model.model.{name}": torch.randn(shape)
            for name, shape in zip(names, rows.values(), strict=True)
        },
        folder / "adapter_model.safetensors",
    )
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        made[f"adapter-{name.partition('.')[2]}"] = Kind(folder / name, _folder)
    module = {"path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    shutil.copytree(clip, root / "sentences" / "0_CLIPModel")
    (root / "sentences" / "modules.json").write_text(json.dumps([module]))
    made["sentence-transformers"] = Kind(root / "sentences" / "modules.json", _folder)
    graphs = root / "graphs"
    graphs.mkdir()
    _graphs(graphs)
    parent = str(root / "vit")
    for name in ("image", "text"):
        made[f"onnx-{name}"] = Kind(graphs / f"{name}.onnx", lambda path: _twin(parent, path))
    estimator = _estimator(root / "estimator")
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        made[f"estimator-{name.partition('.')[0]}"] = Kind(
            estimator / name, lambda path: DepthEstimator(str(path.parent))
        )


def _twin(parent: str, path: Path) -> None:
    load_target(f"{parent}@onnx:{path.parent}", device="cpu")


def _graphs(folder: Path) -> None:
    """Write graphs that give the first numbers of their input as features."""
    from onnx import TensorProto, helper

    for name, kind, shape in (
        ("image", TensorProto.FLOAT, ["n", 3, 32, 32]),
        ("text", TensorProto.INT64, ["n", 12]),
    ):
        width = 24 if name == "image" else 12
        edges = {"from": [0], "to": [width], "axis": [1], "times": [1, 24 // width]}
        nodes = [
            helper.make_node("Flatten", ["x"], ["flat"], axis=1),
            helper.make_node("Cast", ["flat"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Slice", ["cast", "from", "to", "axis"], ["part"]),
            helper.make_node("Tile", ["part", "times"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 24])],
            [helper.make_tensor(k, TensorProto.INT64, [len(v)], v) for k, v in edges.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def _estimator(folder: Path) -> Path:
    import transformers

    tower = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = transformers.DPTConfig(
        **tower,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8] * 4,
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    transformers.DPTForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def _results(root: Path, made: dict[str, Kind]) -> None:
    """What earlier runs left: a report with its outcomes, the journal of one that ended, the history."""
    root.mkdir(parents=True)
    runs = [a_run(figures(answers(share))) for share in (0.8, 0.7)]
    kept(root / "history.sqlite", *runs)
    with History(root / "history.sqlite") as history:
        exported = json.dumps(history.document(1))
    (root / "run.json").write_text(exported)
    (root / "other.json").write_text(exported)
    sound = of_file(root / "other.json")
    made["report"] = Kind(root / "run.json", lambda path: compare(of_file(path), sound))
    unfinished = journal.Journal(root / "left.json")
    unfinished.add(runs[0].records)
    unfinished.leave()
    made["journal"] = Kind(unfinished.path, _continued)
    made["history"] = Kind(root / "history.sqlite", _history)


def _continued(path: Path) -> None:
    # A run beside it must start, and leaves what it cannot read.
    journal.Journal(path.with_name(path.name.removesuffix(".unfinished"))).leave()


def _history(path: Path) -> None:
    with History(path) as history:
        for entry in history.entries():
            history.run(entry.number)


def _pictures(root: Path, made: dict[str, Kind]) -> None:
    root.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    for ending in ("png", "jpg", "webp", "bmp", "tiff", "gif", "jp2", "ppm", "avif"):
        if f".{ending}" in Image.registered_extensions():
            picture.save(root / f"a.{ending}")
            made[f"picture-{ending}"] = Kind(root / f"a.{ending}", read_image)
    picture.convert("P").save(root / "palette.png", transparency=bytes(range(200)))
    Image.fromarray(pixels[..., 0] / np.float32(255)).save(root / "float.tif")
    picture.convert("CMYK").save(root / "cmyk.jpg", progressive=True)
    for name in ("palette.png", "float.tif", "cmyk.jpg"):
        made[f"picture-{name.partition('.')[0]}"] = Kind(root / name, read_image)
    for name in ("cat", "dog"):
        (root / "classes" / name).mkdir(parents=True)
        picture.save(root / "classes" / name / "a.png")
    (root / "classes" / "classes.txt").write_text("cat\ta cat\ndog\ta dog\n")
    made["class-names"] = Kind(root / "classes" / "classes.txt", _classes)
    _classes(root / "classes" / "classes.txt")
    (known,) = (root / "known").iterdir()
    made["known-digests"] = Kind(known, lambda path: _classes(root / "classes" / "classes.txt"))
    Image.fromarray(pixels[..., 0].astype(np.uint16)).save(root / "depth.png")
    np.save(root / "depth.npy", pixels[..., 0].astype(np.float32))
    for ending in ("png", "npy"):
        made[f"depth-{ending}"] = Kind(root / f"depth.{ending}", read_depth)
    (root / "depth.json").write_text(json.dumps({"kind": "metric", "png_scale": 0.001}))
    made["depth-settings"] = Kind(root / "depth.json", lambda path: DepthFiles(path.parent))
    if importlib.util.find_spec("OpenEXR"):
        import OpenEXR

        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        depth = pixels[..., 0].astype(np.float32)
        OpenEXR.File(header, {"Z": OpenEXR.Channel(depth)}).write(str(root / "depth.exr"))
        made["depth-exr"] = Kind(root / "depth.exr", read_depth)


def _laid_out(layout: str, up: int = 0) -> Callable[[Path], None]:
    """Return what reads a file of a layout: the whole data set, whose root lies ``up`` folders above."""

    def read(path: Path) -> None:
        root = path if up == 0 else path.parents[up - 1]
        data = load_dataset(f"{layout}:{root}", size=8)
        data.load(range(min(2, len(data))))

    return read


def _tables(root: Path, made: dict[str, Kind]) -> None:
    """Lists that say which pictures there are, and what they show."""
    for name in ("a.jpg", "b.jpg", "images/a.jpg", "images_largescale/o/a.jpg", "val2017/a.jpg"):
        picture(root / name)
    captions = {"filename": "a.jpg", "caption": "a cat", "negative_caption": "a dog"}
    box = {f"bbox_{side}": 4 for side in "xywh"}
    relation = {"image_path": "a.jpg", "true_caption": "a", "false_caption": "b", **box}
    pair = {"id": 1, "image_0": "a.png", "caption_0": "a b", "image_1": "a.png", "caption_1": "b a"}
    picture(root / "images" / "a.png")
    coco = {
        "images": [{"id": 42, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 42, "caption": "A cat."}],
    }
    rows = [{"image": f"{n}.jpg", "label": n, "caption": [n], "place": 3} for n in "ab"]
    settings = 'source = "."\ntemplates = ["a {}."]\nclasses = { a = "cat", b = ["dog"] }'
    for name, layout, up, content in (
        ("mine.csv", "manifest", 0, "image,label,unit\na.jpg,cat,1\nb.jpg,dog,2\n"),
        ("mine.jsonl", "manifest", 0, "".join(json.dumps(row) + "\n" for row in rows)),
        ("lists/imagenet/test_x.txt", "openood", 0, "o/a.jpg -1\n"),
        ("flickr30k_test_karpathy.txt", "flickr30k", 1, "image,caption\na.jpg,A cat.\n"),
        ("captions_val2014.json", "coco", 1, json.dumps(coco)),
        ("data/add_att.json", "sugarcrepe", 2, json.dumps({"0": captions})),
        ("visual_genome_relation.json", "aro", 1, json.dumps([relation])),
        ("examples.jsonl", "winoground", 1, json.dumps(pair) + "\n"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        made[f"list-{layout}-{path.suffix[1:]}"] = Kind(path, _laid_out(layout, up))
    for name in "ab":
        picture(root / "classes" / name / "a.png")
    (root / "classes" / "data.toml").write_text(f"[data]\n[data.clean]\n{settings}\n")
    made["data-toml"] = Kind(root / "classes" / "data.toml", _sources)
    (root / "templates.txt").write_text("a photo of a {}.\na {c}\n")
    made["templates"] = Kind(root / "templates.txt", read_templates)
    _truths(root / "truths", made)


def _sources(path: Path) -> None:
    for source in read_sources([str(path)]):
        load_source(source, size=8)


def _truths(root: Path, made: dict[str, Kind]) -> None:
    """What tells the classes of flat pictures, and CIFAR's records."""
    wnids = ("n01440764", "n15075141")
    kaggle, kit = flat_imagenet(root / "kaggle", wnids), flat_imagenet(root / "flat", wnids)
    solution = kaggle / "LOC_val_solution.csv"
    kaggle_solution(solution, wnids)
    made["truth-kaggle"] = Kind(solution, _laid_out("imagenet", 1))
    folder = kit / "ILSVRC2012_devkit_t12" / "data"
    devkit(folder, {wnid: number for number, wnid in enumerate(wnids, start=1)}, wnids)
    for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
        made[f"truth-{name[:4]}"] = Kind(folder / name, _laid_out("imagenet", 3))
    (root / "cifar").mkdir()
    records = b"".join(bytes([label]) + bytes(3072) for label in (0, 1))
    (root / "cifar" / "test_batch.bin").write_bytes(records)
    (root / "cifar" / "batches.meta.txt").write_text("cat\ndog\n")
    for name in ("test_batch.bin", "batches.meta.txt"):
        made[f"cifar-{name[:5]}"] = Kind(root / "cifar" / name, _laid_out("cifar10", 1))


def _shards(root: Path, made: dict[str, Kind]) -> None:
    """Shards of a web data set, and the lists beside them."""
    groups = io.BytesIO()
    np.save(groups, np.array([3, 1]))
    sample = {"png": encoded(1, "png"), "cls": b"1", "npy": groups.getvalue(), "txt": b"a cat"}
    shards(root, [sample, {**sample, "cls": b"0"}], each=2)
    (root / "classnames.txt").write_text("cat\ndog\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    (root / "dataset_type.txt").write_text("classification\n")
    names = ("classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt")
    for name in ("test/0.tar", "test/nshards.txt", *names):
        up = 2 if "/" in name else 1
        made[f"shards-{name[-9:-4].strip('/')}"] = Kind(root / name, _laid_out("wds", up))


def _multimodal(folder: Path, made: dict[str, Kind]) -> None:
    write_multimodal("llava", folder)
    for name in ("config", "generation_config", "model", "processor_config", "tokenizer"):
        ending = "safetensors" if name == "model" else "json"
        made[f"multimodal-{name}"] = Kind(
            folder / f"{name}.{ending}",
            lambda path: load_multimodal(str(path.parent), device=torch.device("cpu")),
        )


# --- Damage ----------------------------------------------------------------------------------------

_LENGTHS = [
    (value % 2 ** (8 * size)).to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for order in ("little", "big")
    for value in (0, 1, -1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, 2 ** (4 * size))
]

_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**40, 10**7, -(2**63), 0.5, 1e300, float("inf")),
    *(float("nan"), "", "x", "../../etc/passwd", "hf-hub:a/b", "x" * 5000, "\x1b[2J", "\0", "é中"),
    *([], {}, [1], [1] * 5000, {"a": 1}, [[[[[[[[[[1]]]]]]]]]]),
]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return a file with one to four kinds of damage."""
    text = content.lstrip()[:1] in (b"{", b"[")
    if text and chance.random() < 0.01:
        return b"[" * 100_000
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if text and chance.random() < 0.8:
            try:
                content = json.dumps(_changed(json.loads(content), chance)).encode()
                continue
            except ValueError:
                pass
        content = _bytes_changed(content, chance)
    return content


def _changed(value: Any, chance: random.Random) -> Any:
    """Replace, remove, rename or add one value, wherever it stands."""
    holders = [value]
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [part for part in inner if isinstance(part, dict | list)][:50]
        if len(holders) > 200:
            break
    holder = chance.choice(holders)
    new = copy.deepcopy(chance.choice(_VALUES))
    if isinstance(holder, list):
        if holder and chance.random() < 0.7:
            holder[chance.randrange(len(holder))] = new
        else:
            holder.append(new)
        return value
    if not holder or chance.random() < 0.1:
        holder[chance.choice(["x", "auto_map", "quantization_config", "layers", "", "\x1b"])] = new
        return value
    key = chance.choice(list(holder))
    action = chance.random()
    if action < 0.7:
        holder[key] = new
    elif action < 0.85:
        del holder[key]
    else:
        holder[f"{key}_"] = holder.pop(key)
    return value


def _bytes_changed(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return bytes(chance.randrange(256) for _ in range(8))
    made = bytearray(content)
    # Headers stand at the front, or (of a zip) at the back.
    near = min(len(made), 200)
    place = chance.choice(
        [
            chance.randrange(len(made)),
            chance.randrange(near),
            len(made) - 1 - chance.randrange(near),
        ]
    )
    action = chance.randrange(6)
    if action == 0:
        made[place] ^= 1 << chance.randrange(8)
    elif action == 1:
        del made[place:]
    elif action == 2:
        length = chance.choice(_LENGTHS)
        made[place : place + len(length)] = length
    elif action == 3:
        del made[place : place + chance.choice((1, 4, 64, 1000))]
    elif action == 4:
        made[place:place] = made[place : place + chance.choice((1, 16, 500))]
    else:
        made[place] = chance.randrange(256)
    return bytes(made)


# --- One try ---------------------------------------------------------------------------------------


@contextmanager
def watched() -> Iterator[None]:
    """Raise :class:`TooLong` after :data:`SECONDS`, and an error for any connection."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise TooLong

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a file asked for a connection")

    connect, before = socket.socket.connect, signal.signal(signal.SIGALRM, stop)
    socket.socket.connect = refuse  # type: ignore[method-assign]
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        socket.socket.connect = connect  # type: ignore[method-assign]


def attempt(kind: Kind, seed: int) -> str | None:
    """Damage a file of a kind and read it; return what went wrong, or None.

    The sound file is there again afterwards.
    """
    sound = kind.path.read_bytes()
    chance = random.Random(seed)
    outside = kind.path.is_relative_to(ROOT)
    before = memory_at_rest()
    path = Path(tempfile.mkdtemp()) / kind.path.name if outside else kind.path
    path.write_bytes(damaged(sound, chance))
    try:
        with watched(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(path)
    except UserCodeError:
        return traceback.format_exc(limit=-6)  # no code here is a user's
    except ClipRobustError as error:
        told = str(error)
        odd = [c for c in told if not c.isprintable()]
        if odd or len(told) > 2000:
            return f"a message of {len(told)} letters, with {odd[:3]!r}: {told[:200]!r}"
    except TooLong:
        return f"more than {SECONDS} s"
    except BaseException:
        return traceback.format_exc(limit=-6)
    finally:
        if outside:
            path.unlink()
            path.parent.rmdir()
        else:
            path.write_bytes(sound)
    grown = most_memory() - before
    return f"the process has grown by {grown:,} bytes" if grown > BYTES else None


def memory_at_rest() -> int:
    """Bytes that the process holds now; :func:`most_memory` counts from here on.

    What ran in the process before may have held more than any file here: only a peak that begins with the
    file says something of it. Where the system can't begin a new peak, growth beyond the old one is seen.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return most_memory()


def most_memory() -> int:
    """The most bytes that the process has held since :func:`memory_at_rest`."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")
    )


def main() -> int:
    """Run from the command line; the exit code is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="files (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first (default: 0)")
    parser.add_argument("--kind", action="append", help="only kinds whose name begins so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failures, slowest, peak, began = collections.Counter[str](), 0.0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        wanted = tuple(options.kind or [""])
        made = {n: k for n, k in kinds(Path(folder)).items() if n.startswith(wanted)}
        names = list(made)
        for seed in range(options.seed, options.seed + options.count):
            name = names[seed % len(names)]
            start = time.monotonic()
            wrong = attempt(made[name], seed)
            slowest, peak = max(slowest, time.monotonic() - start), max(peak, most_memory())
            if wrong:
                failures[name] += 1
                print(f"--- {name}, seed {seed}:\n{wrong}", flush=True)
    print(
        f"{options.count} files of {len(names)} kinds in {time.monotonic() - began:.0f} s, slowest "
        f"{slowest:.1f} s, {peak / 2**30:.2f} GiB at most: {sum(failures.values())} failures {dict(failures)}"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
