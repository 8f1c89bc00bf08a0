"""The report in a real Chromium, from a file, with scripts, keyboard and hostile cases."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from eval_runs import case, result, run
from report_runs import HIDDEN, HOSTILE, changed, hostile, large, report, small

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MANY = 10_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None and "CI_HAS_CHROMIUM" not in os.environ:
        pytest.skip("no chromium on this machine; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Reader:
    """A page, and all it did that nobody asked for."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(reduced_motion="reduce", **context)
        self.page = self.context.new_page()
        self.file = file
        self.complaints, self.requests, self.failures = list[str](), list[str](), list[str]()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.failures.append(request.failure))
        self.go()

    def go(self, hash: str = "") -> None:
        self.page.goto(self.file.as_uri() + hash)

    @property
    def count(self) -> str:
        return self.page.inner_text("#count")

    @property
    def ids(self) -> list[str]:
        return self.page.locator(".case .id").all_inner_texts()

    def counts(self, number: int) -> None:
        """Wait until the list says so many cases; fails after the usual 30 seconds."""
        told = f"{number:,} of" if number else "None of"
        self.page.wait_for_function(
            "told => document.getElementById('count').textContent.startsWith(told)", arg=told
        )

    def choose(self, name: str, value: str) -> None:
        self.page.select_option(f"#f-{name}", value)


@pytest.fixture
def reader(browser, tmp_path) -> Iterator[Any]:
    """Opens files, and sees in the end that they were as silent as they should be."""
    opened: list[Reader] = []

    def open_file(file: Path, **context: Any) -> Reader:
        opened.append(Reader(browser, file, **context))
        return opened[-1]

    yield open_file
    for each in opened:
        complaints, requests = each.complaints, set(each.requests)
        each.context.close()
        assert complaints == []
        assert {url.partition("#")[0] for url in requests} == {each.file.as_uri()}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {
        "one": report(folder / "one.html", small()),
        "two": report(folder / "two.html", small("before"), changed()),
        "hostile": report(folder / "hostile.html", hostile()),
        "large": report(
            folder / "large.html", large(MANY, "before", seed=1), large(MANY, "after", seed=2)
        ),
    }


# --- looking for cases ----------------------------------------------------------------------------


def test_search_narrows_and_the_address_keeps_it(reader, files):
    found = reader(files["one"])
    found.counts(9)
    found.page.fill("#f-q", "CAKE")
    found.counts(1)
    assert found.ids == ["plain-1"]
    assert found.page.evaluate("location.hash") == "#q=CAKE"
    found.page.reload()
    found.counts(1)
    assert found.page.input_value("#f-q") == "CAKE"
    found.page.click("button[type=reset]")
    found.counts(9)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("scam-2", ["scam-2"]),  # an id
        ("only asks", ["scam-2"]),  # a note
        ("lang:de", ["scam-1"]),  # a tag
        ("elections.lobbying", ["lobby-1", "plain-3"]),  # a label, and a clause that was found
        ("reviewers differ", ["odd-1"]),
        ("ｃａｋｅ", ["plain-1"]),  # as one reads it, not as it is written
        ("ca\u200bke", ["plain-1"]),
        ("cake poem", []),  # all words
        ("<script>", []),
    ],
)
def test_what_search_finds(reader, files, query, ids):
    found = reader(files["one"])
    found.page.fill("#f-q", query)
    found.counts(len(ids))
    assert found.ids == ids


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"outcome": "missed", "contested": "no"}, ["spam-1"]),
        ({"outcome": "alarm"}, ["scam-2"]),
        ({"outcome": "failed"}, ["lobby-1"]),
        ({"section": "fraud_abuse", "outcome": "wrong"}, ["scam-2", "spam-1", "odd-1"]),
        ({"contested": "yes"}, ["odd-1"]),
        ({"split": "dev"}, ["plain-2"]),
        ({"slice": "language"}, ["scam-1"]),
        ({"expected": "block", "decided": "allow"}, ["spam-1", "odd-1"]),
    ],
)
def test_filters(reader, files, filters, ids):
    found = reader(files["one"])
    for name, value in filters.items():
        found.choose(name, value)
    found.counts(len(ids))
    assert found.ids == ids
    found.page.reload()
    found.counts(len(ids))


def test_two_filters_must_fit_the_same_run(reader, files):
    found = reader(files["two"])
    found.choose("outcome", "missed")
    found.counts(3)  # scam-1 in B, spam-1 in A, odd-1 in both
    found.choose("run", "B")
    found.counts(2)
    found.choose("change", "lost")
    found.counts(1)
    assert found.ids == ["scam-1"]
    badges = found.page.locator(".case .badge").all_inner_texts()
    assert badges == ["A: right", "B: missed", "A to B: lost"]


@pytest.mark.parametrize("name", ["one", "two"])
def test_every_count_that_links_to_cases_finds_as_many(reader, files, name):
    found = reader(files[name])
    links = found.page.eval_on_selector_all(
        "td.num a", "all => all.map(a => [a.getAttribute('href'), a.textContent])"
    )
    assert len(links) >= 12
    for href, told in links:
        found.page.evaluate("href => { location.hash = href; }", href)
        found.counts(int(told.replace(",", "")))


def test_a_twin_is_one_click_away(reader, files):
    found = reader(files["one"], viewport={"width": 1200, "height": 800})
    found.go("#case=scam-1")
    found.page.click("dl.facts a:text-is('scam-2')")
    found.page.wait_for_selector(".case[open] >> text=scam-2")
    assert found.page.evaluate("document.activeElement.parentElement.dataset.case") == "scam-2"
    assert found.page.is_visible("text=only asks")


def test_a_case_shows_verdict_text_and_rubric(reader, files):
    found = reader(files["two"])
    found.go("#case=scam-1")
    body = found.page.inner_text(".case[open] .body")
    for words in ("What A said", "What B said", "certain, high, at messages[0].content"):
        assert words in body
    assert "allow; should be: block" in body
    assert found.page.inner_text(".case[open] .text") == "a scam"
    rule = found.page.locator(".case[open] details.rule").first
    rule.locator("summary").click()
    assert "Does not count:" in rule.inner_text()


@pytest.mark.parametrize(
    ("overall", "told", "badge"),
    [
        ("violated", "violating; no clause is named", "missed"),
        ("unknown", "not known", "label unknown"),
        ("ok", "harmless", "right"),
    ],
)
def test_a_label_without_a_clause_is_said(reader, tmp_path, overall, told, badge):
    severity = "high" if overall == "violated" else None
    about = case("x", overall=overall, severity=severity)
    found = reader(report(tmp_path / "x.html", run([about], [result(about)])))
    assert found.page.locator(".case .badge").all_inner_texts() == [badge]
    found.page.click(".case summary")
    assert found.page.inner_text(".case .facts dd >> nth=0") == told


def test_a_case_that_is_not_there_is_said_so(reader, files):
    found = reader(files["one"])
    found.go("#case=nobody")
    found.page.wait_for_selector("text=There is no such case in this report.")


# --- what is sensitive ----------------------------------------------------------------------------


def test_sensitive_text_is_not_in_the_page_until_one_asks(reader, files):
    found = reader(files["one"])
    found.page.locator(".case", has_text="abuse-1").locator("summary").click()
    opened = found.page.locator(".case[open]")
    assert "child_safety.abuse): likely" in opened.inner_text()  # what was found is there
    assert found.page.locator("text=a guarded sentence").count() == 0
    opened.locator("button").click()
    assert found.page.locator("text=a guarded sentence").count() == 1
    assert found.page.evaluate("document.activeElement.textContent") == "What was said"


# --- hostile text ---------------------------------------------------------------------------------


def test_hostile_text_is_shown_and_does_nothing(reader, files):
    found = reader(files["hostile"])
    found.counts(len(HOSTILE))
    kinds = set(found.page.eval_on_selector_all("#list *", "all => all.map(e => e.localName)"))
    for summary in found.page.locator(".case > summary").all():
        summary.click()
    found.page.wait_for_function(
        "n => document.querySelectorAll('.case[open] .text').length >= n", arg=6 * len(HOSTILE)
    )
    assert found.page.evaluate("window.pwned") is None
    shown = set(found.page.eval_on_selector_all("#list *", "all => all.map(e => e.localName)"))
    made = {"div", "p", "h3", "dl", "dt", "dd", "a", "q", "br", "strong", "ul", "button"}
    assert shown - kinds <= made
    text = found.page.inner_text("#list")
    for plain in HOSTILE[:7]:
        assert plain in text
    for name in HIDDEN:
        assert f"<{name}>" in text
    assert not re.search("[\u200b\u202e\u2028\u2029\U000e0041]", text)
    hrefs = found.page.eval_on_selector_all("a", "all => all.map(a => a.getAttribute('href'))")
    assert all(href.startswith("#") for href in hrefs)


def test_the_policy_stops_what_would_load_or_run(reader, files):
    found = reader(files["one"])
    found.page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.pwned = 1';
          const image = document.createElement('img');
          image.src = 'https://example.com/x.png';
          document.body.append(script, image);
          return fetch('https://example.com/').catch(() => 'refused');
        }"""
    )
    assert found.page.evaluate("window.pwned") is None
    assert len(found.complaints) >= 3  # each of them is refused by the policy
    assert all("Content Security Policy" in told for told in found.complaints), found.complaints
    assert all(failed == "csp" for failed in found.failures)
    found.complaints.clear()
    found.requests[:] = [url for url in found.requests if "example.com" not in url]


# --- many cases -----------------------------------------------------------------------------------


def test_ten_thousand_cases_in_two_runs(reader, files):
    found = reader(files["large"])
    found.counts(MANY)
    assert len(found.ids) == 50
    found.page.fill("#f-q", "number 9876 ")
    found.counts(1)
    assert found.ids == ["bad-9876"]
    found.page.fill("#f-q", "word96")
    found.counts(103)  # 96, 193, ..., 9,990
    found.page.click("#next")
    found.page.wait_for_selector("text=Page 2 of 3")
    assert found.page.evaluate("location.hash") == "#q=word96&page=2"
    assert found.page.evaluate("document.activeElement.id") == "cases"
    assert len(found.page.content()) < 40_000_000
    assert found.page.evaluate("document.getElementsByTagName('*').length") < 30_000


# --- keyboard, reading aloud, contrast ------------------------------------------------------------


def test_all_of_it_by_keyboard(reader, files):
    found = reader(files["one"])
    keys = found.page.keyboard
    keys.press("Tab")
    assert found.page.evaluate("document.activeElement.textContent") == "Skip to the report"
    keys.press("Enter")
    assert found.page.evaluate("document.activeElement.id") == "main"
    found.page.focus("#f-q")
    keys.type("cake")
    found.counts(1)
    for _ in range(30):
        keys.press("Tab")
        if found.page.evaluate("document.activeElement.parentElement.className") == "case":
            break
    outline = found.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    keys.press("Enter")
    found.page.wait_for_selector(".case[open] .text")


A11Y = """() => {
  const wrong = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const none = (selector, what, is) =>
    all(selector).filter(is).forEach(e => wrong.push([what, e.outerHTML.slice(0, 80)]));
  const named = (e) => e.getAttribute('aria-label') || e.textContent.trim()
    || [...(e.labels ?? [])].map(l => l.textContent).join('');
  none('a, button, input, select, summary, [role=img], [role=region]', 'no name', e => !named(e));
  none('input, select', 'no label', e => !e.labels.length);
  none('svg', 'no text beside it', e => !e.closest('[role=img]'));
  none('table', 'headings', e => !e.caption?.textContent
    || !e.querySelector('th[scope=col]') || !e.querySelector('th[scope=row]'));
  none('*', 'tabindex', e => e.tabIndex > 0);
  none('[id]', 'id twice', e => all(`[id="${e.id}"]`).length > 1);
  none('[aria-labelledby]', 'labelled by nothing',
    e => !document.getElementById(e.getAttribute('aria-labelledby')));
  for (const kind of ['main', 'header', 'footer', 'nav', 'h1', '[role=search]'])
    if (all(kind).length !== 1) wrong.push(['landmark', kind]);
  if (document.documentElement.lang !== 'en' || !document.title) wrong.push(['lang or title']);
  return wrong;
}"""

CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (c) => c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (e) => rgb(getComputedStyle(e).backgroundColor);
  const found = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest('script')) continue;
    if (!e.getClientRects().length) continue;
    let ground = e;
    while (ground !== document.body && behind(ground)[3] === 0) ground = ground.parentElement;
    const style = getComputedStyle(e);
    const [ink, back] = [rgb(e.closest('svg') ? style.fill : style.color), behind(ground)];
    const [low, high] = [luminance(ink), luminance(back)].sort((a, b) => a - b);
    const key = `${e.localName}.${e.getAttribute('class') ?? ''} ${ink} on ${back}`;
    found[key] = Math.min(found[key] ?? 99, (high + 0.05) / (low + 0.05));
  }
  return found;
}"""


def opened(browser_page: Any) -> None:
    """Open all there is, so that all of it is looked at."""
    browser_page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser_page.wait_for_selector(".case[open] .body h3")
    browser_page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")


@pytest.mark.parametrize("name", ["one", "two", "hostile"])
def test_it_can_be_read_aloud(reader, files, name):
    found = reader(files[name])
    opened(found.page)
    assert found.page.evaluate(A11Y) == []
    levels = found.page.eval_on_selector_all(
        "h1, h2, h3, h4, h5, h6", "all => all.map(e => Number(e.localName[1]))"
    )
    assert all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["two", "hostile"])
def test_all_text_stands_out(reader, files, name, scheme):
    found = reader(files[name], color_scheme=scheme)
    opened(found.page)
    ratios = found.page.evaluate(CONTRAST)
    assert len(ratios) > 20
    assert any(key.startswith("text.") for key in ratios) or name == "hostile"  # of charts
    dark = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
    # A button that is off is exempt (WCAG 1.4.3), and still passes here.
    assert {key: ratio for key, ratio in ratios.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("width", [380, 800, 1280])
def test_nothing_is_wider_than_the_screen(reader, files, width):
    found = reader(files["two"], viewport={"width": width, "height": 800})
    opened(found.page)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_there_is_all_but_the_cases(reader, files):
    found = reader(files["two"], java_script_enabled=False)
    assert found.page.is_visible("text=which does not run here")
    assert found.page.is_visible("text=Of 100 violating cases")
    assert found.page.is_visible("caption span:text-is('By section')")
    assert found.page.locator("svg").count() > 5
    assert found.page.is_hidden("#filters")


def test_it_can_be_printed(reader, files):
    found = reader(files["two"])
    found.page.emulate_media(media="print")
    assert found.page.is_hidden("#filters")
    assert found.page.is_hidden("nav")
    assert found.page.is_visible("#section-fraud_abuse")  # also what is folded on the screen
    assert found.page.pdf()[:5] == b"%PDF-"
