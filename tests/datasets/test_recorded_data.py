"""What is read of a small tree of each layout, whole and broken, as the record has it word for word.

That it is right is for the other tests to show. After a change that is meant, look at what differs in
``recorded.txt`` and record anew::

    RECORD=1 python -m pytest -q tests/datasets/test_recorded_data.py
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import layout_helpers as helpers
import numpy as np
import published_trees as trees
import pytest
import records
from layout_helpers import WNIDS, by_wnid, encoded, metadata, picture, shards, write_json

from pytest_cliprobust import cli
from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.provision import Provision
from pytest_cliprobust.datasets.registry import told_of
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.errors import ClipRobustError

pytestmark = pytest.mark.floors

RECORD = Path(__file__).with_name("recorded.txt")

PICTURES = (".jpg", ".jpeg", ".png", ".webp")

#: What a data set may say of each sample, and of itself.
OF_SAMPLES = ("units", "captions", "choices", "further_labels")
OF_ITSELF = (
    *("unit", "class_keys", "task", "subgroups", "own_classes", "label_mistake", "unreadable"),
    *("notes", "templates", "texts", "phrases", "negative_phrases", "limits", "limits_cm"),
    *("angle_edges", "restricted", "has_depth"),
)


# --- Trees -----------------------------------------------------------------------------------------


def folders(root: Path) -> Path:
    """Write a folder of three classes, one with a name of its own."""
    for seed, name in enumerate(("cat", "hot_dog", "n01440764")):
        for number in range(seed + 1):
            picture(root / name / f"{number}.png", 10 * seed + number)
    (root / "classes.txt").write_text("cat\ttabby cat\nhot_dog\thot dog\nn01440764\ttench\n")
    return root


def kaggle(root: Path) -> Path:
    """Write ImageNet's pictures in one folder, with Kaggle's truth."""
    classes = [WNIDS[5], WNIDS[0], WNIDS[2]]
    helpers.flat_imagenet(root / "val", classes)
    helpers.kaggle_solution(root / "LOC_val_solution.csv", classes)
    return root


def kit(root: Path) -> Path:
    """Write ImageNet's pictures in one folder, with the development kit's truth."""
    classes = [WNIDS[5], WNIDS[0], WNIDS[2]]
    helpers.flat_imagenet(root / "val", classes)
    numbers = {wnid: 500 - n for n, wnid in enumerate(WNIDS)}
    helpers.devkit(root / "ILSVRC2012_devkit_t12" / "data", numbers, classes)
    return root


def numbered(root: Path) -> Path:
    """Write ImageNet-V2's folders, called by numbers."""
    for seed, name in enumerate(("0", "2", "10", "999")):
        picture(root / name / "a.jpeg", seed)
    return root


def corrupted(root: Path) -> Path:
    """Write two corruptions at two severities."""
    for corruption in ("fog", "snow"):
        for severity in ("1", "5"):
            by_wnid(root / corruption / severity, WNIDS[:2], each=1)
    return root


def in_folders(root: Path, *paths: str) -> Path:
    """Write pictures at paths."""
    for seed, path in enumerate(paths):
        picture(root / path, seed)
    return root


def openood(root: Path) -> Path:
    """Write a list of OpenOOD with pictures of both of its folders."""
    in_folders(root, "images_largescale/ninco/a/x.jpg", "images_classic/texture/banded/y z.jpg")
    path = root / "benchmark_imglist" / "imagenet" / "test_both.txt"
    path.parent.mkdir(parents=True)
    path.write_text("ninco/a/x.jpg 999\ntexture/banded/y z.jpg -1\n")
    return path


def flickr(root: Path) -> Path:
    """Write two pictures of Flickr30k and their captions."""
    in_folders(root, "flickr30k-images/1007.jpg", "flickr30k-images/1009.jpg")
    (root / "flickr30k_test_karpathy.txt").write_text(
        "image,caption\n1007.jpg,A man, and a dog .\n1007.jpg,Two of them .\n1009.jpg,A cat .\n"
    )
    return root


def coco(root: Path) -> Path:
    """Write two pictures of COCO and their captions."""
    names = [f"COCO_val2014_0000000000{n}.jpg" for n in (42, 43)]
    in_folders(root, *(f"val2014/{name}" for name in names))
    told = [(43, "A dog."), (42, "A cat."), (42, " A black cat. ")]
    table = {
        "images": [{"id": n, "file_name": name} for n, name in zip((42, 43), names, strict=True)],
        "annotations": [{"id": i, "image_id": n, "caption": c} for i, (n, c) in enumerate(told)],
    }
    write_json(root / "annotations" / "captions_val2014.json", table)
    return root


def sugarcrepe(root: Path) -> Path:
    """Write two tables of SugarCrepe of two pictures."""
    in_folders(root, "val2017/a.jpg", "val2017/b.jpg")
    for table, first in (("add_att", "a"), ("swap_obj", "b")):
        entries = {
            str(n): {"filename": f"{name}.jpg", "caption": f"true {n}", "negative_caption": "false"}
            for n, name in enumerate((first, "a", "b"))
        }
        write_json(root / "data" / f"{table}.json", entries)
    return root


def aro(root: Path) -> Path:
    """Write both tables of ARO of two pictures."""
    in_folders(root, "images/1.png", "images/2.png")
    for table, name in (("relation", "relation_name"), ("attribution", "attributes")):
        entries = [
            {
                "image_id": n,
                "image_path": f"{n}.png",
                "true_caption": f"the a {n} the b",
                "false_caption": f"the b {n} the a",
                "bbox_x": 3 - n,
                "bbox_y": 4 - n,
                "bbox_w": 10 * n,
                "bbox_h": 12,
                name: "on" if table == "relation" else ["x"],
            }
            for n in (1, 2)
        ]
        write_json(root / f"visual_genome_{table}.json", entries)
    return root


def winoground(root: Path) -> Path:
    """Write two examples of Winoground."""
    entries = []
    for n, tag in ((7, "Object"), (8, "Relation")):
        in_folders(root, f"images/ex_{n}_img_0.png", f"images/ex_{n}_img_1.png")
        told = {f"image_{side}": f"ex_{n}_img_{side}" for side in "01"}
        entry = {"id": n, **told, "caption_0": f"a {n} b", "caption_1": f"b {n} a"}
        entries.append({**entry, "collapsed_tag": tag})
    (root / "examples.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    return root


def manifest(root: Path) -> Path:
    """Write a table with all columns that have a meaning, and one that has none."""
    in_folders(root, *(f"pictures/{name}.png" for name in "abcde"))
    path = root / "mine.csv"
    path.write_text(
        "image,label,class_name,unit,place,id,caption,negative_caption,kind\n"
        "pictures/a.png,n2,dog,u1,indoors,one,a dog,a cat,swap\n"
        "pictures/b.png,n10,cat,u1,outdoors,,a cat,a dog,swap\n"
        "pictures/c.png,n2,dog,u2,indoors,,two dogs,two cats,add\n"
        "pictures/d.png,,,u2,indoors,,nothing,a thing,add\n"
        "pictures/e.png,n2,dog,u3,outdoors,,a dog,no dog,negative\n"
    )
    return path


def cifar100(root: Path) -> Path:
    """Write the binary form of CIFAR-100's test split."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    inner = root / "cifar-100-binary"
    inner.mkdir(parents=True)
    rows = zip((1, 0, 1, 1), pixels, strict=True)
    (inner / "test.bin").write_bytes(b"".join(bytes([9, n]) + p.tobytes() for n, p in rows))
    (inner / "fine_label_names.txt").write_text("apple\naquarium_fish\n\n")
    return root


def idx(root: Path) -> Path:
    """Write IDX files with names of their classes."""
    root.mkdir(exist_ok=True)
    helpers.idx_files(root, count=12)
    (root / "classes.txt").write_text("".join(f"thing {n}\n" for n in range(10)))
    return root


def tars(root: Path) -> Path:
    """Write shards of classes, with a column of numbers and templates."""
    samples = [
        {
            ("webp", "png")[n % 2]: encoded(n, ("webp", "png")[n % 2]),
            **({"cls": str(n % 2).encode()} if n != 3 else {}),
            "npy": metadata(3, n),
        }
        for n in range(5)
    ]
    shards(root, samples, each=2)
    (root / "classnames.txt").write_text("cat\nhot_dog\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n{c}!\n")
    return root


def captions(root: Path) -> Path:
    """Write shards of pictures with captions."""
    samples = [{"png": encoded(n, "png"), "txt": f"one {n}\ntwo {n}\n".encode()} for n in range(3)]
    shards(root, samples, each=2)
    (root / "dataset_type.txt").write_text("retrieval\n")
    return root


def several(root: Path) -> Path:
    """Write shards whose samples have several labels."""
    marks = ([0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1])
    return trees.several_labels(root, marks, ("cat", "dog", "person"))


def task(name: str) -> Callable[[Path], Path]:
    """Return what writes DataComp's pack and returns the folder of one task."""
    return lambda root: helpers.datacomp_pack(root) / f"wds_{name}_test"


#: Layout and role, what writes the tree, and whether its breakages are recorded.
TREES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "imagefolder": ("clean=imagefolder", folders),
    "imagenet": ("clean=imagenet", lambda root: by_wnid(root / "val", WNIDS, each=2).parent),
    "imagenet kaggle": ("clean=imagenet", kaggle),
    "imagenet kit": ("clean=imagenet", kit),
    "imagenet-v2": ("shift=imagenet-v2", numbered),
    "imagenet-r": ("shift=imagenet-r", lambda root: by_wnid(root, WNIDS[1:5:3])),
    "imagenet-a": ("shift=imagenet-a", lambda root: by_wnid(root, WNIDS[2:4], each=1)),
    "imagenet-sketch": ("shift=imagenet-sketch", lambda root: by_wnid(root / "sketch", WNIDS[:3])),
    "imagenet-o": ("near_ood=imagenet-o", lambda root: by_wnid(root, ["n01443537", "n99999999"])),
    "imagenet-c": ("corrupted=imagenet-c", corrupted),
    "imagenet-3dcc": ("corrupted=imagenet-3dcc", corrupted),
    "imagenet-x": ("factors=imagenet-x", trees.imagenet_x),
    "imagenet-d": ("factors=imagenet-d", trees.imagenet_d),
    "laion-c": ("corrupted=laion-c", trees.laion_c),
    "objectnet": ("shift=objectnet", trees.objectnet),
    "scam": ("typographic=scam", trees.scam),
    "textures": (
        "far_ood=textures",
        lambda root: in_folders(root, "images/banded/a.jpg", "images/zigzagged/b.jpg"),
    ),
    "ninco": (
        "near_ood=ninco",
        lambda root: in_folders(root, "NINCO_OOD_classes/amphiuma_means/a.jpeg"),
    ),
    "mos": (
        "far_ood=mos",
        lambda root: in_folders(root / "SUN", "images/a.jpg", "images/b.jpg"),
    ),
    "openood": ("near_ood=openood", openood),
    "cue-conflict": (
        "cue_conflict=cue-conflict",
        lambda root: in_folders(
            root, "cat/cat1-elephant3.png", "cat/cat2-cat1.png", "dog/dog7-cat1.png"
        ),
    ),
    "flickr30k": ("retrieval=flickr30k", flickr),
    "coco": ("retrieval=coco", coco),
    "sugarcrepe": ("compositional=sugarcrepe", sugarcrepe),
    "aro": ("compositional=aro", aro),
    "winoground": ("compositional=winoground", winoground),
    "negbench": ("compositional=negbench", lambda root: trees.negbench(root)[0]),
    "negbench captions": ("retrieval=negbench", lambda root: trees.negbench(root)[1]),
    "mmvp": ("compositional=mmvp", trees.mmvp),
    "manifest": ("clean=manifest", manifest),
    "manifest choices": ("compositional=manifest", manifest),
    "cifar10": ("clean=cifar10", lambda root: trees.cifar10(root, [3, 0, 3, 9])),
    "cifar100": ("clean=cifar100", cifar100),
    "cifar10-c": ("corrupted=cifar10-c", lambda root: trees.cifar_c(root / "c", [3, 0])),
    "cifar100-c": ("corrupted=cifar100-c", lambda root: trees.cifar_c(root / "c", [3, 70])),
    "idx": ("clean=idx", idx),
    "mnist": ("clean=mnist", idx),
    "fashion-mnist": ("clean=fashion-mnist", idx),
    "wds": ("clean=wds", tars),
    "wds captions": ("retrieval=wds", captions),
    "wds several labels": ("clean=wds", several),
    "datacomp plain": ("tasks=datacomp", task("vtab-pets")),
    "datacomp groups": ("tasks=datacomp", task("wilds-fmow")),
    "datacomp macro": ("tasks=datacomp", task("wilds-iwildcam")),
    "datacomp streets": ("tasks=datacomp", task("dollar_street")),
    "datacomp faces": ("tasks=datacomp", task("fairface")),
    "pictures": ("unlabelled=pictures", lambda root: in_folders(root, "a.jpg", "b/c.png")),
    "spair-71k": ("semantic_correspondence=spair-71k", helpers.spair_tree),
    "navi": (
        "correspondence=navi",
        lambda root: helpers.navi_tree(root / "navi_v1", objects=("dino",)),
    ),
    "scannet": (
        "correspondence=scannet",
        lambda root: helpers.scannet_tree(root, scenes=1),
    ),
}

#: Whose pictures take their time.
HEAVY = ("navi", "scannet")


# --- What is told ----------------------------------------------------------------------------------


def short(value: Any) -> str:
    """Return a value in one line, a long sequence by its ends."""
    if isinstance(value, tuple | list) and len(value) > 12:
        return f"{value[:2]!r} … {value[-1]!r} ({len(value)})"
    return repr(value)


def rows_of(data: Any, rows: range) -> Iterator[str]:
    """Yield one line of each sample."""
    for row in rows:
        label = data.labels[row]
        name = data.class_names[label] if label >= 0 and len(data.class_names) > label else "-"
        parts = [f"{data.ids[row]}: {label} {name}"]
        parts += [f"{column} {values[row]!r}" for column, values in data.groups.items()]
        for attribute in OF_SAMPLES:
            values = getattr(data, attribute, ())
            if values and values[row] != data.ids[row]:
                parts.append(f"{attribute} {values[row]!r}")
        yield "; ".join(parts)


def told(data: Any, shown: int = 8) -> list[str]:
    """Return what a data set says of itself and of its first samples."""
    digests = getattr(data, "sample_digests", ())
    lines = [
        f"name {data.name}, {len(data)} samples, {len(set(digests))} different",
        f"classes {short(data.class_names)}, labels {short(tuple(sorted(set(data.labels))))}",
    ]
    for attribute in OF_ITSELF:
        value = getattr(data, attribute, None)
        if value not in (None, (), "", False):
            lines.append(f"{attribute} {short(value)}")
    return [*lines, *rows_of(data, range(min(shown, len(data))))]


def seen(data: Any) -> Iterator[str]:
    """Yield how bright the first and the last sample are, and what else comes with them."""
    batch = data.load([0, len(data) - 1])
    for number, image in enumerate(batch.images):
        means = " ".join(f"{value:.3f}" for value in (image.float() / 255).mean((1, 2)).tolist())
        corner = (image[:, 0, 0].float() / 255).mean()
        yield f"picture {batch.ids[number]}: {tuple(image.shape)}, means {means}, corner {corner:.2f}"
    for name, values in (("depth", batch.depth), ("mask", batch.mask), *batch.extras.items()):
        if values is not None:
            yield f"with {name} {tuple(values.shape)} of mean {values.double().mean():.3f}"


def linked(data: Any) -> Iterator[str]:
    """Yield what corresponds in the first and the last pair."""
    pairs = data.load_pairs([0, len(data) - 1])
    for name, links in zip(pairs.first.ids, pairs.links, strict=True):
        parts = [f"scale {links.scale:.3f}"]
        for part in ("points", "truth", "candidates", "truth_3d", "candidates_3d"):
            value = getattr(links, part)
            if value is not None:
                means = " ".join(f"{v:.3f}" for v in value.double().mean(0).tolist())
                parts.append(f"{part} {len(value)} about {means}")
        yield f"pair {name}: {', '.join(parts)}"


class Tree:
    """One tree of a layout, which is loaded, broken and mended again.

    Args:
        key: of :data:`TREES`.
        root: an empty folder.
    """

    def __init__(self, key: str, root: Path) -> None:
        given, write = TREES[key]
        self.root = root
        (root / "data").mkdir()
        self.path = write(root / "data")
        self.role, self.layout = given.split("=")
        self.slow = key in HEAVY

    def plain(self, text: str) -> str:
        """Return a text without the paths of this machine."""
        text = text.replace(str(self.path), "PATH").replace(str(self.root / "data"), "ROOT")
        text = text.replace(str(self.root), "AROUND")
        # What other libraries say differs from version to version.
        text = re.sub(r"\((?:\w*Error|BadZipFile): .*?\)(?=[;,.]|$)", "(…)", text)
        return re.sub(r"\((?:Truncated File|image file is trunc)[^)]*\)", "(truncated)", text)

    def load(self, limit: int | None = None, size: int = 16) -> Any:
        return load_dataset(f"{self.layout}:{self.path}", limit=limit, size=size)

    def tried(self, change: Callable[[], object] | None = None) -> Any:
        """Return the data set, or its mistake in one line."""
        try:
            return self.load() if change is None else change()
        except ClipRobustError as error:
            return f"{type(error).__name__}: {error}"

    def whole(self) -> Iterator[str]:
        """Yield what is read of the tree as it is."""
        data = self.load()
        yield from told(data)
        for limit in (1, 3):
            part = self.load(limit)
            same = "the first" if part.ids == data.ids[: len(part)] else "others"
            yield f"limit {limit}: {len(part)} samples, {same}: {short(part.ids)}"
        other = self.load(size=8)
        yield (
            f"of another size: digest {'as before' if other.digest == data.digest else 'another'}, "
            + (
                f"content {'as before' if other.content == data.content else 'another'}"
                if hasattr(data, "content")
                else "no content"
            )
        )
        yield from linked(data) if hasattr(data, "load_pairs") else seen(data)

    def prepared(self) -> Iterator[str]:
        """Yield what it becomes beside six classes of ImageNet, in its role."""
        clean = by_wnid(self.root / "clean" / "val", WNIDS)
        given = [f"clean=imagenet:{clean}"] if self.role != "clean" else []
        provider = provider_of(read_sources([*given, f"{self.role}={self.layout}:{self.path}"]))
        notes: list[str] = []
        provision = Provision(provider, size=16, notes=notes)
        for key in provider.sets.get(self.role, ()):
            data = self.tried(partial(provision.dataset, key))
            if isinstance(data, str):
                yield f"played: {data}"
                continue
            yield from (f"played: {line}" for line in told(data, shown=3))
            yield f"played: head rows {short(getattr(data, 'head_rows', None))}"
        yield from (f"noted: {note}" for note in notes)

    def checked(self) -> Iterator[str]:
        """Yield what ``cliprobust data check`` prints."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = cli.main(["data", "check", f"{self.role}={self.layout}:{self.path}"])
        for line in out.getvalue().splitlines():
            yield "check: " + line.partition(", digest ")[0]
        yield f"check: status {status}"

    def change(self, name: str, before: Any) -> str:
        """Return what differs from the whole tree, once something of it is broken."""
        now = self.tried()
        if isinstance(now, str):
            return f"{name}: {now}"
        different = [
            attribute
            for attribute in ("ids", "labels", "class_names", "groups", *OF_SAMPLES, *OF_ITSELF)
            if getattr(now, attribute, None) != getattr(before, attribute, None)
        ]
        different += ["digest"] if now.digest != before.digest else []
        notes = [*getattr(now, "notes", ())] if "notes" in different else []
        loaded = self.tried(lambda: now.load(range(min(len(now), 12))))
        told = [f"{len(now)} samples", f"other {', '.join(different) or 'nothing'}", *notes]
        bad = now.unreadable if getattr(now, "unreadable", None) else None
        return f"{name}: " + "; ".join(
            [*told, *([bad] if bad else []), *([loaded] if isinstance(loaded, str) else [])]
        )

    def broken(self) -> Iterator[str]:
        """Yield what is said of the tree without one file, or with one that is empty, cut or doubled."""
        before = self.load()
        files = sorted(p for p in (self.root / "data").rglob("*") if p.is_file())
        kinds: dict[str, Path] = {}
        for file in files:
            if self.path.is_dir() and not file.is_relative_to(self.path):
                continue
            picture = file.suffix.lower() in PICTURES
            kinds.setdefault(f"picture in {file.parent}" if picture else str(file), file)
        chosen = [f for f in kinds.values() if f.suffix.lower() not in PICTURES][:4]
        chosen += [f for f in kinds.values() if f.suffix.lower() in PICTURES][:1]
        for file in chosen:
            content = file.read_bytes()
            name = file.relative_to(self.root / "data").as_posix()
            for how, changed in breakages(file, content).items():
                if changed is None:
                    file.unlink()
                else:
                    file.write_bytes(changed)
                yield self.change(f"{name} {how}", before)
                file.write_bytes(content)
            other = file.with_name(f"other-{file.name}")
            shutil.copyfile(file, other)
            yield self.change(f"{name} twice", before)
            other.unlink()
        for folder in sorted({f.parent for f in files} - {self.root / "data", self.path})[:2]:
            aside = folder.with_name("aside")
            folder.rename(aside)
            yield self.change(f"{folder.relative_to(self.root / 'data')} renamed", before)
            aside.rename(folder)

    def all(self) -> list[str]:
        """Return everything that is recorded of the tree."""
        lines = [*self.whole(), *self.prepared(), *self.checked()]
        return [self.plain(line) for line in (*lines, *self.broken())]


def breakages(file: Path, content: bytes) -> dict[str, bytes | None]:
    """Return what becomes of a file, by the word for it; None where it is gone."""
    found: dict[str, bytes | None] = {
        "missing": None,
        "empty": b"",
        "cut": content[: len(content) // 2],
    }
    if file.suffix in (".csv", ".txt", ".jsonl"):
        lines = content.splitlines(keepends=True)
        found["with its last line twice"] = content + lines[-1]
        found["without its first line"] = b"".join(lines[1:])
        found["with a line of commas"] = content + b",,,\n"
        found["in Latin-1"] = content + b"\xe9\n"
    if file.suffix in (".json", ".jsonl"):
        found["as a list"] = b"[1]\n"
        found["as a table"] = b'{"a": 1}\n'
    if file.suffix.lower() in PICTURES:
        found["of another kind"] = b"no picture at all"
    return found


def recorded(key: str) -> list[str]:
    """Return what is recorded of one tree, in a folder that is called the same on each machine."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "there"
        root.mkdir()
        return Tree(key, root).all()


@pytest.mark.parametrize("key", TREES)
def test_what_is_read_is_what_the_record_says(key: str) -> None:
    records.check(RECORD, TREES, key, recorded(key))


def test_every_layout_has_a_tree() -> None:
    from pytest_cliprobust.datasets.registry import LAYOUTS

    kept = records.sections(RECORD.read_text(encoding="utf-8"))
    assert [*kept] == [*TREES]
    # Those of the hub and of saved data sets need a server or another library.
    ours = {name for name in LAYOUTS if told_of(name) and name not in ("hub", "hf")}
    assert {given.split("=")[1] for given, _ in TREES.values()} >= ours
