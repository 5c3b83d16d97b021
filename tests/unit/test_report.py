"""The report of a version: its figures, its pictures and its page."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import DataError
from tests.deferred import deferred
from tests.figures import figured_report

with deferred():
    from PIL import Image

    from tests.unit.test_scores import scored
    from training.reports.pictures import _STYLE, draw_scatters
    from training.reports.report import (
        Report,
        describe_lengths,
        describe_paired,
        describe_split,
        render_mistakes,
        write_report,
    )
    from training.reports.scores import compare_paired

PICTURES = ("curves", "confusion_matrix", "roc", "reliability", "slices", "lengths")
TWO, THREE = ("negative", "positive"), ("negative", "neutral", "positive")


def make_report(labels: tuple[str, ...] = TWO, *, texts: int = 200) -> Report:
    """Made-up figures of a fair model."""
    answers = scored(texts, labels=labels)
    paired = compare_paired(answers.right(), np.arange(texts) % 2 == 0)
    report = Report(
        title="tiny 1",
        labels=labels,
        metrics={"validation": {"tensorflow": {"accuracy": 0.875}, "onnx": {"log_loss": 0.25}}},
        calibration={"temperature": 1.5, "before": {"log_loss": 0.5}, "after": {"log_loss": 0.25}},
        history={"loss": [0.7, 0.4], "val_loss": [0.7, 0.5], "accuracy": [0.5, 0.8]},
        best_epoch=2,
        lengths=describe_lengths(np.random.default_rng(1).integers(3, 300, 500), 200),
        data={"source": "tests", "counts": {"train": 400}},
        settings={"seed": 1, "rate": 1e-7, "masked": True, "sizes": (16, 16)},
        limits=("Knows <nothing> & nobody.",),
    )
    split = describe_split(
        answers, texts="made-up test", engine="onnx", against=describe_paired("tiny/0", paired)
    )
    return report.with_split("test", split, {"onnx": split["metrics"]})


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag, and that it is open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag, which must be this one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect the text, but no style."""
        if self.open and self.open[-1] != "style":
            self.text += f"{data} "

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """Of every such tag, in order."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report, written once for all who only look."""
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, make_report())
    return folder


def read_page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("labels", [TWO, THREE])
def test_report_writes_its_files(tmp_path: Path, labels: tuple[str, ...]) -> None:
    """Figures, six pictures and the page are written, for two labels and for three."""
    written = write_report(tmp_path / "report", make_report(labels))
    assert sorted(written) == sorted((tmp_path / "report").iterdir())
    names = {*(f"{name}.png" for name in PICTURES), "metrics.json", "report.html"}
    assert {path.name for path in written} == names


def test_labels_of_any_letters(tmp_path: Path) -> None:
    """Letters that the font has not, and what looks like a formula, stop no report."""
    write_report(tmp_path, make_report(("恐い", r"$\oops$", "<b>")))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "恐い" in page.text
    assert r"$\oops$" in page.text
    assert "<b>" in page.text


def test_a_logarithmic_scale_shows_powers_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn as formulas, though a label that looks like one is not."""
    drawn = draw_scatters({"learning_rate": [1e-4, 1e-2]}, [0.5, 0.6], ["learning_rate"])
    monkeypatch.setitem(_STYLE, "text.parse_math", True)
    again = draw_scatters({"learning_rate": [1e-4, 1e-2]}, [0.5, 0.6], ["learning_rate"])
    assert drawn.png == again.png


def test_report_is_the_same_for_the_same_data(tmp_path: Path) -> None:
    """The same data gives the same bytes: no dates, no versions."""
    first = write_report(tmp_path / "a", make_report())
    second = write_report(tmp_path / "b", make_report())
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"Matplotlib" not in b"".join(path.read_bytes() for path in first)


def test_pictures_are_small_and_not_empty(tmp_path: Path) -> None:
    """Every picture stays below 60 kB and shows more than a background."""
    write_report(tmp_path, make_report(THREE, texts=5000))
    for name in PICTURES:
        path = tmp_path / f"{name}.png"
        assert path.stat().st_size < 60_000
        with Image.open(path) as image:
            assert image.width >= 400
            assert len(image.convert("RGB").getcolors(1 << 16) or ()) > 10


def test_page_needs_no_other_file(report: Path) -> None:
    """The page holds the very pictures and refers to nothing outside itself."""
    page = read_page(report)
    sources = [str(image["src"]) for image in page.attributes("img")]
    inlined = [
        base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources
    ]
    assert sorted(inlined) == sorted((report / f"{name}.png").read_bytes() for name in PICTURES)
    assert not page.attributes("script")
    source = (report / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", source)


def test_page_is_for_everybody(report: Path) -> None:
    """It has a language, one main part, headed columns, and words and sizes for each picture."""
    page = read_page(report)
    assert page.open == []
    assert page.attributes("html") == [{"lang": "en"}]
    assert len(page.attributes("main")) == len(page.attributes("h1")) == 1
    assert all(heading["scope"] in {"row", "col"} for heading in page.attributes("th"))
    for image in page.attributes("img"):
        assert len(str(image["alt"])) > 20
        content = base64.b64decode(str(image["src"]).partition(",")[2])
        size = Image.open(io.BytesIO(content)).size
        assert (int(str(image["width"])), int(str(image["height"]))) == size


def test_page_shows_what_it_was_given(report: Path) -> None:
    """Metrics, data, settings and limits are all on the page, as text and never as markup."""
    text = read_page(report).text
    for part in ("tiny 1", "0.8750", "0.2500", "train 400", "1e-07", "16, 16", "yes", "tiny/0"):
        assert part in text
    assert "Knows <nothing> & nobody." in text


def test_figures_are_plain_json(tmp_path: Path) -> None:
    """metrics.json holds everything, a number that is none as null, a row of numbers in a line."""
    report = replace(
        make_report(), settings={"rate": np.float32(0.5), "at": Path("x"), "nan": np.nan}
    )
    write_report(tmp_path, report)
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert content["settings"] == {"rate": 0.5, "at": "x", "nan": None}
    assert content["metrics"] == report.metrics
    assert '"loss": [ 0.7, 0.4 ]' in text


def test_a_split_is_described_in_full() -> None:
    """The figures of a split agree with each other, and count every text once in each view."""
    split = make_report(THREE).splits["test"]
    accuracy = split["metrics"]["accuracy"]
    low, high = split["intervals"]["accuracy"]
    assert low < accuracy < high
    assert np.trace(split["confusion_matrix"]) / 200 == pytest.approx(accuracy, abs=1e-6)
    for view in ("by_length", "by_unknown"):
        assert sum(row["texts"] for row in split[view]) == 200
        hits = sum(row["texts"] * row["accuracy"] for row in split[view])
        assert hits / 200 == pytest.approx(accuracy, abs=1e-6)
    assert sum(split["reliability"]["counts"]) == 200
    against = split["against"]
    assert (against["both_right"] + against["only_this_right"]) / 200 == pytest.approx(accuracy)
    assert against["its_accuracy"] == 0.5


def test_mistakes_are_told_without_their_texts() -> None:
    """Of the 20 surest mistakes the report has place, labels, probability and lengths only."""
    mistakes = make_report().splits["test"]["mistakes"]
    assert len(mistakes) == 20
    assert {*mistakes[0]} == {
        *("text", "label", "predicted", "probability", "tokens", "share_unknown"),
    }
    assert all(row["label"] != row["predicted"] for row in mistakes)
    assert sorted(mistakes, key=lambda row: -row["probability"]) == mistakes


def test_a_page_of_mistakes_repeats_beginnings() -> None:
    """Asked for, the page has the first 200 characters of each text, as text and not as markup."""
    split = make_report().splits["test"]
    page = Page(render_mistakes("tiny 1", split, ["<" * 500] * 200))
    assert page.open == []
    assert [word for word in page.text.split() if "<" in word] == ["<" * 199 + "…"] * 20


def test_a_report_is_read_again(tmp_path: Path) -> None:
    """What was written is read; another split joins it, and is what the page shows."""
    written = make_report()
    write_report(tmp_path / "a", written)
    read = Report.read(tmp_path / "a")
    write_report(tmp_path / "b", read)
    assert [(tmp_path / at / "report.html").read_bytes() for at in "ab"].count(
        (tmp_path / "a" / "report.html").read_bytes()
    ) == 2
    more = read.with_split("mine", {**read.splits["test"], "of": "7 texts of mine"}, {})
    write_report(tmp_path / "c", more)
    assert "7 texts of mine" in read_page(tmp_path / "c").text
    assert list(Report.read(tmp_path / "c").splits) == ["test", "mine"]


def test_an_older_report_is_understood_in_part(tmp_path: Path) -> None:
    """Unknown figures are dropped, missing ones not drawn."""
    content = {"title": "old 1", "labels": TWO, "accuracy": 0.9, "lengths": {"texts": 3}}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    written = write_report(tmp_path, Report.read(tmp_path))
    assert {path.name for path in written} == {"metrics.json", "report.html"}


@pytest.mark.parametrize("content", ["", "[]", "{}", "no json"])
def test_no_report(tmp_path: Path, content: str) -> None:
    """A file that holds no figures is named."""
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.json: not the figures of a report"):
        Report.read(tmp_path)


def test_lengths_tell_what_is_cut() -> None:
    """The share of texts longer than the limit is known; one of exactly that length is whole."""
    lengths = describe_lengths(np.array([1, 2, 3, 10]), 3)
    assert (lengths["median"], lengths["max"], lengths["share_cut"]) == (2.5, 10, 0.25)
    assert sum(lengths["histogram"]["counts"]) == 4


@pytest.mark.parametrize(
    ("change", "files"),
    [
        ({"history": {}}, 7),
        ({"history": {"loss": [0.5]}, "best_epoch": None}, 8),
        ({"lengths": ([], 5)}, 7),
        ({"lengths": ([1, 1], 1)}, 8),
        ({"lengths": ([1, 40], 1199)}, 8),
        ({"splits": {}}, 4),
        ({"metrics": {}, "data": {}, "settings": {}, "limits": (), "calibration": {}}, 8),
    ],
    ids=[
        "no history",
        "one epoch",
        "no lengths",
        "short texts",
        "none cut",
        "no split",
        "no facts",
    ],
)
def test_report_copes_with_little(tmp_path: Path, change: dict[str, Any], files: int) -> None:
    """Whatever is missing is left out, and the rest is written."""
    if "lengths" in change:
        lengths, limit = change["lengths"]
        change = {"lengths": describe_lengths(np.array(lengths, int), limit)}
    assert len(write_report(tmp_path, replace(make_report(), **change))) == files


def test_short_texts_and_capabilities(tmp_path: Path) -> None:
    """Each set, each kind and each test has a row; two curves compare long and short texts."""
    known = figured_report(0.9)
    reliability = make_report().splits["test"]["reliability"]
    short = {**known.short_texts, "few_tokens": 64, "reliability": reliability}
    report = replace(make_report(), short_texts=short, capabilities=known.capabilities)
    written = write_report(tmp_path, report)
    assert tmp_path / "reliability_short.png" in written
    page = read_page(tmp_path)
    for part in ("ordinary neutral", "3 of 4", "30.0% to 95.0%", "1 of 2", "denied praise"):
        assert part in page.text
    alternatives = [str(image["alt"]) for image in page.attributes("img")]
    assert any("short texts, up to 64 tokens" in alternative for alternative in alternatives)
    assert Report.read(tmp_path).capabilities == known.capabilities


def test_a_split_of_one_class(tmp_path: Path) -> None:
    """Texts that all carry one label have no ROC, and everything else."""
    answers = replace(scored(50, labels=TWO), y_true=np.zeros(50, int))
    split = describe_split(answers, texts="half", engine="onnx")
    assert split["roc"] == {}
    assert len(write_report(tmp_path, Report("tiny 1", TWO, splits={"half": split}))) == 6
