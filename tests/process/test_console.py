"""The console in a real browser: Debian's Chromium, driven by Playwright."""

import csv
import io
import itertools
import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.published import publish
from tests.server import ROOT, ServerProcess

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no browser: no chromium in PATH", allow_module_level=True)

expect = playwright.expect
GOOD = "A warm, funny and wonderful film. I loved every minute."
BAD = "Dull, clumsy and far too long. A terrible waste."
PARTS = ("Text", "File", "Model", "Service")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CONTRAST = ["color-contrast"]
"""The only rule that depends on the colour scheme."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Site:
    """A server with a console, which can be restarted at the same address."""

    def __init__(self, models: Path, *options: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        own = ("--port", str(port), "--workers", "1", "--engine", "onnx")
        self._arguments = (models, *own, *options)
        self.server = self._start()

    def stop(self) -> None:
        self.server.close()

    def start(self) -> None:
        self.server = self._start()

    def _start(self) -> ServerProcess:
        server = ServerProcess(*self._arguments)
        server.wait_for("the service is ready")
        return server

    def predict(self, **body: Any) -> Any:
        with self.server.client() as client:
            return client.post("/predict", json=body).raise_for_status().json()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`bow` with its report, another version of it, and a model with three labels."""
    models = tmp_path_factory.mktemp("console_models")
    for name in ("bow/3", "tweets-lstm/1"):
        shutil.copytree(ROOT / "models" / name, models / name)
    publish(models, "bow", 4)
    (models / "bow" / "aliases.json").write_text('{"stable": 3}')
    site = Site(models)
    yield site
    site.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(site: Site, browser: Any) -> Iterator[Any]:
    """The console, ready; afterwards no rule of the policy was broken, and no script failed."""
    context = browser.new_context()
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Policy" in line.text else None)
    page.goto(site.url)
    expect(page.locator("#state")).to_have_text("Ready")
    yield page
    context.close()
    assert faults == []


def write(page: Any, text: str) -> None:
    page.locator("#text").fill(text)


def words_of(panel: Any) -> Any:
    return panel.locator(".words")


def open_part(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_verdict_while_typing(page: Any) -> None:
    """The verdict, its bars and the shaded words follow the text while it is typed."""
    panel = page.locator(".answer")
    page.locator("#text").press_sequentially(GOOD, delay=1)
    expect(panel.locator(".verdict")).to_have_text("positive")
    expect(panel.locator(".bars dt")).to_have_text(["positive", "negative"])
    expect(words_of(panel)).to_have_text(GOOD)
    assert "wonderful" in panel.locator("mark:not(.against)").all_inner_texts()
    expect(page.locator("#spoken")).to_contain_text("positive")
    write(page, BAD)
    expect(panel.locator(".verdict")).to_have_text("negative")
    page.get_by_role("button", name="Clear").click()
    expect(panel.locator(".body")).to_have_text("The verdict appears here.")


@pytest.mark.slow
def test_nothing_comes_from_elsewhere(site: Site, browser: Any) -> None:
    """The page asks its own service only, and nothing but the three files for itself."""
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.url)
    expect(page.locator("#state")).to_have_text("Ready")
    for part in PARTS:
        open_part(page, part)
    page.wait_for_load_state("networkidle")
    context.close()
    assert all(url.startswith((f"{site.url}/", "data:", f"blob:{site.url}")) for url in asked)
    paths = [url.removeprefix(site.url) for url in asked]
    assert paths[:3] == ["/", "/console/style.css", "/console/script.js"]


def test_late_answers_are_dropped(page: Any) -> None:
    """An answer that comes after the text has changed is not shown."""
    held: list[Any] = []

    def hold_first(route: Any) -> None:
        if json.loads(route.request.post_data)["text"] == GOOD and not held:
            held.append(route)
        else:
            route.continue_()

    page.route("**/predict", hold_first)
    with page.expect_request("**/predict"):
        write(page, GOOD)
    with page.expect_response("**/predict"):
        write(page, BAD)
    expect(page.locator(".verdict")).to_have_text("negative")
    held[0].abort()
    expect(words_of(page)).to_have_text(BAD)
    expect(page.locator(".verdict")).to_have_text("negative")
    expect(page.locator("#trouble")).to_be_hidden()


def test_two_side_by_side(page: Any) -> None:
    """A second model or version answers beside the first one."""
    page.get_by_label("Model", exact=True).first.select_option("bow/4")
    page.get_by_label("Compare with").select_option("tweets-lstm")
    write(page, GOOD)
    panels = page.locator(".answer")
    expect(panels).to_have_count(2)
    expect(panels.nth(0)).to_contain_text("bow, version 4")
    expect(panels.nth(1)).to_contain_text("tweets-lstm, version 1")
    expect(panels.nth(1).locator(".bars dt")).to_have_count(3)
    expect(words_of(panels.nth(1))).to_have_text(GOOD)


@pytest.mark.slow
def test_warnings(page: Any) -> None:
    """The page says so where the model cannot know."""
    for text, warning in (
        ("... -- ...", "no word in this text"),
        ("xqzt vvkw", "knows none of these words"),
        ("Fyr wqx plm the zzt krr vvw a film", "another language"),
        ("a word and more of it " * 90, "longer than the model reads"),
    ):
        write(page, text)
        expect(page.locator(".warning")).to_contain_text(warning)


def test_no_verdict(page: Any) -> None:
    """A text that the model cannot judge has no verdict, and a warning says why."""
    write(page, "xqzt vvkw")
    expect(page.locator(".verdict")).to_have_text("no verdict")
    expect(page.locator(".warning")).to_contain_text("knows none of these words")
    ruled = {"tokens": 9, "unknown": 7, "truncated": False, "reliable": False}
    assert page.evaluate("(answer) => warningsOf(answer, null)", ruled) == [
        "The model knows only 2 of 9 words. By its measured rule it cannot judge such a text."
    ]


def test_quality_on_the_card(page: Any) -> None:
    """The card shows the figures by kind of text, and the rule, if the version has them."""
    card = {
        "quality": {
            "ordinary": {"texts": 98, "accuracy": 0.88, "neutral_texts": 20, "undecided": 0.75},
        },
        "reliability": {"max_unknown_share": 0.6, "min_known_tokens": 2},
    }
    shown = page.evaluate("(card) => showQuality(card).map((each) => each.textContent)", card)
    assert "ordinary11888 %\u201375 %\u2013" in shown[1]
    assert "2 known words or more, and at most 60 % unknown ones" in shown[2]
    plain = {"quality": {}, "reliability": {"max_unknown_share": 1, "min_known_tokens": 1}}
    assert page.evaluate("(card) => showQuality(card).length", plain) == 0


def test_wording_follows_calibration(page: Any) -> None:
    """The words for a confidence are weaker for a model whose confidence is often off."""
    for p, error, words in (
        *((0.99, 0.005, "almost certain"), (0.99, 0.05, "very sure"), (0.92, 0.01, "very sure")),
        *((0.8, 0.01, "fairly sure"), (0.8, 0.1, "not sure"), (0.65, 0.01, "not sure")),
        *((0.55, 0.01, "a coin toss"), (0.65, 0.1, "a coin toss")),
    ):
        answer = {"label": "a", "probabilities": {"a": p, "b": 1 - p}}
        assert (
            page.evaluate("([answer, error]) => wording(answer, error)", [answer, error]) == words
        )
    three = {"label": "a", "probabilities": {"a": 0.4, "b": 0.3, "c": 0.3}}
    assert page.evaluate("(answer) => wording(answer, 0)", three) == "undecided"


@pytest.mark.slow
def test_examples(page: Any) -> None:
    """An example fills the text and is answered."""
    page.get_by_role("button", name="A bitter one").click()
    expect(page.locator(".verdict")).to_have_text("negative")


def test_hostile_text(page: Any) -> None:
    """Markup in a text is shown as it is, and runs nowhere."""
    text = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> good film"
    write(page, text)
    expect(words_of(page)).to_have_text(text)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0


CSV = (
    "id;Review;\ufeffnote\r\n"
    '1;"A ""wonderful"" film;\nI loved it";=1+1\r\n'
    "2;;empty\r\n"
    f"3;{BAD};last\r\n"
)


def test_file_comes_back_with_verdicts(site: Site, page: Any) -> None:
    """All columns and rows come back in order, with a verdict or an error for each row."""
    rows = list(csv.reader(io.StringIO(CSV, newline=""), delimiter=";"))
    open_part(page, "File")
    page.locator("#file-input").set_input_files(
        {"name": "reviews.csv", "mimeType": "text/csv", "buffer": CSV.encode()}
    )
    expect(page.locator("#file-about")).to_have_text("reviews.csv: 3 rows, 3 columns.")
    assert page.get_by_label("Column with the texts").input_value() == "1"
    page.get_by_role("button", name="Score").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "reviews-scored.csv"
    content = Path(download.value.path()).read_text(encoding="utf-8-sig")
    names, *scored = csv.reader(io.StringIO(content, newline=""), delimiter=";")
    expect(page.locator("#file-progress")).to_contain_text("1 could not be")
    added = ["label", "confidence", "probability_negative", "probability_positive", "error"]
    assert names == rows[0] + added
    assert [row[:3] for row in scored] == rows[1:]
    good, empty, bad = (row[3:] for row in scored)
    expected = site.predict(texts=[rows[1][1], rows[3][1]])["predictions"]
    for row, prediction in zip((good, bad), expected, strict=True):
        assert row[0] == prediction["label"]
        values = [float(value) for value in row[1:4]]
        probabilities = prediction["probabilities"]
        assert values == pytest.approx([max(probabilities.values()), *probabilities.values()])
    assert empty[:4] == [""] * 4
    assert "white space" in empty[4]


@pytest.mark.slow
def test_file_with_those_columns(page: Any) -> None:
    """Columns that are there already are kept; the new ones get a prefix. Parts add up."""
    lines = ["text\tlabel", *(f"{GOOD} {n}\told" for n in range(150))]
    open_part(page, "File")
    page.locator("#file-input").set_input_files(
        {"name": "a.tsv", "mimeType": "text/plain", "buffer": "\n".join(lines).encode("utf-16")}
    )
    page.get_by_role("button", name="Score").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    content = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(content, newline=""), delimiter="\t"))
    assert [row["text"] for row in rows] == [line.split("\t")[0] for line in lines[1:]]
    assert {(row["label"], row["valence_label"]) for row in rows} == {("old", "positive")}
    assert page.locator("#progress").evaluate("bar => bar.value") == 1


def test_overloaded_service(page: Any) -> None:
    """The page says that the service is busy, and shows the answer once there is one."""
    refusals = itertools.count()

    def refuse_once(route: Any) -> None:
        if next(refusals) < 1:
            problem = json.dumps({"status": 429, "detail": "full"})
            route.fulfill(status=429, headers={"Retry-After": "1"}, body=problem)
        else:
            route.continue_()

    page.route("**/predict", refuse_once)
    write(page, GOOD)
    expect(page.locator("#trouble")).to_contain_text("busy")
    expect(page.locator(".verdict")).to_have_text("positive")
    expect(page.locator("#trouble")).to_be_hidden()


def test_key(page: Any) -> None:
    """Without a key the page asks for one, and goes on with it."""

    def check(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer vk_secret":
            route.continue_()
        else:
            route.fulfill(status=401, body=json.dumps({"status": 401, "detail": "a key"}))

    page.route(re.compile("/(predict|models)"), check)
    write(page, GOOD)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Key").fill("vk_secret")
    dialog.get_by_label("Key").press("Enter")
    expect(page.locator(".verdict")).to_have_text("positive")
    assert page.evaluate("localStorage.length") == 0


@pytest.mark.slow
def test_a_key_is_asked_for_once(page: Any) -> None:
    """Who closes the dialog is not asked again until they act; nothing is polled meanwhile."""
    asked: list[str] = []

    def check(route: Any) -> None:
        asked.append(route.request.url)
        if route.request.headers.get("authorization") == "Bearer vk_good":
            route.continue_()
        else:
            route.fulfill(status=401, body=json.dumps({"status": 401, "detail": "a key"}))

    page.clock.install()
    page.route(re.compile("/(predict|models|metrics)"), check)
    dialog = page.get_by_role("dialog")
    open_part(page, "Service")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#trouble")).to_have_text("The service asks for an API key.")
    before = len(asked)
    for _ in range(5):
        page.clock.run_for(4_000)
    assert len(asked) == before
    open_part(page, "Text")
    write(page, GOOD)
    with page.expect_response("**/predict"):
        page.clock.run_for(1_000)
    page.clock.run_for(1_000)
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="API key").click()
    dialog.get_by_label("Key").fill("vk_revoked")
    dialog.get_by_label("Key").press("Enter")
    expect(page.locator("#key-why")).to_contain_text("does not take")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Key").fill("vk_good")
    dialog.get_by_label("Key").press("Enter")
    expect(page.locator(".verdict")).to_have_text("positive")
    open_part(page, "Service")
    expect(page.locator("#figures")).to_contain_text("p99")


def test_metrics_that_are_not_here(page: Any) -> None:
    """Where there is no `/metrics`, one sentence says so, and it is asked for once."""
    asked: list[str] = []

    def refuse(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=404, body="{}")

    page.clock.install()
    page.route("**/metrics", refuse)
    open_part(page, "Service")
    expect(page.locator("#elsewhere")).to_contain_text("on a port of their own")
    for _ in range(3):
        with page.expect_response("**/models"):  # versions are shown on
            page.clock.run_for(2_000)
    assert len(asked) == 1
    for hidden in ("#figures", "#chart", "#metrics-link", "#trouble"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator("#versions tbody tr")).to_have_count(3)


@pytest.mark.slow
def test_port_for_metrics(tmp_path: Path, browser: Any) -> None:
    """With a port for metrics the page knows it, and never asks for them."""
    publish(tmp_path, "bow", 1)
    site = Site(tmp_path, "--metrics-port", str(free_port()))
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.url)
    open_part(page, "Service")
    expect(page.locator("#elsewhere")).to_be_visible()
    expect(page.locator("#versions tbody tr")).to_have_count(1)
    context.close()
    site.stop()
    assert not [url for url in asked if url.endswith("/metrics")]


def test_card_and_pictures(page: Any) -> None:
    """The card of a model has its metrics, limits and pictures."""
    open_part(page, "Model")
    expect(page.locator("#card")).to_contain_text("bow, version 3")
    expect(page.locator("#card")).to_contain_text("Limits")
    expect(page.locator("figure")).to_have_count(6)
    widths = page.locator("figure img").evaluate_all("all => all.map((one) => one.naturalWidth)")
    assert all(widths)


@pytest.mark.slow
def test_live_figures(site: Site, page: Any) -> None:
    """Figures and versions of the service are read from it while they are looked at."""
    open_part(page, "Service")
    expect(page.locator("#versions tbody tr")).to_have_count(3)
    expect(page.locator("#versions")).to_contain_text("stable")
    for _ in range(5):
        site.predict(text=GOOD)
    rate = page.locator("#figures div").filter(has_text="requests per second").locator("dd")
    expect(rate).not_to_have_text("0.0", timeout=15_000)
    expect(page.locator("#figures")).to_contain_text("p99")


@pytest.mark.slow
def test_keyboard(page: Any) -> None:
    """All is reached by keyboard: the link to the text first, and arrows between the parts."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    for name in ("File", "Model", "Service", "Text"):
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.textContent") == name
    page.get_by_label("Your text").focus()
    page.keyboard.type(GOOD)
    expect(page.locator(".verdict")).to_have_text("positive")


def test_accessibility(page: Any) -> None:
    """No rule of axe-core is broken in any part, with answers, in light and in dark."""
    page.get_by_label("Compare with").select_option("tweets-lstm")
    write(page, f"{GOOD} {BAD} xqzt")
    expect(words_of(page)).to_have_count(2)
    for part in PARTS:
        open_part(page, part)
        if part == "Model":
            expect(page.locator("figure")).to_have_count(6)
        for scheme, rules in (("light", RULES), ("dark", CONTRAST)):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = axe.Axe().run(page, options={"runOnly": rules})
            assert found.violations_count == 0, (part, scheme, found.generate_report())


@pytest.mark.slow
def test_phone(page: Any) -> None:
    """On a phone nothing is wider than the screen."""
    page.set_viewport_size({"width": 360, "height": 740})
    write(page, "w" * 300)
    expect(words_of(page)).to_be_visible()
    for part in PARTS:
        open_part(page, part)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, part


@pytest.mark.slow
def test_restart(site: Site, page: Any) -> None:
    """While the service is away the page says so, and goes on when it is back."""
    site.stop()
    write(page, GOOD)
    expect(page.locator("#trouble")).to_contain_text("does not answer")
    expect(page.locator("#state")).to_have_text("No answer")
    site.start()
    expect(page.locator(".verdict")).to_have_text("positive", timeout=20_000)
    expect(page.locator("#state")).to_have_text("Ready")
