"""What graphs take and give, told from their inputs and outputs: no onnxruntime is needed for that."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets import graphs


def item(name: str, kind: str, *shape: Any) -> Any:
    return SimpleNamespace(name=name, type=f"tensor({kind})", shape=list(shape))


class Session:
    """A graph whose features are sums of what it is given."""

    def __init__(self, inputs: list[Any], outputs: list[Any]) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.given: list[dict[str, np.ndarray[Any, Any]]] = []

    def get_inputs(self) -> list[Any]:
        return self.inputs

    def get_outputs(self) -> list[Any]:
        return self.outputs

    def run(self, names: list[str], feeds: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
        assert names == ["image_embeds"]
        self.given.append(feeds)
        pixels = feeds["pixel_values"]
        return [pixels.reshape(len(pixels), -1).sum(axis=1, keepdims=True)]


PIXELS = item("pixel_values", "float", "batch", 3, 8, 8)
TOKENS = item("input_ids", "int64", "batch", 5)
MASK = item("attention_mask", "int32", "batch", 5)
IMAGE = item("image_embeds", "float", "batch", 4)
TEXT = item("text_embeds", "float", "batch", 4)


def test_a_tower_is_known_by_its_inputs() -> None:
    assert graphs._towers(Session([PIXELS], [])) == {"image"}
    assert graphs._towers(Session([TOKENS, MASK], [])) == {"text"}
    assert graphs._towers(Session([TOKENS, PIXELS], [])) == {"image", "text"}
    strange = [item("a", "int64", 1, 3, 8, 8), item("b", "float", 1, 5), item("c", "int32", 1)]
    assert graphs._towers(Session(strange, [])) == set()


@pytest.mark.parametrize(
    ("first", "rows"), [("batch", None), (None, None), (0, None), (-1, None), (1, 1), (7, 7)]
)
def test_a_fixed_number_of_rows(first: Any, rows: int | None) -> None:
    pixels = item("pixel_values", "float", first, 3, 8, 8)
    assert graphs._batch_of(Session([TOKENS, pixels], []), "image") == rows
    assert graphs._batch_of(Session([TOKENS, pixels], []), "text") is None
    assert graphs._fixed(pixels) == rows


def test_rows_that_a_graph_wants_beyond_those_that_there_are_repeat_the_last() -> None:
    value = torch.arange(6).view(3, 2)
    for rows, wanted in ((None, [0, 1, 2]), (2, [0, 1, 2]), (3, [0, 1, 2]), (5, [0, 1, 2, 2, 2])):
        found = graphs._as_array(value, TOKENS, rows)
        assert found.dtype == np.int64
        assert found.tolist() == value[wanted].tolist()
    with pytest.raises(ClipRobustError, match=r"input 'x' is a tensor\(string\); known are "):
        graphs._as_array(value, item("x", "string", 1), None)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ("a.onnx", "a.onnx"),
        ("a.onnx onnx/b.onnx", "a.onnx onnx/b.onnx"),
        ("v.onnx t.onnx a/b/c.onnx readme.md", "t.onnx v.onnx"),  # only one folder deep
        (
            "onnx/vision_model.onnx onnx/text_model.onnx onnx/vision_model_fp16.onnx onnx/model_q4.onnx",
            "onnx/text_model.onnx onnx/vision_model.onnx",
        ),
        ("a.onnx b.onnx c.onnx", "holds too many graphs (a.onnx, b.onnx, c.onnx); give one"),
        (
            " ".join(f"{n}.onnx" for n in range(7)),
            "too many graphs (0.onnx, 1.onnx, 2.onnx, 3.onnx, 4.onnx, 5.onnx); give",
        ),
        ("readme.md", "holds no .onnx graph; give one"),
    ],
)
def test_which_graphs_of_a_folder_are_taken(tmp_path: Path, files: str, found: str) -> None:
    for name in files.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if ";" in found:
        with pytest.raises(ClipRobustError) as caught:
            graphs._graphs_in(str(tmp_path))
        assert found in str(caught.value)
    else:
        assert graphs._graphs_in(str(tmp_path)) == [tmp_path / name for name in found.split()]


def test_a_graph_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    assert graphs._graphs_in(str(tmp_path / "a.onnx")) == [tmp_path / "a.onnx"]
    with pytest.raises(ClipRobustError, match="there is no ONNX graph or folder"):
        graphs._graphs_in(str(tmp_path / "none.onnx"))
    (tmp_path / "folder" / "x.onnx").mkdir(parents=True)
    with pytest.raises(ClipRobustError, match=r"ONNX graph .*x\.onnx is a folder, not a file"):
        graphs._graphs_in(str(tmp_path / "folder"))


def test_rows_in_slices() -> None:
    assert graphs._slices(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert graphs._slices(5, None) == [slice(0, 5)]
    assert graphs._slices(0, None) == []


def test_a_graph_of_three_rows_sees_three_of_them_and_the_last_again() -> None:
    pixels = torch.arange(7.0).view(7, 1, 1, 1).expand(7, 3, 8, 8)
    session: Any = Session(
        [item("pixel_values", "float16", 3, 3, 8, 8), TOKENS, MASK], [IMAGE, TEXT]
    )
    graph = graphs.Graphs.__new__(graphs.Graphs)
    graph.source, graph._image, graph._text = "here", session, session
    ids = torch.arange(15).view(3, 5)
    features = graph.encode_image(pixels, {"input_ids": ids})
    assert features.tolist() == [[192.0 * i] for i in range(7)]
    shown = [[float(picture.max()) for picture in feeds["pixel_values"]] for feeds in session.given]
    assert shown == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    for feeds in session.given:
        # Of the other tower one row will do; a text without a mask has no padding.
        assert feeds["input_ids"].tolist() == [[0, 1, 2, 3, 4]]
        assert feeds["attention_mask"].tolist() == [[1] * 5]
        assert [
            feeds[name].dtype.name for name in ("pixel_values", "input_ids", "attention_mask")
        ] == [*("float16", "int64", "int32")]


def test_texts_with_a_mask_take_their_own_rows() -> None:
    ids, mask = torch.arange(20).view(4, 5), torch.zeros(4, 5, dtype=torch.int64)
    session = Session([TOKENS, MASK, item("pixel_values", "double", 2, 3, 8, 8)], [])
    pixels = torch.ones(1, 3, 8, 8)
    feeds = graphs._feeds(
        session, "text", pixels, {"input_ids": ids, "attention_mask": mask}, slice(1, 3), None
    )
    assert feeds["input_ids"].tolist() == ids[1:3].tolist()
    assert feeds["attention_mask"].tolist() == mask[1:3].tolist()
    assert feeds["pixel_values"].shape == (2, 3, 8, 8)
    with pytest.raises(ClipRobustError, match=r"has an input 'odd' .* neither pictures nor tokens"):
        graphs._feeds(
            Session([item("odd", "float", 3)], []),
            "text",
            pixels,
            {"input_ids": ids},
            slice(1),
            None,
        )
    with pytest.raises(
        ClipRobustError, match=r"input 'x' is a tensor\(bfloat16\); known are tensor\(float\)"
    ):
        graphs._as_array(pixels, item("x", "bfloat16", 1, 3, 8, 8), None)


def test_features_are_called_as_exporters_call_them() -> None:
    state = item("last_hidden_state", "float", "batch", 5, 4)
    both = Session([PIXELS, TOKENS], [item("logits", "float", 1, 1), TEXT, IMAGE])
    assert graphs._output(both, "image", "x") == "image_embeds"
    assert graphs._output(both, "text", "x") == "text_embeds"
    pooled = item("pooled", "float", "batch", 4)
    assert graphs._output(Session([PIXELS], [state, pooled]), "image", "x") == "pooled"
    for inputs, outputs in (
        ([PIXELS], [pooled, item("other", "float", 1, 4)]),
        ([PIXELS], [state]),
        ([PIXELS, TOKENS], [pooled]),
    ):
        with pytest.raises(ClipRobustError, match="none is called image_embeds; export it"):
            graphs._output(Session(inputs, outputs), "image", "x")


def test_where_a_graph_runs() -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert graphs._provider(both, torch.device("cuda")) == "CUDAExecutionProvider"
    assert graphs._provider(both, torch.device("cpu")) == "CPUExecutionProvider"
    assert graphs._provider(both[1:], torch.device("cuda")) == "CPUExecutionProvider"


def test_a_digest_knows_the_graph_and_its_weights_and_nothing_else(tmp_path: Path) -> None:
    graph, weights = tmp_path / "vision.onnx", tmp_path / "vision.data"
    graph.write_bytes(b"graph")
    weights.write_bytes(b"weights")
    before = graphs._digest(graph)
    expected = hashlib.sha256()
    for file in (graph, weights):
        expected.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    assert before == expected.hexdigest()
    for name in ("README.md", "text.onnx", "tokenizer.json", "merges.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder").mkdir()
    assert graphs._digest(graph) == before
    weights.write_bytes(b"others")
    assert graphs._digest(graph) != before


def test_what_is_missing_or_too_much_is_named() -> None:
    graph = graphs.Graphs.__new__(graphs.Graphs)
    graph.source = "here"
    vision, text = Session([PIXELS], []), Session([TOKENS], [])
    paths = [Path("a.onnx"), Path("b.onnx")]
    assert graph._one([vision, text], paths, "image") is vision
    assert graph._one([vision, text], paths, "text") is text
    with pytest.raises(
        ClipRobustError, match=r"here: 2 of a.onnx, b.onnx take pictures \(B, 3, H, W\); give"
    ):
        graph._one([vision, vision], paths, "image")
    with pytest.raises(
        ClipRobustError, match=r"here: 0 of a.onnx, b.onnx take tokens \(N, L\); give"
    ):
        graph._one([vision, vision], paths, "text")


class Runtime:
    """What is used of onnxruntime."""

    __version__ = "9.9"

    def __init__(self, sessions: dict[str, Any], providers: tuple[str, ...] = ()) -> None:
        self.sessions, self.providers = sessions, providers
        self.opened: list[tuple[str, Any]] = []

    def get_available_providers(self) -> list[str]:
        return [*self.providers, "CPUExecutionProvider"]

    def SessionOptions(self) -> Any:  # noqa: N802
        return SimpleNamespace()

    def InferenceSession(  # noqa: N802
        self, path: str, options: Any, providers: list[str], enable_fallback: int
    ) -> Any:
        assert options.intra_op_num_threads == torch.get_num_threads()
        assert not enable_fallback
        self.opened.append((Path(path).name, providers))
        found = self.sessions[Path(path).name]
        if isinstance(found, Exception):
            raise found
        return found


def opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, device: str = "cpu"
) -> Any:
    for name in runtime.sessions:
        (folder / name).write_bytes(name.encode())
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return graphs.Graphs(str(folder), torch.device(device))


def test_the_graphs_of_a_folder_are_told_and_identified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, text = Session([PIXELS], [IMAGE]), Session([TOKENS], [TEXT])
    runtime = Runtime({"a.onnx": text, "b.onnx": vision}, ("CUDAExecutionProvider",))
    found = opened(tmp_path, monkeypatch, runtime)
    assert (found._image, found._text) == (vision, text)
    assert found.note == "features by onnxruntime 9.9 (CPUExecutionProvider) from a.onnx, b.onnx"
    assert runtime.opened == [(n, ["CPUExecutionProvider"]) for n in ("a.onnx", "b.onnx")]
    same = opened(tmp_path, monkeypatch, Runtime(dict(runtime.sessions)))
    assert same.identity == found.identity
    others = {found.identity}
    on_gpu = opened(tmp_path, monkeypatch, runtime, "cuda")
    assert "(CUDAExecutionProvider)" in on_gpu.note
    others.add(on_gpu.identity)
    runtime.__version__ = "10"
    others.add(opened(tmp_path, monkeypatch, runtime).identity)
    (tmp_path / "weights.data").write_bytes(b"x")
    others.add(opened(tmp_path, monkeypatch, runtime).identity)
    assert len(others) == 4
    runtime.sessions["b.onnx"] = RuntimeError("no protobuf")
    with pytest.raises(ClipRobustError, match=r"b\.onnx cannot be used \(.*no protobuf\); export"):
        opened(tmp_path, monkeypatch, runtime)


class Fails(Session):
    def __init__(self, error: Exception) -> None:
        super().__init__([PIXELS], [IMAGE])
        self.error = error

    def run(self, names: list[str], feeds: Any) -> list[Any]:
        raise self.error


def test_a_graph_that_fails_says_on_what_and_too_little_memory_is_told_as_such() -> None:
    graph: Any = graphs.Graphs.__new__(graphs.Graphs)
    graph.source = "here"
    graph._image = Fails(RuntimeError("bad shape"))
    pixels = torch.zeros(2, 3, 8, 8)
    told = r"here: the image graph fails on pixel_values \(2, 3, 8, 8\) \(.*bad shape\); export it"
    with pytest.raises(ClipRobustError, match=told):
        graph.encode_image(pixels, {})
    for error in (MemoryError("x"), RuntimeError("Failed to allocate memory: out of memory")):
        graph._image = Fails(error)
        with pytest.raises(torch.OutOfMemoryError):
            graph.encode_image(pixels, {})


def test_features_must_be_as_wide_as_the_parents() -> None:
    class Wide(Session):
        width = 0

        def run(self, names: list[str], feeds: Any) -> list[Any]:
            assert feeds.get("pixel_values", np.zeros((1, 3, 8, 6))).shape == (1, 3, 8, 6)
            return [np.zeros((1, self.width), np.float64)]

    parent: Any = SimpleNamespace(
        image_size=(8, 6),
        embed_dim=4,
        info=SimpleNamespace(name="theirs"),
        tokens=lambda texts: {"input_ids": torch.ones(len(texts), 5, dtype=torch.int64)},
    )
    graph: Any = graphs.Graphs.__new__(graphs.Graphs)
    graph.source = "here"
    for image, text, wrong in ((4, 4, ""), (5, 4, "image"), (4, 3, "text")):
        graph._image, graph._text = Wide([PIXELS], [IMAGE]), Wide([TOKENS], [TEXT])
        graph._image.width, graph._text.width = image, text
        if not wrong:
            graph.check(parent, "mine")
            continue
        given = max(image, text) if wrong == "image" else min(image, text)
        told = rf"mine: the {wrong} graph gives features \(1, {given}\), and 'theirs' has \(1, 4\)"
        with pytest.raises(ClipRobustError, match=told):
            graph.check(parent, "mine")
