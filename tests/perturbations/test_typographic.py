"""Typographic attacks: rendering, placement, and the contract."""

from __future__ import annotations

import hashlib
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SIZES, Watch, check_result
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import random, registry
from pytest_cliprobust.perturbations import typographic as module

WORDS = ("dog", "espresso machine", "iPod", "black-and-white colobus monkey", "a")


@pytest.fixture(scope="module")
def stickers() -> torch.Tensor:
    return module.render_text(WORDS, 20)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, 48, 56, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3


SEEDS = torch.arange(5) * 31 + 5


def test_render_text_gives_letters_inside_the_sticker(stickers: torch.Tensor) -> None:
    assert stickers.shape[:2] == (5, 4)
    assert stickers.min() >= 0
    assert stickers.max() <= 1
    alpha = stickers[:, 3]
    assert (alpha.amax(dim=(1, 2)) == 1).all()
    border = torch.cat((alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]), dim=1)
    assert border.max() == 0
    ink = ((stickers[:, 0] < 0.2) & (alpha > 0.9)).sum(dim=(1, 2))
    outline = ((stickers[:, 0] > 0.9) & (alpha > 0.9)).sum(dim=(1, 2))
    assert (ink > 20).all()
    assert (outline > 20).all()
    assert ink[3] > ink[0] > ink[4]  # more letters, more ink
    # Centred: the blank columns left and right agree.
    for sticker in alpha:
        columns = sticker.amax(dim=0).nonzero().flatten()
        assert abs(int(columns[0]) - (sticker.shape[1] - 1 - int(columns[-1]))) <= 2


def test_render_text_card_and_colours() -> None:
    card = module.render_text(["cup"], 24, ink=(255, 0, 0), outline=None, card=(0, 0, 255))[0]
    blue = (card[2] > 0.9) & (card[0] < 0.1) & (card[3] == 1)
    red = (card[0] > 0.9) & (card[2] < 0.1) & (card[3] == 1)
    assert blue.sum() > red.sum() > 20
    bare = module.render_text(["cup"], 24, outline=None)[0]
    assert bare[:3].max() == 0


def test_render_text_refuses_what_it_cannot_draw(tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match="empty text"):
        module.render_text(["cup", " "])
    with pytest.raises(ClipRobustError, match=r"nofont\.ttf cannot be read .*check the path"):
        module.render_text(["cup"], font=tmp_path / "nofont.ttf")


def test_distractors_never_share_the_name() -> None:
    names = ("crane", "cup", "crane", "dog")
    ids = [f"s{i}" for i in range(200)]
    labels = [i % 4 for i in range(200)]
    chosen = module.distractors(ids, labels, names, seed=3)
    assert all(names[c] != names[label] for c, label in zip(chosen, labels, strict=True))
    assert set(chosen) == {0, 1, 2, 3}
    assert chosen[50:60] == module.distractors(ids[50:60], labels[50:60], names, seed=3)
    assert chosen != module.distractors(ids, labels, names, seed=4)
    assert module.distractors(["x"], [-1], names, seed=0)[0] in range(4)
    with pytest.raises(ClipRobustError, match="two different class names"):
        module.distractors(["x"], [0], ("crane", "crane"), seed=0)


def test_severity_is_monotone_and_zero_is_the_identity(
    images: torch.Tensor, stickers: torch.Tensor
) -> None:
    perturbation = registry.get("typographic")
    results = [perturbation(images, s, seeds=SEEDS, text=stickers) for s in range(6)]
    assert torch.equal(results[0], images)
    distance = [(r - images).abs().mean(dim=(1, 2, 3)) for r in results]
    assert all((b > a).all() for a, b in itertools.pairwise(distance))
    mildest = {name: ends[0] for name, ends in perturbation.envelope.items()}
    assert torch.equal(perturbation(images, **mildest, seeds=SEEDS, text=stickers), images)


def test_the_word_has_the_stated_size_and_stays_inside(stickers: torch.Tensor) -> None:
    images = torch.full((5, 3, 120, 160), 0.5)
    for seed in range(3):
        result = module.typographic(images, size=0.5, seeds=SEEDS + 1000 * seed, text=stickers)
        changed = (result - images).abs().amax(dim=1) > 0.02
        for row, hit in enumerate(changed):
            rows, columns = hit.any(dim=1).nonzero(), hit.any(dim=0).nonzero()
            wide, high = int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1
            # A tilt of up to 8 degrees widens the box of the tilted word; it may be clipped by it.
            assert wide <= 80 + 0.14 * high + 4
            assert high <= 40 + 0.14 * wide + 4
            if row != 4:  # a single letter is narrow
                assert wide > 70 or high > 34


def test_copies_are_continuous_and_keep_their_place(stickers: torch.Tensor) -> None:
    images = torch.full((5, 3, 64, 64), 0.5)

    def write(copies: float) -> torch.Tensor:
        return module.typographic(images, size=0.3, copies=copies, seeds=SEEDS, text=stickers)

    one, faint, two = write(1), write(1.001), write(2)
    assert (one - faint).abs().max() < 2e-3
    assert (two != images).float().sum() > 1.5 * (one != images).float().sum()
    with pytest.raises(ClipRobustError, match="8 is the most"):
        write(9)


def test_rows_of_copies_are_spread_evenly() -> None:
    """Three by thirds, six by sixths; the last two in the middle of gaps, half a turn apart."""
    rows = module._ROWS
    assert sorted(rows[:3]) == pytest.approx([0, 1 / 3, 2 / 3])
    assert sorted(rows[:6]) == pytest.approx([k / 6 for k in range(6)])
    assert [row % (1 / 6) for row in rows[6:]] == pytest.approx([1 / 12, 1 / 12])
    assert rows[7] - rows[6] == pytest.approx(0.5)


def test_rows_are_bit_identical_in_every_batch(
    images: torch.Tensor, stickers: torch.Tensor
) -> None:
    perturbation = registry.get("typographic")
    for severity in (1, 5):
        whole = perturbation(images, severity, seeds=SEEDS, text=stickers)
        for order in ([0], [3], [4, 1], [2, 0, 4], [4, 3, 2, 1, 0]):
            part = perturbation(images[order], severity, seeds=SEEDS[order], text=stickers[order])
            assert torch.equal(part, whole[order])


@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(height=SIZES, width=SIZES, severity=st.integers(1, 5), copies=st.floats(0.1, 8))
@example(height=16, width=16, severity=5, copies=3.0)
@example(height=512, width=333, severity=3, copies=1.0)
def test_any_size(
    stickers: torch.Tensor, height: int, width: int, severity: int, copies: float
) -> None:
    images = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(2))
    write = registry.get("typographic")
    result = write(images, severity, copies=copies, seeds=SEEDS[:3], text=stickers[:3])
    check_result(result, images)
    last = write(images[2:], severity, copies=copies, seeds=SEEDS[2:3], text=stickers[2:3])
    assert torch.equal(last, result[2:])


def test_bits_do_not_depend_on_who_goes_along(stickers: torch.Tensor) -> None:
    # At 224 pixels four samples go at once on the host.
    images = torch.rand(7, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    seeds, text = torch.arange(7), stickers[[0, 1, 2, 3, 4, 0, 1]]
    write = registry.get("typographic")
    whole = write(images, 4, seeds=seeds, text=text)
    for rows in (slice(3, 4), slice(3, 7), slice(0, 4)):
        assert torch.equal(write(images[rows], 4, seeds=seeds[rows], text=text[rows]), whole[rows])


def test_no_pictures_give_no_pictures(images: torch.Tensor, stickers: torch.Tensor) -> None:
    result = registry.get("typographic")(images[:0], 3, seeds=SEEDS[:0], text=stickers[:0])
    assert result.shape == (0, 3, 48, 56)


@pytest.fixture(scope="module")
def embedded_text() -> torch.Tensor:
    """Return words of the embedded benchmark, as large as there, (16, 4, h, w)."""
    names = load_dataset("clean", profile="quick", limit=1).class_names
    return module.render_text(names, rows=range(16))


@pytest.mark.parametrize("severity", [1, 5])
def test_never_leaves_the_device_and_needs_little_memory(
    embedded_text: torch.Tensor, severity: int
) -> None:
    with FakeTensorMode():
        images = torch.empty(16, 3, 224, 224, device="cuda")
        seeds = torch.empty(16, dtype=torch.int64, device="cuda")
        text = torch.empty(embedded_text.shape, device="cuda")
        with Watch() as watch:
            result = registry.get("typographic")(images, severity, seeds=seeds, text=text)
        assert result.device == images.device
        assert result.shape == images.shape
    assert watch.peak < 12 * 16 * 3 * 224 * 224 * 4


def test_needs_little_memory_on_the_host(embedded_text: torch.Tensor) -> None:
    images = torch.rand(16, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with Watch() as watch:
        registry.get("typographic")(images, 5, seeds=torch.arange(16), text=embedded_text)
    assert watch.peak < 12 * images.numel() * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_and_range(images: torch.Tensor, stickers: torch.Tensor, dtype: torch.dtype) -> None:
    result = registry.get("typographic")(images.to(dtype), 5, seeds=SEEDS, text=stickers)
    assert result.dtype == dtype
    assert result.min() >= 0
    assert result.max() <= 1
    assert ((result == images.to(dtype)).float().mean()) > 0.2


def test_no_host_round_trip_on_a_fake_accelerator(stickers: torch.Tensor) -> None:
    with FakeTensorMode():
        result = registry.get("typographic")(
            torch.empty(5, 3, 48, 56, device="cuda"),
            5,
            seeds=torch.empty(5, dtype=torch.int64, device="cuda"),
            text=torch.empty(stickers.shape, device="cuda"),
        )
        assert result.device.type == "cuda"


@pytest.mark.slow
def test_torch_compile_traces_in_one_graph(images: torch.Tensor, stickers: torch.Tensor) -> None:
    arguments: dict[str, Any] = {
        "size": 0.4,
        "copies": 2.0,
        "contrast": 0.9,
        "seeds": SEEDS,
        "text": stickers,
    }
    compiled = torch.compile(module.typographic, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images, **arguments), module.typographic(images, **arguments))


def test_gradients_flow(images: torch.Tensor, stickers: torch.Tensor) -> None:
    images.requires_grad_(True)
    registry.get("typographic")(images, 3, seeds=SEEDS, text=stickers).sum().backward()
    assert images.grad is not None
    assert images.grad.min() < 0.1 < 0.99 < images.grad.max()


@pytest.mark.parametrize(
    ("text", "longest", "lines"),
    [
        ("espresso machine", 14, ["espresso", "machine"]),
        ("espresso machine", 16, ["espresso machine"]),
        ("espresso machine", 15, ["espresso", "machine"]),
        ("a b c d", 3, ["a b", "c d"]),
        ("a b c d", 2, ["a", "b", "c", "d"]),
        ("unbreakable", 3, ["unbreakable"]),
        ("  ", 3, [""]),
    ],
)
def test_lines_are_as_long_as_they_may_be(text: str, longest: int, lines: list[str]) -> None:
    assert module._lines(text, longest) == lines


@pytest.mark.parametrize(
    ("settings", "rim", "pad"),
    [
        ({"height": 48}, 4, 6),
        ({"height": 20}, 1, 3),
        ({"height": 8}, 1, 3),
        ({"height": 48, "outline": None}, 0, 2),
        ({"height": 48, "outline": None, "card": (9, 9, 9)}, 0, 14),
        ({"height": 30, "card": (9, 9, 9)}, 2, 11),
        ({}, 4, 6),
    ],
)
def test_a_sticker_is_as_large_as_the_largest_text_and_its_border(
    settings: dict[str, Any], rim: int, pad: int
) -> None:
    face = ImageFont.load_default(settings.get("height", 48))
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    boxes = [
        probe.multiline_textbbox((0, 0), text, font=face, align="center", stroke_width=rim)
        for text in ("dog", "black-and-white\ncolobus monkey")
    ]
    wide, high = (max(math.ceil(box[i + 2] - box[i]) for box in boxes) for i in (0, 1))
    made = module.render_text(["dog", "black-and-white colobus monkey"], **settings)
    assert made.shape == (2, 4, high + 2 * pad, wide + 2 * pad)
    shown = module.render_text(
        ["dog", "black-and-white colobus monkey"], **settings, rows=[1, 0, 1]
    )
    assert torch.equal(shown, made[[1, 0, 1]])
    card, outline = settings.get("card"), settings.get("outline", (255, 255, 255))
    colour = (*card, 255) if card else (*(outline or (0, 0, 0)), 0)
    same = (made[1] * 255).round() == torch.tensor(colour).view(4, 1, 1)
    assert bool(same.all(0).any())


def test_a_card_ends_its_border_from_the_letters() -> None:
    # Of two texts the shorter one has a card of its own size, in the middle of the sticker.
    made = module.render_text(["i", "wwww"], 24, outline=None, card=(0, 0, 255))
    face = ImageFont.load_default(24)
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    box = probe.multiline_textbbox((0, 0), "i", font=face)
    columns = (made[0, 3].amax(dim=0) > 0).nonzero().flatten()
    # Two pixels and a quarter of the letters' size on either side.
    assert len(columns) == pytest.approx(box[2] - box[0] + 2 * (2 + 6), abs=1.01)
    middle = float(columns[0] + columns[-1]) / 2
    assert middle == pytest.approx((made.shape[3] - 1) / 2, abs=1.01)


def test_the_extent_is_what_can_be_seen() -> None:
    alpha = torch.zeros(2, 6, 9)
    alpha[0, 2:5, 3:8] = 1.0
    alpha[0, 0, 0] = 0.1  # as good as transparent
    alpha[1, 5, 0] = 0.11
    first, last = module._extent(alpha, 1)
    assert (first.tolist(), last.tolist()) == ([3, 0], [7, 0])
    first, last = module._extent(alpha, 2)
    assert (first.tolist(), last.tolist()) == ([2, 5], [4, 5])


def test_distractors_are_drawn_by_a_hash_of_seed_and_sample() -> None:
    names, ids = ("crane", "cup", "crane", "dog", "sea"), [f"s{i}" for i in range(40)]
    labels = [-1, 0, 1, 2, 3] * 8
    expected = []
    for sample, label in zip(ids, labels, strict=True):
        hashed = hashlib.blake2b(f"7\0distractor\0{sample}".encode(), digest_size=8).digest()
        left = [i for i, name in enumerate(names) if label < 0 or name != names[label]]
        expected.append(left[int.from_bytes(hashed, "little") % len(left)])
    assert module.distractors(ids, labels, names, 7) == expected
    assert len(set(module.distractors(ids, [0] * 40, ("a", "b", "c"), 7))) == 2
    assert module.distractors(["x"], [1], ("a", "b"), 7) == [0]


def block(size: tuple[int, int], rows: slice, columns: slice, count: int) -> torch.Tensor:
    """Return opaque black rectangles on transparent stickers, (count, 4, h, w)."""
    sticker = torch.zeros(count, 4, *size)
    sticker[:, 3, rows, columns] = 1.0
    return sticker


@pytest.mark.parametrize(
    ("rows", "columns", "wide", "high"),
    [
        # A box of 0.4 · 200 = 80 by 40 pixels: the width decides, then the height.
        (slice(4, 14), slice(3, 53), 80, 16),
        (slice(4, 34), slice(10, 30), 80 / 3, 40),
    ],
)
def test_the_box_is_twice_as_wide_as_high_and_the_word_inside_the_picture(
    rows: slice, columns: slice, wide: float, high: float
) -> None:
    count = 150
    images = torch.ones(count, 3, 100, 200)
    text, seeds = block((40, 60), rows, columns, count), torch.arange(count)
    seen = module.typographic(images, size=0.4, seeds=seeds, text=text)
    dark = (1 - seen[:, 0]).double()
    area = dark.sum((1, 2))
    # Enlarged, its rim is as wide as an old pixel.
    assert float(area.mean()) == pytest.approx(wide * high, rel=0.04)
    x, y = torch.arange(200) + 0.5, torch.arange(100) + 0.5
    centre_x, centre_y = (dark.sum(1) * x).sum(1) / area, (dark.sum(2) * y).sum(1) / area
    # The centre is uniform over all places at which the word, untilted, stays inside.
    for centre, length, word in ((centre_x, 200, wide), (centre_y, 100, high)):
        shares = (centre - word / 2) / (length - word)
        assert float(shares.min()) < 0.03
        assert float(shares.max()) > 0.97
        assert float(shares.mean()) == pytest.approx(0.5, abs=0.05)
        assert float(shares.std()) == pytest.approx(12**-0.5, abs=0.03)
    # Tilts are uniform too, by up to eight degrees either way: 2·atan(0.07).
    place = random.uniform(seeds, (2,), stream=11)
    offset_x = x - centre_x[:, None, None]
    offset_y = y[:, None] - centre_y[:, None, None]
    product = (dark * offset_x * offset_y).sum((1, 2))
    spread = (dark * (offset_x.square() - offset_y.square())).sum((1, 2))
    angle = 0.5 * torch.atan2(2 * product, spread)
    if wide < high:
        angle = torch.remainder(angle + torch.pi, torch.pi) - torch.pi / 2
    expected = 2 * torch.atan((place[:, 1].double() - 0.5) * 0.14)
    whole = (centre_y > 24) & (centre_y < 76)  # nothing is cut off by the frame
    whole &= (centre_x > 45) & (centre_x < 155)
    assert int(whole.sum()) > 20
    agree = [(angle[whole] - sign * expected[whole]).abs().max() for sign in (1, -1)]
    assert float(min(agree)) < 0.02
    assert float(expected.abs().max()) == pytest.approx(math.radians(8), abs=2e-3)


def test_copies_stand_in_rows_of_their_own_and_the_last_is_faint() -> None:
    images, seeds = torch.ones(6, 3, 96, 96), torch.arange(6)
    text = block((12, 20), slice(2, 10), slice(2, 18), 6)
    one = module.typographic(images, size=0.05, contrast=0.5, seeds=seeds, text=text)
    assert float(one.min()) == pytest.approx(0.5, abs=1e-5)
    several = module.typographic(
        images, size=0.05, copies=2.4, contrast=1.0, seeds=seeds, text=text
    )
    assert float(several.min()) < 1e-5
    rows = random.uniform(seeds, (2,), stream=10)[:, 0].double()
    box = 0.05 * 96
    high = box / 2  # a word of 16 by 8 fills the box of 2 to 1
    for sample in range(6):
        left = (1 - several[sample, 0]).double().sum(1)
        expected = torch.zeros(96, dtype=torch.float64)
        for copy, opacity in enumerate((1.0, 1.0, 0.4)):
            row = float((rows[sample] + module._ROWS[copy]) % 1)
            centre = 48 + (row - 0.5) * (96 - high)
            near = (torch.arange(96) + 0.5 - centre).abs() < high / 2 + 2
            expected[near] += opacity
        assert not bool((left[expected == 0] > 1e-6).any())
        for copy, opacity in enumerate((1.0, 1.0, 0.4)):
            row = float((rows[sample] + module._ROWS[copy]) % 1)
            centre = 48 + (row - 0.5) * (96 - high)
            near = (torch.arange(96) + 0.5 - centre).abs() < high / 2 + 2
            assert float(left[near].sum()) == pytest.approx(opacity * box * high, rel=0.25)


@pytest.mark.parametrize("nothing", [{"contrast": 0.0}, {"size": 0.0}, {"copies": 0.0}])
def test_nothing_written_is_the_picture_itself(
    images: torch.Tensor, stickers: torch.Tensor, nothing: dict[str, float]
) -> None:
    write = module.typographic.__wrapped__  # type: ignore[attr-defined]
    settings = {"size": 0.5, **nothing}
    assert write(images, **settings, seeds=SEEDS, text=stickers) is images
    eight = write(images, size=0.5, copies=8.0, seeds=SEEDS, text=stickers)
    assert eight.shape == images.shape


def test_published_sizes() -> None:
    write = registry.get("typographic")
    steps = [tuple(write.parameters(level).values()) for level in range(1, 6)]
    assert steps == [
        (0.2, 1.0, 0.7),
        (0.3, 1.0, 0.85),
        (0.4, 1.0, 1.0),
        (0.4, 2.0, 1.0),
        (0.5, 3.0, 1.0),
    ]
    assert write.envelope == {"size": (0.1, 0.8), "copies": (1.0, 4.0), "contrast": (0.0, 1.0)}
