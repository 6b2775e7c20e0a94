"""The zero-shot head: hand-computed weights, exact logits, clear messages for broken features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from pytest_cliprobust.engine import head
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import unit_rows


class Texts:
    """A text tower that looks prompts up, or hashes them into a fixed random vector."""

    def __init__(self, table: dict[str, list[float]] | None = None, width: int = 32) -> None:
        self.table = table
        self.width = width
        self.seen: list[str] = []

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.seen.extend(texts)
        if self.table is not None:
            return torch.tensor([self.table[text] for text in texts])
        rows = []
        for text in texts:
            seed = int.from_bytes(text.encode(), "big") % (2**61 - 1)
            vector = torch.randn(self.width, generator=torch.Generator().manual_seed(seed))
            rows.append(vector / vector.norm())
        return torch.stack(rows)


def test_class_weight_is_the_normalised_mean_of_normalised_embeddings() -> None:
    # The second template's embedding is longer, and must not weigh more for it.
    target = Texts({"a cat": [1.0, 0.0], "the cat": [0.0, 5.0]})
    weights = head.zero_shot_head(target, ["cat"], ["a {}", lambda name: f"the {name}"])
    assert weights.shape == (1, 2)
    assert weights.dtype == torch.float64
    np.testing.assert_allclose(weights.numpy(), [[np.sqrt(0.5), np.sqrt(0.5)]], atol=1e-15)


def test_several_texts_of_a_class_are_averaged_over_the_templates() -> None:
    target = Texts()
    classes = [("cat", "kitten", "tom"), ("dog",)]
    templates = ["a {}", "{}."]
    weights = head.zero_shot_head(target, classes, templates)
    for row, texts in enumerate(classes):
        prompts = [template.replace("{}", text) for template in templates for text in texts]
        mean = target.encode_text(prompts).double().mean(dim=0)
        np.testing.assert_allclose(weights[row], mean / mean.norm(), atol=1e-6)
    single = head.zero_shot_head(target, [("cat",), ("dog",)], templates)
    assert torch.equal(single, head.zero_shot_head(target, ["cat", "dog"], templates))


def test_classes_that_all_have_several_texts_keep_a_row_each() -> None:
    # Unit vectors at 0, 45, 90 and 270 degrees.
    target = Texts({"cat": [1.0, 0.0], "tom": [3.0, 3.0], "dog": [0.0, 2.0], "pug": [0.0, -1.0]})
    weights = head.zero_shot_head(target, [("cat", "tom"), ("dog", "tom")], ["{}"], distinct=False)
    angles = np.degrees(np.arctan2(*weights.numpy().T[::-1]))
    np.testing.assert_allclose(angles, [22.5, 67.5])
    with pytest.raises(ClipRobustError, match="class 1 cancel out"):
        head.zero_shot_head(target, [("cat", "tom"), ("dog", "pug")], ["{}"])


@pytest.mark.parametrize(
    ("at_once", "sizes"), [(None, [256, 44]), (1000, [300]), (7, [7] * 42 + [6])]
)
def test_many_prompts_are_encoded_in_parts(at_once: int | None, sizes: list[int]) -> None:
    class Counting(Texts):
        def encode_text(self, texts: Sequence[str]) -> Tensor:
            seen.append(len(texts))
            return super().encode_text(texts)

    target, seen = Counting(width=4), list[int]()
    if at_once is not None:
        target.at_once = at_once  # type: ignore[attr-defined]
    head.zero_shot_head(target, [f"thing {n}" for n in range(150)], ["a {}", "the {}"])
    assert seen == sizes


def test_prompts_that_are_no_classes_may_be_alike() -> None:
    class Constant(Texts):
        def encode_text(self, texts: Sequence[str]) -> Tensor:
            return torch.ones(len(texts), 2)

    target = Constant()
    with pytest.raises(ClipRobustError, match="cannot tell"):
        head.zero_shot_head(target, ["a", "b"], ["{}"])
    assert head.zero_shot_head(target, ["a", "b"], ["{}"], distinct=False).shape == (2, 2)


def test_head_matches_a_loop_over_classes_and_templates() -> None:
    target, labels = Texts(), [f"class {i}" for i in range(7)]
    templates = ["{}", "a photo of a {}.", "a drawing of a {}."]
    got = head.zero_shot_head(target, labels, templates).numpy()
    for row, label in zip(got, labels, strict=True):
        total = np.zeros(32)
        for template in templates:
            vector = Texts().encode_text([template.format(label)])[0].double().numpy()
            total += vector / np.linalg.norm(vector)
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-12)


def test_more_prompts_than_a_chunk_keep_their_order() -> None:
    labels = [f"thing {i}" for i in range(150)]
    heads = head.template_heads(Texts(width=4), labels, ["{}", "two {}"])
    assert heads.shape == (2, 150, 4)
    alone = head.template_heads(Texts(width=4), ["thing 149"], ["two {}"])
    np.testing.assert_allclose(heads[1, 149].numpy(), alone[0, 0].numpy(), atol=1e-12)


def test_duplicate_class_names_keep_a_row_each() -> None:
    weights = head.zero_shot_head(Texts(), ["crane", "maillot", "crane", "maillot"], ["a {}"])
    assert weights.shape[0] == 4
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_a_label_with_braces_is_taken_literally() -> None:
    assert head.render("a photo of {}.", "{0} {name}") == "a photo of {0} {name}."


@pytest.mark.parametrize(
    ("labels", "templates", "words"),
    [
        ([], ["{}"], "class name"),
        (["a"], [], "prompt template"),
        (["a"], ["a photo"], "no place for the class name"),
    ],
)
def test_impossible_heads_are_refused(labels: list[str], templates: list[str], words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        head.zero_shot_head(Texts(), labels, templates)


@pytest.mark.parametrize("broken", [[float("nan"), 1.0], [0.0, 0.0], [float("inf"), 0.0]])
def test_broken_text_embeddings_name_the_prompt(broken: list[float]) -> None:
    with pytest.raises(ClipRobustError, match="'a dog'"):
        head.zero_shot_head(Texts({"a cat": [1.0, 0.0], "a dog": broken}), ["cat", "dog"], ["a {}"])


def test_of_several_broken_embeddings_the_first_is_named() -> None:
    table = {"cat": [1.0, 0.0], "dog": [0.0, 0.0], "emu": [0.0, 0.0]}
    with pytest.raises(ClipRobustError, match="'dog'"):
        head.zero_shot_head(Texts(table), list(table), ["{}"])


def test_cancelling_templates_are_refused() -> None:
    with pytest.raises(ClipRobustError, match="cancel out"):
        head.zero_shot_head(Texts({"a": [1.0, 0.0], "not a": [-1.0, 0.0]}), ["a"], ["{}", "not {}"])


def _features(n: int, width: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    rows: np.ndarray = x / np.linalg.norm(x, axis=1, keepdims=True)
    return rows


def test_cosines_are_bit_identical_in_every_batch_order_and_layout() -> None:
    image, text = _features(130, 512, 0), _features(37, 512, 1)
    whole = head.cosine_similarities(image, text)
    for size in (1, 3, 64, 129):
        parts = [
            head.cosine_similarities(image[i : i + size], text) for i in range(0, len(image), size)
        ]
        assert np.array_equal(np.concatenate(parts), whole)
    order = np.random.default_rng(2).permutation(130)
    assert np.array_equal(head.cosine_similarities(image[order], text), whole[order])
    classes = np.random.default_rng(3).permutation(37)
    assert np.array_equal(head.cosine_similarities(image, text[classes]), whole[:, classes])
    # Not even the order of summation matters, so neither does the BLAS or its threads.
    width = np.random.default_rng(4).permutation(512)
    rows, columns = unit_rows(image), unit_rows(text)
    assert np.array_equal(rows[:, width] @ columns[:, width].T, whole)
    assert np.array_equal(head.cosine_similarities(torch.from_numpy(image), text), whole)


def test_cosines_are_accurate_to_a_ten_millionth() -> None:
    image, text = _features(50, 768, 5).astype(np.float64), _features(20, 768, 6).astype(np.float64)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    assert np.abs(head.cosine_similarities(image, text) - image @ text.T).max() < 1e-7


def test_cosines_end_at_one() -> None:
    features = _features(300, 16, 0)
    rounded = unit_rows(features, dataset="x")
    assert (rounded @ rounded.T).max() > 1  # by the rounding of features
    assert head.cosine_similarities(features, features).max() == 1
    assert head.cosine_similarities(features, -features).min() == -1


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_broken_features_name_data_set_and_sample(value: float) -> None:
    image = _features(5, 8, 0)
    image[3] = value
    with pytest.raises(ClipRobustError) as caught:
        head.cosine_similarities(
            image, _features(2, 8, 1), dataset="near_ood", ids=[f"img-{i}" for i in range(5)]
        )
    message = str(caught.value)
    assert "near_ood" in message
    assert "img-3" in message
    assert "\n" not in message


def test_features_of_another_model_are_refused() -> None:
    with pytest.raises(ClipRobustError, match="8 dimensions but text features 9"):
        head.cosine_similarities(_features(2, 8, 0), _features(2, 9, 0))


def test_logits_take_scale_and_bias() -> None:
    logits = head.zero_shot_logits([[0.25, -0.5]], 100.0, -10.0)
    np.testing.assert_array_equal(logits, [[15.0, -60.0]])
    np.testing.assert_array_equal(head.zero_shot_logits([[0.25]], 10.0), [[2.5]])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_logarithm_as_scale_is_refused(scale: float) -> None:
    with pytest.raises(ClipRobustError, match="not its logarithm"):
        head.zero_shot_logits([[0.5]], scale)


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-800.0, 800.0)),
    st.floats(-100.0, 100.0),
)
def test_probabilities_are_probabilities_and_softmax_ignores_a_bias(
    logits: np.ndarray, bias: float
) -> None:
    soft = head.probabilities(logits, "softmax")
    assert np.isfinite(soft).all()
    np.testing.assert_allclose(soft.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(head.probabilities(logits + bias, "softmax"), soft, atol=1e-9)
    sig = head.probabilities(logits, "sigmoid")
    assert ((sig >= 0) & (sig <= 1)).all()
    np.testing.assert_allclose(sig + head.probabilities(-logits, "sigmoid"), 1.0, atol=1e-12)


def test_sigmoid_probabilities_match_torch_and_need_not_sum_to_one() -> None:
    logits = np.array([[2.0, 2.0, -1.0]])
    got = head.probabilities(logits, "sigmoid")
    np.testing.assert_allclose(got, torch.sigmoid(torch.tensor(logits)).numpy(), atol=1e-15)
    assert got.sum() > 1.5


def test_nan_logits_are_refused() -> None:
    with pytest.raises(ClipRobustError, match="row 1"):
        head.probabilities([[0.0, 1.0], [np.nan, 0.0]])
