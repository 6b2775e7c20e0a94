"""Twins of models, against their parents: int8, compiled, exported to ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Sessions
from model_helpers import write_folder, write_tokenizer
from torch import Tensor, nn

from pytest_cliprobust.errors import ClipRobustError, NotRun, Unavailable
from pytest_cliprobust.search.apgd import adversarial_accuracy
from pytest_cliprobust.targets import twins
from pytest_cliprobust.targets.loading import load_target

#: Too long for the tight loop, but run with the lowest versions of those libraries.
pytestmark = pytest.mark.floors

TEXTS = ["a cat", "two red cars", "a very long caption", "a cat"]


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("twins") / "vit")


def pixels_of(target: Any, count: int = 5) -> Tensor:
    torch.manual_seed(1)
    pixels: Tensor = target.preprocess(torch.rand(count, 3, *target.image_size))
    return pixels


def refused(name: str) -> str:
    with pytest.raises(ClipRobustError) as caught:
        load_target(name, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


# --- int8 -------------------------------------------------------------------------------------------


def test_an_int8_twin_is_near_its_parent_and_not_it(vit: Path) -> None:
    parent, twin = (load_target(f"{vit}{suffix}", device="cpu") for suffix in ("", "@int8"))
    pixels = pixels_of(parent)
    for ours, theirs in (
        (twin.encode_image(pixels), parent.encode_image(pixels)),
        (twin.encode_text(TEXTS), parent.encode_text(TEXTS)),
    ):
        cosines = (ours * theirs).sum(dim=1)
        assert float(cosines.min()) > 0.99
        assert float((ours - theirs).abs().max()) > 1e-4
    assert twin.info.digest not in (parent.info.digest, "")
    assert twin.info.notes[-1].startswith("int8: 24 linear layers quantised, with 57%")
    assert (twin.logit_scale, twin.image_size) == (parent.logit_scale, parent.image_size)
    # The same weights as another model's twin: another identity, and the parent's own is unchanged.
    assert load_target(f"{vit}@int8", device="cpu").info.digest == twin.info.digest
    assert load_target(str(vit), device="cpu").info.digest == parent.info.digest
    dense: Any = twin
    assert dense.dense_features(pixels).shape == (5, 32, 4, 4)
    own: Any = parent
    values, theirs = (target.dense_features(pixels, layer="values") for target in (dense, own))
    assert 0 < float((values - theirs).norm() / theirs.norm()) < 0.05
    assert dense.local_features(pixels).shape == (5, 16, 24)


def test_an_int8_twin_leaves_the_model_that_it_is_made_of(vit: Path) -> None:
    parent: Any = load_target(str(vit), device="cpu")
    pixels = pixels_of(parent)
    before = parent.encode_image(pixels)
    twin = twins.twin_of(parent, "int8", "twin")
    assert twin.info.name == "twin"
    assert torch.equal(parent.encode_image(pixels), before)
    parent.model = nn.Identity()
    with pytest.raises(ClipRobustError, match="no linear layers to quantise"):
        twins.twin_of(parent, "int8", "twin")


# --- torch.compile -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_compiled_twin_gives_its_parents_features(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "BACKEND", "aot_eager")
    parent, twin = (load_target(f"{vit}{suffix}", device="cpu") for suffix in ("", "@compile"))
    pixels = pixels_of(parent)
    first = twin.encode_image(pixels)
    torch.testing.assert_close(first, parent.encode_image(pixels), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        twin.encode_text(TEXTS), parent.encode_text(TEXTS), atol=1e-5, rtol=0
    )
    kept = first.clone()
    twin.encode_image(pixels.flip(0))
    assert torch.equal(first, kept)
    assert twin.info.digest != parent.info.digest
    assert "compiled by torch.compile" in twin.info.notes[-1]
    dense: Any = twin
    with pytest.raises(NotRun, match="gives its output alone"):
        dense.dense_features(pixels)
    with pytest.raises(NotRun, match="gives its output alone"):
        dense.local_features(pixels)


def test_a_compiler_that_fails_is_one_line(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no g++\nat all")

    monkeypatch.setattr(twins, "BACKEND", broken)
    twin = load_target(f"{vit}@compile", device="cpu")
    with pytest.raises(
        ClipRobustError, match=r"torch\.compile fails .*needs a C\+\+ compiler"
    ) as e:
        twin.encode_image(pixels_of(twin))
    assert "\n" not in str(e.value)


@pytest.mark.exhaustive
def test_a_twin_compiled_with_the_default_backend(vit: Path) -> None:
    parent, twin = (load_target(f"{vit}{suffix}", device="cpu") for suffix in ("", "@compile"))
    pixels = pixels_of(parent)
    torch.testing.assert_close(
        twin.encode_image(pixels), parent.encode_image(pixels), atol=1e-5, rtol=0
    )


# --- ONNX --------------------------------------------------------------------------------------------


class Exported(nn.Module):
    """One or both towers of a target, as an exporter sees them."""

    def __init__(self, target: Any, *towers: str) -> None:
        super().__init__()
        self.model, self.towers = target.model, towers
        self._target = [target]

    def forward(self, *inputs: Tensor) -> Any:
        found = []
        for tower, value in zip(self.towers, inputs, strict=True):
            target = self._target[0]
            features = (
                target._encode_image(value)
                if tower == "image"
                else target.encode_tokens({"input_ids": value})
            )
            found.append(features)
        return tuple(found)


def export(target: Any, path: Path, *towers: str, batch: int | None = None) -> None:
    """Write a graph with free batch dimensions, or one for ``batch`` rows."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = batch or 2
    inputs = {
        "image": ("pixel_values", torch.rand(rows, 3, *target.image_size)),
        "text": ("input_ids", target.tokens(["a cat"] * rows)["input_ids"]),
    }
    names = [inputs[tower][0] for tower in towers]
    outputs = [f"{tower}_embeds" for tower in towers]
    free = {} if batch else {name: {0: f"rows of {name}"} for name in (*names, *outputs)}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # exporters do not know it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Exported(target, *towers).eval(),
                tuple(inputs[tower][1] for tower in towers),
                str(path),
                input_names=names,
                output_names=outputs,
                dynamic_axes=free,
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@pytest.fixture(scope="module")
def exported(vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    target = load_target(str(vit), device="cpu")
    export(target, folder / "apart" / "onnx" / "vision_model.onnx", "image")
    export(target, folder / "apart" / "onnx" / "text_model.onnx", "text")
    export(target, folder / "both.onnx", "image", "text")
    export(target, folder / "fixed" / "image.onnx", "image", batch=2)
    export(target, folder / "fixed" / "words.onnx", "text", batch=3)
    return folder


@pytest.mark.parametrize("where", ["apart", "both.onnx", "fixed"])
def test_an_exported_twin_gives_its_parents_features(where: str, vit: Path, exported: Path) -> None:
    parent = load_target(str(vit), device="cpu")
    twin: Any = load_target(f"{vit}@onnx:{exported / where}", device="cpu")
    pixels = pixels_of(parent)
    torch.testing.assert_close(
        twin.encode_image(pixels), parent.encode_image(pixels), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        twin.encode_text(TEXTS), parent.encode_text(TEXTS), atol=1e-5, rtol=0
    )
    assert twin.info.digest != parent.info.digest
    assert "features by onnxruntime" in twin.info.notes[-1]
    assert twin.parent.model is None
    with pytest.raises(NotRun, match="gives its output alone"):
        twin.dense_features(pixels)
    images = torch.rand(2, 3, 32, 32)
    head = torch.nn.functional.normalize(torch.randn(3, 24), dim=1)
    with pytest.raises(NotRun, match="no gradient with respect to the image"):
        adversarial_accuracy(twin, head, images, torch.tensor([0, 1]), steps=1)


def test_other_graphs_have_another_identity(vit: Path, exported: Path, tmp_path: Path) -> None:
    digests = {
        load_target(f"{vit}@onnx:{exported / where}", device="cpu").info.digest
        for where in ("apart", "both.onnx", "fixed")
    }
    other = write_folder(tmp_path / "other", seed=5)
    digests.add(load_target(f"{other}@onnx:{exported / 'apart'}", device="cpu").info.digest)
    assert len(digests) == 4


def test_a_mask_is_given_where_a_graph_wants_one(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    config: dict[str, Any] = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 8, "patch_size": 8},
        "text_cfg": {
            "context_length": 12,
            "vocab_size": 40,
            "width": 8,
            "heads": 1,
            "layers": 1,
            "hf_tokenizer_name": "some/tokenizer",
        },
    }
    folder = write_folder(tmp_path / "vit", config)
    write_tokenizer(folder)
    helper, kinds = onnx.helper, onnx.TensorProto
    names = ("input_ids", "attention_mask")
    words = [helper.make_tensor_value_info(name, kinds.INT64, ["n", 12]) for name in names]
    nodes = [
        helper.make_node("Add", names, ["sum"]),
        helper.make_node("Cast", ["sum"], ["text_embeds"], to=kinds.FLOAT),
    ]
    features = [helper.make_tensor_value_info("text_embeds", kinds.FLOAT, ["n", 12])]
    write_graph(folder / "text.onnx", nodes, words, features)
    pixels = [helper.make_tensor_value_info("x", kinds.FLOAT, ["n", 3, 8, 8])]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Slice", ["flat", "from", "to", "axis"], ["y"]),
    ]
    edges = [
        helper.make_tensor(name, kinds.INT64, [1], [value])
        for name, value in (("from", 0), ("to", 12), ("axis", 1))
    ]
    features = [helper.make_tensor_value_info("y", kinds.FLOAT, ["n", 12])]
    write_graph(folder / "image.onnx", nodes, pixels, features, edges)
    parent: Any = load_target(str(folder), device="cpu")
    twin = load_target(f"{folder}@onnx:{folder}", device="cpu")
    ids = parent.tokens(TEXTS)["input_ids"]
    wanted = torch.nn.functional.normalize((ids + 1).float(), dim=1)
    torch.testing.assert_close(twin.encode_text(TEXTS), wanted)
    seen = pixels_of(twin)
    wanted = torch.nn.functional.normalize(seen.flatten(1)[:, :12], dim=1)
    torch.testing.assert_close(twin.encode_image(seen), wanted)


def write_graph(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Any = ()
) -> None:
    import onnx

    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())


def test_what_is_no_export_of_the_model_is_named(
    vit: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no ONNX graph or folder" in refused(f"{vit}@onnx:/no/such")
    assert "holds no .onnx graph" in refused(f"{vit}@onnx:{vit}")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07" + b"x" * 100)
    assert "cannot be used" in refused(f"{vit}@onnx:{tmp_path / 'bad.onnx'}")
    apart = exported / "apart" / "onnx"
    half = tmp_path / "half"
    half.mkdir()
    (half / "vision_model.onnx").write_bytes((apart / "vision_model.onnx").read_bytes())
    assert "0 of vision_model.onnx take tokens" in refused(f"{vit}@onnx:{half}")
    (half / "again.onnx").write_bytes((apart / "vision_model.onnx").read_bytes())
    assert "2 of again.onnx, vision_model.onnx take pictures" in refused(f"{vit}@onnx:{half}")
    (half / "third.onnx").write_bytes(b"")
    (half / "vision_model.onnx").unlink()
    (half / "fourth.onnx").write_bytes(b"")
    assert "too many graphs (again.onnx, fourth.onnx, third.onnx)" in refused(f"{vit}@onnx:{half}")
    other: dict[str, Any] = {
        "embed_dim": 20,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 8, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 814, "width": 8, "heads": 1, "layers": 1},
    }
    folder = write_folder(tmp_path / "other", other)
    assert "gives features (1, 24), and" in refused(f"{folder}@onnx:{apart}")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(Unavailable, match=r"pip install pytest-cliprobust\[onnx\]"):
        load_target(f"{vit}@onnx:{apart}", device="cpu")


def test_a_graph_reads_no_file_elsewhere(vit: Path, exported: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "secret").write_bytes(b"\0" * 4 * 3 * 32 * 32 * 24)
    for where in ("../secret", str(tmp_path / "secret")):
        folder = tmp_path / "graphs"
        folder.mkdir(exist_ok=True)
        helper, kinds = onnx.helper, onnx.TensorProto
        weight = onnx.TensorProto(
            name="w", data_type=kinds.FLOAT, dims=[3 * 32 * 32, 24], data_location=kinds.EXTERNAL
        )
        weight.external_data.add(key="location", value=where)
        pixels = [helper.make_tensor_value_info("x", kinds.FLOAT, ["n", 3, 32, 32])]
        features = [helper.make_tensor_value_info("y", kinds.FLOAT, ["n", 24])]
        nodes = [
            helper.make_node("Flatten", ["x"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ]
        write_graph(folder / "vision_model.onnx", nodes, pixels, features, [weight])
        text = exported / "apart" / "onnx" / "text_model.onnx"
        (folder / "text_model.onnx").write_bytes(text.read_bytes())
        assert "cannot be used" in refused(f"{vit}@onnx:{folder}")


# --- names -------------------------------------------------------------------------------------------


def test_twins_that_are_none(vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no twin 'int4' of a model. Did you mean 'int8'?" in refused("reference@int4")
    assert "a checkpoint called so is written reference@./fp16" in refused("reference@fp16")
    (tmp_path / "own_encoder.py").write_text(
        "import torch\nclass Encoder:\n    image_size = 8\n"
        "    def encode_image(self, x): return x.flatten(1)[:, :9]\n"
        "    def encode_text(self, t): return torch.tensor([[float(len(s))] + [1.0] * 8 for s in t])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "as its code is your own" in refused("own_encoder:Encoder@int8")


def test_a_twin_is_compared_with_its_parent_in_one_run(run: Sessions, vit: Path) -> None:
    suite = """
from pytest_cliprobust.properties import accuracy

def test_mine(clip, gate):
    gate(accuracy.accuracy_of(clip.on("clean")))
"""
    result = run(
        "--clip-model=reference@int8",
        "--clip-against=reference",
        "--clip-history=none",
        suite=suite,
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*reference@int8*", "*int8: 13 linear layers quantised*"])
