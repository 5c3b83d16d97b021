"""A version beside simpler models, and beside a split that leaks."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from app.artifact import read_manifest
from app.errors import InvalidInput
from tests.corpus import make_corpus
from tests.deferred import deferred
from tests.trained import Workshop, call
from training.data.corpus import Corpus, Example

with deferred():
    from training.data.dataset import Source
    from training.evaluation.baselines import LEAKING, among, compare_baselines, score_majority
    from training.reports.scores import Scored


@pytest.mark.slow
def test_what_stands_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report has the version, the trigram model and the most frequent class on the same texts.

    What the recipe reaches on a split that leaks stands there too, with a sentence that says so.
    """
    rows = [
        (start + sample.text, sample.label, "")
        for sample in make_corpus(150, seed=2, labels=("negative", "negative", "positive"))
        for start in ("", "RT @ann: ", "RT @bob: ")
    ]
    with (tmp_path / "Sentiment.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "sentiment", "tweet_id"), *rows])
    data = ("--data", tmp_path / "Sentiment.csv", "--test-share", 0.3)
    recipe = ("--config=smoke", "--name=tweets", "--set=epochs=3", "--set=max_length=32")
    run, version = tmp_path / "run", tmp_path / "tweets" / "1"
    assert call("train", *recipe, *data, "--run", run) == 0
    assert call("export", "--run", run, "--models", tmp_path) == 0
    assert call("evaluate", version, *data, "--baselines", "--leaking") == 0
    assert "trigram model" in capsys.readouterr().out
    report = version / "report"
    split = json.loads((report / "metrics.json").read_text())["splits"]["test"]
    own, trigrams, majority, leaking = split["beside"]
    assert own["metrics"] == pytest.approx(split["metrics"], abs=1e-6)
    texts = sum(row["texts"] for row in split["scores"].values())
    assert majority["metrics"]["accuracy"] == pytest.approx(
        split["scores"]["negative"]["texts"] / texts, abs=1e-6
    )
    assert trigrams["metrics"]["accuracy"] > majority["metrics"]["accuracy"]
    assert "McNemar's p" in trigrams["note"]
    assert (leaking["name"], leaking["note"]) == ("tweets, leaking split", LEAKING)
    page = (report / "report.html").read_text()
    assert "Compared with other models" in page
    assert LEAKING in page


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--leaking"], "--leaking needs --baselines"),
        (["--split=train", "--baselines"], "--baselines must be of the version's own test texts"),
    ],
)
def test_baselines_of_nothing(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], options: list[str], fault: str
) -> None:
    """Baselines belong to the test texts of a version, and a leaking split beside them."""
    version = workshop.models / "bow" / "1"
    assert call("evaluate", version, "--data", workshop.data, *options) == 2
    assert fault in capsys.readouterr().err


def test_a_leaking_split_is_of_one_file(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the test texts have files of their own there is nothing that could leak."""
    version = shutil.copytree(workshop.models / "bow" / "1", tmp_path / "bow" / "1")
    asked = call("evaluate", version, "--data", workshop.data, "--baselines", "--leaking")
    assert asked == 2
    assert "--leaking needs one file" in capsys.readouterr().err


def test_a_leaking_split_has_no_answers(workshop: Workshop, tmp_path: Path) -> None:
    """A pretrained teacher has answered the texts of one split, so no other can be learned."""
    manifest = read_manifest(workshop.models / "bow" / "1")
    manifest.hyperparameters["teacher"]["answers"] = "runs/teacher"
    one, none = np.ones(1, np.int64), np.zeros(1)
    scored = Scored(("negative", "positive"), one, np.array([[0.2, 0.8]]), one, none)
    corpus = Corpus("made up", (Example("a", "positive"),), scored.labels)
    source = Source(str(tmp_path / "mine.csv"), test_share=0.2)
    with pytest.raises(InvalidInput, match="Received: a version that learned from answers"):
        compare_baselines(manifest, source, corpus, scored, leaking=True)


def test_the_most_frequent_class_is_sure_of_its_share() -> None:
    """Its answer to every text is the shares of the classes in training."""
    rows = (Example("a", "x"), Example("b", "x"), Example("c", "x"), Example("d", "y"))
    answers = score_majority(Corpus("made up", rows, ("x", "y")), 2)
    assert answers.tolist() == [[0.75, 0.25], [0.75, 0.25]]


def test_a_model_with_another_label() -> None:
    """A baseline of two labels is compared with a model of three, and never finds the third."""
    answers = np.array([[0.2, 0.8]])
    found = among(("negative", "neutral", "positive"), answers, ("negative", "positive"))
    assert found.tolist() == [[0.2, 0.0, 0.8]]
