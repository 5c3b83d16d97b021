"""All tutorials in one go: trained once, scored once, compared with what they claim."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.artifact import Manifest
from app.errors import DataError
from tests.corpus import make_corpus, write_tsv_folder
from tests.deferred import deferred
from tests.signals import fail
from tests.trained import call
from training.config import Config
from training.configs import TUTORIALS, load_config
from training.data.corpus import Corpus, Example
from training.support.interruption import signals_interrupt

with deferred():
    from PIL import Image

    from training.data.dataset import Source
    from training.data.split import split_rows
    from training.evaluation.tutorial_claims import CLAIMS
    from training.evaluation.tutorials import compare_tutorials
    from training.train import train_run

pytestmark = pytest.mark.slow

TINY = [
    "epochs=1",
    "max_length=20",
    "head_tokens=4",
    "vocabulary_size=200",
    "embedding_dim=4",
    "units=4",
]
SOME = {
    name: load_config(name).with_assignments(TINY)
    for name in ("tutorial_bow", "tutorial_bow_dropout", "tutorial_tweets")
}


class Workbench:
    """Tiny data, and a comparison that counts its trainings."""

    def __init__(self, folder: Path) -> None:
        self.reviews = Source(str(write_tsv_folder(folder / "reviews", train=60, test=20)))
        self.tweets = Source(str(write_tweets(folder / "Sentiment.csv")), format="gop")
        self.folder = folder / "runs"
        self.trained: list[str] = []
        self.broken = ""

    def compare(self, configs: Mapping[str, Config], *, fresh: bool = False) -> list[str]:
        """Compare, and tell which recipes of the reviews were trained for it."""
        self.trained.clear()
        compare_tutorials(
            configs,
            self.folder,
            reviews=self.reviews,
            tweets=self.tweets,
            train_run=self._train,
            fresh=fresh,
        )
        return list(self.trained)

    def rows(self) -> dict[str, Mapping[str, object]]:
        """The comparison, by name."""
        record = json.loads((self.folder / "comparison" / "comparison.json").read_text())
        return {model["name"]: model for model in record["models"]}

    def stamps(self) -> dict[Path, int]:
        """When each file was written, those of the comparison left out."""
        files = (path for path in self.folder.glob("tutorial-*/**/*") if path.is_file())
        return {path: path.stat().st_mtime_ns for path in files}

    def _train(self, config: Config, source: Source, folder: Path) -> None:
        self.trained.append(config.name)
        if config.name == self.broken:
            raise DataError("the disk is full")
        train_run(config, source, folder)


def write_tweets(path: Path) -> Path:
    """A file in the layout of the debate tweets."""
    samples = make_corpus(60, seed=3, labels=("negative", "neutral", "positive"))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "candidate", "sentiment", "text"])
        writer.writerows((n, "none", s.label.capitalize(), s.text) for n, s in enumerate(samples))
    return path


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """One comparison, made once."""
    workbench = Workbench(tmp_path_factory.mktemp("tutorials"))
    assert workbench.compare(SOME) == ["tutorial-bow", "tutorial-bow-dropout"]
    return workbench


def test_the_comparison(workbench: Workbench) -> None:
    """Each recipe has its row, with what is claimed and by how much it differs, and a picture."""
    rows = workbench.rows()
    assert rows.keys() == {"tutorial-bow", "tutorial-bow-dropout", "tutorial-tweets-leaking"}
    assert rows["tutorial-bow"]["claimed"] == [0.8735, 0.8735]
    markdown = (workbench.folder / "comparison" / "comparison.md").read_text()
    head, line = (next(x for x in markdown.splitlines() if key in x) for key in ("Model", "-bow |"))
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    accuracy, claimed = (float(cells[name].rstrip("%")) for name in ("Accuracy", "Claimed"))
    assert float(cells["Difference"]) == pytest.approx(accuracy - claimed, abs=0.011)
    with Image.open(workbench.folder / "comparison" / "comparison.png") as picture:
        assert picture.width >= 400


def test_scores_are_of_test_texts_through_the_version_that_serves(workbench: Workbench) -> None:
    """A row repeats what `evaluate` wrote into the manifest of the version beside the run."""
    version = workbench.folder / "tutorial-bow" / "models" / "tutorial-bow" / "1"
    manifest = Manifest.model_validate_json((version / "manifest.json").read_bytes())
    assert workbench.rows()["tutorial-bow"]["metrics"] == manifest.metrics["test"]["onnx"]


def test_what_is_finished_is_not_done_again(workbench: Workbench) -> None:
    """A second call trains nothing, writes no test figure anew and gives the same table."""
    rows, stamps = workbench.rows(), workbench.stamps()
    assert workbench.compare(SOME) == []
    assert (workbench.rows(), workbench.stamps()) == (rows, stamps)


def test_a_recipe_that_fails(workbench: Workbench) -> None:
    """One that fails is named with its reason, and keeps its earlier run; the others go on."""
    some = {name: config for name, config in SOME.items() if name != "tutorial_tweets"}
    workbench.broken = "tutorial-bow"
    with pytest.raises(DataError, match=r"1 of 2 .* tutorial_bow: the disk is full"):
        workbench.compare(some, fresh=True)
    workbench.broken = ""
    assert workbench.trained == ["tutorial-bow", "tutorial-bow-dropout"]
    assert workbench.rows().keys() == {"tutorial-bow-dropout"}
    assert workbench.compare(some) == []


def test_an_interruption_is_no_failure(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that native code makes another error of ends the command; the table stays."""
    rows = workbench.rows()
    monkeypatch.setattr(workbench, "_train", fail)
    with pytest.raises(KeyboardInterrupt), signals_interrupt():
        workbench.compare(SOME, fresh=True)
    assert workbench.rows() == rows


def test_another_recipe_is_trained(workbench: Workbench) -> None:
    """A run of other settings is no result of this recipe."""
    workbench.broken = "tutorial-bow"
    with pytest.raises(DataError, match="the disk is full"):
        workbench.compare({"tutorial_bow": SOME["tutorial_bow"].replace(seed=8)})
    workbench.broken = ""
    assert workbench.trained == ["tutorial-bow"]


def test_without_tweets_and_without_test_texts(workbench: Workbench, tmp_path: Path) -> None:
    """Without the tweets their recipe is left out; without test texts there is no comparison."""
    one = {"tutorial_tweets": SOME["tutorial_tweets"]}
    source = Source(str(write_tweets(tmp_path / "only.csv")))
    with pytest.raises(DataError, match="must have one"):
        compare_tutorials(one, tmp_path, reviews=source, tweets=None, train_run=train_run)
    compare_tutorials(one, tmp_path, reviews=workbench.reviews, tweets=None, train_run=train_run)
    assert not (tmp_path / "tutorial-tweets-leaking").exists()


@pytest.mark.parametrize("missing", ["reviews", "tweets"])
def test_without_data(tmp_path: Path, missing: str) -> None:
    """Data that is not there is named at once, not after hours of training the other recipes."""
    there = Source(str(write_tsv_folder(tmp_path / "there", train=6, test=6)))
    sources = {"reviews": there, "tweets": there, missing: Source(str(tmp_path / "gone"))}

    def train_nothing(_config: Config, _source: Source, _folder: Path) -> None:
        pytest.fail("nothing is to be trained")

    with pytest.raises(DataError, match="gone: there is no such file or folder") as refused:
        compare_tutorials(SOME, tmp_path / "runs", train_run=train_nothing, **sources)
    assert "failed" not in str(refused.value)


def test_rows_are_held_out_whatever_they_say() -> None:
    """A share of the rows, copies and all, by the seed alone; every row is on one side."""
    examples = tuple(Example(f"tweet {n // 4}", "negative", "one") for n in range(40))
    corpus = Corpus("tweets", examples, ("negative", "positive"))
    learned, held_out = split_rows(corpus, held_out=0.3, seed=1)
    assert (len(learned), len(held_out)) == (28, 12)
    assert sorted([*learned.texts(), *held_out.texts()]) == sorted(corpus.texts())
    assert set(learned.texts()) & set(held_out.texts())
    assert split_rows(corpus, held_out=0.3, seed=1) == (learned, held_out)
    assert split_rows(corpus, held_out=0.3, seed=2) != (learned, held_out)


def test_every_tutorial_has_its_claim() -> None:
    """What a recipe is compared with is written down, with its source."""
    assert tuple(CLAIMS) == TUTORIALS
    assert all(claim.source for claim in CLAIMS.values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config=smoke", "--tweets=x.csv"], "--tweets belongs to --config all-tutorials"),
        (["--config=all-tutorials", "--name=mine"], "--name belongs to a single recipe"),
        (
            ["--config=all-tutorials", "--set=momentum=0.5"],
            "momentum and nesterov need optimizer sgd",
        ),
    ],
)
def test_options_that_do_not_fit(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option of one recipe, or of all, is refused with the other before anything is trained."""
    assert call("train", "--data", "no/such/data", *arguments) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    """`train --config all-tutorials` trains every one of them; `--set` holds for all."""
    reviews = write_tsv_folder(tmp_path / "reviews", train=60, test=20)
    tweets = write_tweets(tmp_path / "Sentiment.csv")
    settings = [f"--set={value}" for value in TINY]
    data = ["--data", reviews, "--tweets", tweets, "--run", tmp_path / "runs"]
    assert call("train", "--config", "all-tutorials", *data, *settings) == 0
    markdown = (tmp_path / "runs" / "comparison" / "comparison.md").read_text()
    assert all(load_config(name).name in markdown for name in TUTORIALS)
