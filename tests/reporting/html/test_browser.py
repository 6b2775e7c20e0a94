"""The HTML report in a real browser: it runs, it asks nothing of the network, and everyone can use it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_helpers import HARM, base, head, written

from pytest_cliprobust.reporting.facts import anchor_of
from pytest_cliprobust.reporting.html.page import page_of
from pytest_cliprobust.results.compare import compare

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium"),
]

#: Contrast of text with what is behind it (WCAG 2.2, 1.4.3), headings in order, names of what is operated.
CHECKS = """
() => {
  const wrong = [];
  const light = (text) => {
    const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
    const part = (v) => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return [0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b), a ?? 1];
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [value, alpha] = light(getComputedStyle(e).backgroundColor);
      if (alpha > 0) return value;
    }
    return 1;
  };
  for (const e of document.querySelectorAll("body *:not(script, style, svg *, option)")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(".unseen, .skip")) continue;
    const style = getComputedStyle(e), big = parseFloat(style.fontSize) >= 24;
    const [a, b] = [light(style.color)[0], behind(e)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < (big ? 3 : 4.5)) wrong.push(`contrast ${ratio.toFixed(2)}: ${e.className} ${e.textContent}`);
  }
  for (const e of document.querySelectorAll("svg text")) {
    const [a, b] = [light(getComputedStyle(e).fill)[0], behind(e.closest("figure"))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) wrong.push(`contrast ${ratio.toFixed(2)}: ${e.textContent}`);
  }
  let last = 0;
  for (const e of document.querySelectorAll("h1, h2, h3, h4")) {
    const level = Number(e.tagName[1]);
    if (level > last + 1) wrong.push(`h${level} after h${last}: ${e.textContent}`);
    if (!e.textContent.trim()) wrong.push(`an empty h${level}`);
    last = level;
  }
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  const each = (selector, bad, what) => {
    for (const e of document.querySelectorAll(selector)) if (bad(e)) wrong.push(`${what}: ${e.outerHTML}`);
  };
  each("input, select", (e) => !e.labels.length, "no label");
  each("a, button, summary", (e) => !e.textContent.trim(), "no name");
  each("img", (e) => !e.alt || !e.naturalWidth, "no text, or no picture");
  each("svg", (e) => !e.getAttribute("aria-label"), "no name");
  each("section", (e) => !document.getElementById(e.getAttribute("aria-labelledby")), "no name");
  each("main > *, .top", (e) => e.scrollWidth > document.documentElement.clientWidth, "too wide");
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is wider than the window");
  return wrong;
}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a loss, with names that would do harm."""
    own = head(harm=HARM)
    return written(page_of(own, compare(base(harm=HARM), own)), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser, and nothing kept between tests."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


def opened(
    browser: Any, file: Path, *, width: int = 1400, scheme: str = "light", place: str = ""
) -> Any:
    """Return the page, of which ``told`` lists what the console said and what it asked for."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.told = []
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("dialog", lambda dialog: (page.told.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda asked: asked.url.startswith(("data:", file.as_uri())) or page.told.append(asked.url),
    )
    page.goto(f"{file.as_uri()}{place}")
    return page


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_says_nothing_asks_nothing_and_can_be_used(
    browser: Any, file: Path, width: int, scheme: str
) -> None:
    page = opened(browser, file, width=width, scheme=scheme)
    assert page.inner_text("h1") == "Do not ship"
    # The first screen names the loss, its size and interval.
    box = page.locator(".lead").bounding_box()
    assert "fell by 0.2 [0.11, 0.31]" in page.inner_text(".lead")
    assert box["y"] + box["height"] < 900
    page.locator("#show").select_option("")
    page.evaluate("document.querySelectorAll('img').forEach((i) => { i.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    assert page.evaluate(CHECKS) == []
    assert page.told == []
    page.close()


def test_filters_order_and_links(browser: Any, file: Path) -> None:
    page = opened(browser, file)
    rows = page.locator("#figures tbody tr:visible")
    assert rows.count() == 1  # those with a bound
    page.locator("#show").select_option("")
    every = rows.count()
    assert every == len(head().measurements)
    page.locator("#search").fill("FOG severity")
    assert rows.count() == 3
    assert page.inner_text("#told") == f"3 of {every} figures"
    assert "search=FOG" in page.url
    page.locator("#search").fill("")
    page.get_by_role("button", name="value").click()
    values = [
        float(v)
        for v in page.eval_on_selector_all(
            "#figures tbody tr", "rows => rows.map(r => r.cells[1].dataset.sort)"
        )
    ]
    assert values == sorted(values)
    assert page.locator("th[aria-sort=ascending]").count() == 1
    page.get_by_role("button", name="value").click()
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.close()

    key = next(k for k in head(harm=HARM).measurements if "fog@3" in k)
    page = opened(browser, file, place=f"#{anchor_of(key)}")
    found = page.locator("tr.found")
    assert found.count() == 1
    assert found.is_visible()
    assert found.locator(".command").is_visible()
    page.close()
    page = opened(browser, file, place="#all-figures?show=fail")
    assert page.locator("#figures tbody tr:visible").count() == 1
    assert page.told == []
    page.close()


def test_samples_are_filtered(browser: Any, file: Path) -> None:
    page = opened(browser, file)
    cards = page.locator(".album li:visible")
    every = cards.count()
    assert page.inner_text("#samples-told") == f"{every} of {every} samples"
    page.locator("#sides").select_option("gained")
    gained = cards.count()
    assert 0 < gained < every
    assert page.inner_text("#samples-told") == f"{gained} of {every} samples"
    assert page.url.endswith("#samples?sides=gained")
    page.locator("#sides").select_option("")
    page.locator("#condition").select_option(index=1)
    assert page.locator(".album:visible").count() == 1
    page.locator("#sample").fill("nothing is called so")
    assert page.locator(".album:visible").count() == 0
    # The figures are not filtered with them.
    assert page.locator("#figures tbody tr:visible").count() == 1
    page.close()
    page = opened(browser, file, place="#samples?sides=gained")
    assert page.locator(".album li:visible").count() == gained
    assert page.locator("#sides").input_value() == "gained"
    page.goto(f"{file.as_uri()}#all-figures?search=100%25%26%")
    assert page.locator("#search").input_value() in ("100%&%", "100%&")
    assert page.told == []
    page.close()


def test_the_keyboard_and_the_theme(browser: Any, file: Path) -> None:
    page = opened(browser, file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#figures summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#figures details[open]").count() == 1
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(ground) != before
    assert page.inner_text("#theme") == "Light"
    page.emulate_media(media="print")
    assert not page.locator(".tools").first.is_visible()
    assert page.told == []
    page.close()


def test_without_scripts_everything_is_there(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#figures tbody tr").first.is_visible()
    assert page.locator("#figures tbody tr").count() == len(head().measurements)
    assert not page.locator(".tools").first.is_visible()
    context.close()
