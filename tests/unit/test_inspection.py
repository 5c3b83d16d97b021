"""`valence-train check` says what a training would learn from, by row number and without a text."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.corpus import Sample, make_corpus, write, write_csv
from tests.deferred import deferred
from tests.server import ROOT
from training.configs import load_config

with deferred():
    from training.cli import main
    from training.data.dataset import Source
    from training.inspection.survey import Survey, survey
    from training.inspection.texts import is_foreign

SAMPLES = make_corpus(200, seed=1)
CONFLICTS = "texts that carry several labels"
FOREIGN = "texts that look foreign"
TOKENLESS = "texts without a token, such as dashes alone"
NEAR = "test texts that are training texts but for case, punctuation or markup"
EXACT = "test texts that are training rows too (left out of training)"
NEAR_VALIDATION = "validation texts that are training texts but for case, punctuation or markup"


def look(path: Path, samples: Sequence[Sample], **options: float | str) -> Survey:
    """Survey a file with these rows; the first is row 2, below the header."""
    source = Source(str(write_csv(path, samples)), **options)  # type: ignore[arg-type]
    return survey(source, load_config("smoke"))


def test_rows_by_label_and_split(tmp_path: Path) -> None:
    """Every row stands in one cell of the table of labels, and in the sum of rows."""
    copies = [SAMPLES[0], SAMPLES[0], SAMPLES[1]._replace(label="negative")]
    found = look(tmp_path / "m.csv", [*SAMPLES, *copies])
    assert found.rows.read == 203
    assert sum(sum(counts.values()) for counts in found.labels.values()) == 203
    assert found.labels["negative"]["dropped"] == 2 + 1
    assert found.labels["positive"]["dropped"] == 1
    assert found.findings[CONFLICTS].rows == ("row 3",)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("-- ... --", TOKENLESS),
        ("…", TOKENLESS),
        ("Сегодня мы чувствуем радость", FOREIGN),
        ("今日は嬉しいという気持ちです", FOREIGN),
        ("No me gusta esta larga película; los actores no saben lo que hacen y es mala", FOREIGN),
    ],
)
def test_odd_texts(tmp_path: Path, text: str, finding: str) -> None:
    """An odd text is counted and named by its row, in the training part or in that for test."""
    samples = [*SAMPLES[:100], Sample(text, "positive"), *SAMPLES[100:]]
    for share in (0.0, 0.4):
        found = look(tmp_path / "m.csv", samples, test_share=share)
        assert (found.findings[finding].count, found.findings[finding].rows) == (1, ("row 102",))


@pytest.mark.parametrize("name", ["Zoë", "naïve café", "Škoda"])
def test_latin_letters_are_not_foreign(name: str) -> None:
    """Letters with accents are Latin, and a short text has too few words to be judged by them."""
    assert not is_foreign(name, name.lower().split())


def test_texts_shared_by_files(tmp_path: Path) -> None:
    """Texts of the test file that training has are found, also with other case and punctuation."""
    long = [sample for sample in SAMPLES if len(sample.text.split()) > 20]
    loud = Sample(f"<br />{long[1].text.upper()}!!", long[1].label)
    new = make_corpus(40, seed=8)[20:]
    test = write_csv(tmp_path / "test.csv", [long[0], loud, *new])
    found = look(tmp_path / "m.csv", SAMPLES, test_path=str(test))
    assert found.findings[EXACT].rows[0] == "row 2 of test"
    assert found.findings[NEAR].rows[0] == "row 3 of test"
    assert found.rows.dropped["because_in_test"] == found.findings[EXACT].count


def test_texts_shared_by_training_and_validation(tmp_path: Path) -> None:
    """A text that is in validation in capitals and in training without is counted."""
    long = [sample for sample in SAMPLES if len(sample.text.split()) > 12]
    loud = [Sample(sample.text.upper(), sample.label) for sample in long]
    found = look(tmp_path / "m.csv", [*SAMPLES, *loud])
    assert found.findings[NEAR_VALIDATION].count > 0


def test_rows_to_look_at(tmp_path: Path) -> None:
    """A wrong label, a text of extreme length and a rare label are named, with the reason."""
    samples = make_corpus(300, seed=1)
    samples[40] = samples[40]._replace(label="positive")
    samples[41] = samples[41]._replace(text=samples[41].text + " and so on" * 2000)
    rare = [Sample(f"{sample.text} {n}", "neutral") for n, sample in enumerate(samples[:3])]
    told = look(tmp_path / "m.csv", [*samples, *rare]).surprises
    assert len(told) <= 10
    reasons = dict(line.split(": ", 1) for line in told)
    assert reasons["row 42"].startswith("labelled positive, but a linear model")
    assert "tokens, where half have at most" in reasons["row 43"]
    assert any(reason == "one of 3 texts labelled neutral" for reason in reasons.values())


def test_lengths_with_the_cut(tmp_path: Path) -> None:
    """The share of texts that the recipe's maximum length cuts is told."""
    config = load_config("smoke").replace(max_length=12, head_tokens=3)
    found = survey(Source(str(write_csv(tmp_path / "m.csv", SAMPLES))), config).lengths
    assert (found["texts"], found["max_tokens"]) == (200, 11)
    assert 0.4 < found["share_cut"] < 0.9


def test_places_in_a_tree(tmp_path: Path) -> None:
    """Texts that are a file each have no rows: they are counted through."""
    for label in ("pos", "neg"):
        for n in range(8):
            text = "…" if (label, n) == ("pos", 2) else f"text {n} of {label}"
            write(tmp_path / "train" / label / f"{n}_1.txt", text)
    found = survey(Source(str(tmp_path)), load_config("smoke"))
    assert found.findings[TOKENLESS].rows == ("text 11",)


def test_the_command(tmp_path: Path) -> None:
    """Numbers are printed and written as a page, without a word of a text and without TensorFlow.

    An earlier report in the folder is replaced.
    """
    secret = [Sample(f"{sample.text} xyzzy", sample.label) for sample in SAMPLES]
    path = write_csv(tmp_path / "m.csv", [*secret, *secret[:40], Sample("…", "positive")])
    report = tmp_path / "report"
    write(report / "check.json", "{}")
    program = (
        "import sys\nfrom training.cli import main\nstatus = main(sys.argv[1:])\n"
        "sys.exit(status or not {'tensorflow', 'keras'}.isdisjoint(sys.modules))"
    )
    command = [sys.executable, "-c", program, "check", str(path), "--test-share", "0.2"]
    done = subprocess.run(
        [*command, "--report", str(report)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 texts without a token, such as dashes alone: rows 242" in done.stdout
    assert "rows dropped from the test part" in done.stdout
    written = {path.name: path.read_bytes() for path in report.iterdir()}
    assert set(written) == {"check.json", "report.html", "labels.png", "lengths.png"}
    assert json.loads(written["check.json"])["rows"]["read"] == 241
    assert not any(b"xyzzy" in content for content in [done.stdout.encode(), *written.values()])


def test_nothing_to_learn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where training would fail, so does the check, with the same sentence."""
    path = write(tmp_path / "m.csv", "text,label\n" + "same,negative\nsame,positive\n" * 2)
    assert main(["check", str(path)]) == 1
    assert "no text is left to learn from. Received: 4 rows" in capsys.readouterr().err
