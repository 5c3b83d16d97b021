import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.report import ReportData, summarise, write_report
from training.scores import (
    confusion_matrix,
    measure_reliability,
    roc_curve,
    roc_curves,
    score_labels,
)

PICTURES = ("curves", "confusion_matrix", "roc", "reliability", "lengths")


def report_data(
    labels: tuple[str, ...] = ("negative", "positive"), *, texts: int = 200
) -> ReportData:
    """Made-up answers of a fair model."""
    generator = np.random.default_rng(1)
    y_true = np.arange(texts) % len(labels)
    logits = generator.normal(size=(texts, len(labels)))
    logits[np.arange(texts), y_true] += 1.5
    exponents = np.exp(logits)
    return ReportData(
        title="tiny 1",
        summary="A model for tests.",
        evaluated_on=f"{texts} test texts",
        labels=labels,
        y_true=y_true,
        probabilities=(exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32),
        history={"loss": [0.7, 0.4], "val_loss": [0.7, 0.5], "accuracy": [0.5, 0.8]},
        best_epoch=2,
        lengths=generator.integers(3, 300, 500),
        max_tokens=200,
        metrics={"test": {"tensorflow": {"accuracy": 0.875}, "onnx": {"loss": 0.25}}},
        data={"source": "tests", "counts": {"train": 400}},
        settings={"seed": 1, "rate": 1e-3, "masked": True, "sizes": (16, 16)},
        limits=("Knows <nothing> & nobody.",),
    )


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
    write_report(folder, report_data())
    return folder


def read_page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("labels", [("negative", "positive"), ("negative", "neutral", "positive")])
def test_report_writes_its_files(tmp_path: Path, labels: tuple[str, ...]) -> None:
    """Numbers, five pictures and the page are written, for two labels and for three."""
    written = write_report(tmp_path / "report", report_data(labels))
    assert sorted(written) == sorted((tmp_path / "report").iterdir())
    names = {*(f"{name}.png" for name in PICTURES), "metrics.json", "report.html"}
    assert {path.name for path in written} == names


def test_report_is_the_same_for_the_same_data(tmp_path: Path) -> None:
    """The same data gives the same bytes: no dates, no versions."""
    first = write_report(tmp_path / "a", report_data())
    second = write_report(tmp_path / "b", report_data())
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"Matplotlib" not in b"".join(path.read_bytes() for path in first)


def test_pictures_are_small_and_not_empty(tmp_path: Path) -> None:
    """Every picture stays below 60 kB and shows more than a background."""
    write_report(tmp_path, report_data(("negative", "neutral", "positive"), texts=5000))
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
    for part in ("tiny 1", "0.8750", "0.2500", "train 400", "0.001", "16, 16", "yes"):
        assert part in text
    assert "Knows <nothing> & nobody." in text


def test_numbers_are_plain_json(tmp_path: Path) -> None:
    """metrics.json repeats what was given and adds what follows from the answers."""
    data = replace(
        report_data(), settings={"rate": np.float32(0.5), "at": Path("x"), "nan": np.nan}
    )
    write_report(tmp_path, data)
    numbers = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert numbers["settings"] == {"rate": 0.5, "at": "x", "nan": None}
    assert numbers["metrics"] == data.metrics
    assert numbers["labels"] == ["negative", "positive"]
    right = data.probabilities.argmax(axis=1) == data.y_true
    assert numbers["accuracy"] == pytest.approx(right.mean())
    assert np.sum(numbers["confusion_matrix"]) == 200


def test_lengths_tell_what_is_cut() -> None:
    """The share of texts longer than the limit is known; one of exactly that length is whole."""
    data = replace(report_data(), lengths=np.array([1, 2, 3, 10]), max_tokens=3)
    lengths = summarise(data)["lengths"]
    assert (lengths["median"], lengths["max"], lengths["share_cut"]) == (2.5, 10, 0.25)


@pytest.mark.parametrize(
    "change",
    [
        {"history": {}},
        {"history": {"loss": [0.5]}, "best_epoch": None},
        {"lengths": np.array([], dtype=np.int64)},
        {"lengths": np.array([1, 1]), "max_tokens": 1},
        {"y_true": np.zeros(200, dtype=np.int64)},
        {"metrics": {}, "data": {}, "settings": {}, "limits": (), "summary": ""},
    ],
    ids=["no history", "one epoch", "no lengths", "short texts", "one class", "no facts"],
)
def test_report_copes_with_little(tmp_path: Path, change: dict[str, object]) -> None:
    """Whatever is missing is left out, and the rest is written."""
    assert len(write_report(tmp_path, replace(report_data(), **change))) == 7


@pytest.mark.parametrize(("texts", "labels"), [(199, 2), (200, 3), (0, 2)])
def test_report_refuses_shapes_that_disagree(texts: int, labels: int) -> None:
    """Probabilities need a row per text and a column per label."""
    with pytest.raises(ValueError, match="a row per text and a column per label"):
        replace(
            report_data(),
            y_true=report_data().y_true[:texts],
            labels=tuple(f"label {k}" for k in range(labels)),
        )


# Scores


def test_confusion_matrix_has_true_labels_in_rows() -> None:
    """Row i, column j counts texts of label i that were taken for j."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    assert confusion_matrix(np.array([0, 0, 1]), probabilities).tolist() == [[1, 1], [0, 1]]


def test_scores_of_labels() -> None:
    """Precision is of what was predicted, recall of what was there; nothing over nothing is 0."""
    scores = score_labels(np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert scores["a"] == {"precision": 0.6, "recall": 0.75, "f1": pytest.approx(2 / 3), "texts": 4}
    assert scores["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "texts": 0}


@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "no ties"])
def test_roc_area_is_a_chance(decimals: int) -> None:
    """The area is the chance that a positive scores above a negative, a tie counting half."""
    generator = np.random.default_rng(3)
    positive = generator.random(300) < 0.3
    score = np.round(generator.normal(size=300) + positive, decimals)
    gaps = score[positive][:, None] - score[~positive][None, :]
    curve = roc_curve(positive, score)
    assert curve is not None
    assert curve.area() == pytest.approx((gaps > 0).mean() + (gaps == 0).mean() / 2)


def test_roc_runs_from_corner_to_corner() -> None:
    """A perfect order has the area 1, its reverse 0, and equal scores draw the diagonal."""
    positive = np.array([True, True, False, False])
    curves = [
        roc_curve(positive, np.array(score))
        for score in ([0.9, 0.8, 0.2, 0.1], [0.1, 0.2, 0.8, 0.9], [0.5, 0.5, 0.5, 0.5])
    ]
    assert [curve.area() for curve in curves if curve] == [1.0, 0.0, 0.5]


def test_roc_is_of_the_second_of_two_labels_or_of_all() -> None:
    """Two labels have mirrored curves, so one is drawn; a label without texts has none."""
    two, three = report_data(), report_data(("negative", "neutral", "positive"))
    assert list(roc_curves(two.y_true, two.probabilities, two.labels)) == ["positive"]
    absent = np.where(three.y_true == 1, 0, three.y_true)
    assert list(roc_curves(absent, three.probabilities, three.labels)) == ["negative", "positive"]


def test_calibration_error_weighs_the_gaps() -> None:
    """The error is the mean gap of the bins between confidence and accuracy, weighted by texts."""
    sure = np.array([0.6, 0.6, 0.9, 0.9, 0.9, 0.9])
    right = np.array([True, False, True, True, True, True])
    probabilities = np.stack([sure, 1 - sure], axis=1)
    found = measure_reliability(np.where(right, 0, 1), probabilities)
    assert found.error == pytest.approx((2 * 0.1 + 4 * 0.1) / 6)
    assert found.counts[[9, 13]].tolist() == [2, 4]
    assert found.accuracy[[9, 13]].tolist() == [0.5, 1.0]
