"""Which of some texts a version has learned from."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from app.artifact import DataCard, Manifest
from app.errors import DataError
from tests.corpus import make_corpus, write, write_csv, write_tsv_folder
from tests.deferred import deferred
from training.configs import load_config

with deferred():
    from training.data.dataset import Dataset, Source, load_dataset
    from training.data.learned import Learned, find_learned

CONFIG = load_config("smoke")


def load(source: Source) -> Dataset:
    """What a training with the recipe would learn from."""
    return load_dataset(
        source, validation_share=CONFIG.loop.validation_share, seed=CONFIG.seed, unlabelled=True
    )


def manifest_of(data: DataCard) -> Manifest:
    """The manifest of a version that was trained on this data."""
    return Manifest(
        name="mine",
        version=1,
        labels=("negative", "positive"),
        architecture="rnn",
        hyperparameters=asdict(CONFIG),
        seed=CONFIG.seed,
        code_version="0",
        created="",
        text_fingerprint="0" * 64,
        data=data,
        temperature=1,
        metrics={},
        engines={},
        limits=(),
        files={},
    )


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """One file of which a part is held out for test."""
    return Source(str(write_csv(tmp_path / "m.csv", make_corpus(120, seed=1))), test_share=0.25)


def test_texts_are_found_by_their_digest(tmp_path: Path) -> None:
    """Training, validation and unlabelled texts are told apart, whatever their white space."""
    folder = write_tsv_folder(tmp_path / "data", train=60, test=20)
    write(folder / "unlabeled.tsv", "id\treview\n1_0\tof no label\n")
    data = load(Source(str(folder)))
    path = tmp_path / "learned.bin"
    Learned.of(data).write(path)
    assert data.test is not None
    new, seen, held_out = (f"  {t.texts()[3]}\n" for t in (data.test, data.train, data.validation))
    asked = [
        (new, "positive"),
        (seen, "negative"),
        (held_out, "positive"),
        ("of no  label", "positive"),
    ]
    corpus = Source(str(write_rows(tmp_path / "asked.csv", asked))).read("train")
    found = Learned.read(path).find(corpus)
    assert {use: used.tolist() for use, used in found.items()} == {
        "learned": [False, True, False, False],
        "calibrated": [False, False, True, False],
        "learned_unlabelled": [False, False, False, True],
    }


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    quoted = "".join(f'"{text.replace(chr(34), chr(34) * 2)}",{label}\n' for text, label in rows)
    return write(path, f"text,label\n{quoted}")


def test_eight_bytes_a_text(source: Source, tmp_path: Path) -> None:
    """The file is small, and holds no text."""
    data = load(source)
    Learned.of(data).write(tmp_path / "learned.bin")
    content = (tmp_path / "learned.bin").read_bytes()
    assert len(content) == 8 * (len(data.train) + len(data.validation)) + len(
        content.partition(b"\n")[0] + b"\n"
    )
    assert not any(text[:9].encode() in content for text in data.train.texts())


@pytest.mark.parametrize(
    "content", [b"", b"[1]\n", b"{}\n", b'{"learned": 2}\n12345678', b'{"learned": "x"}\n']
)
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    """A file of another kind or length is an error that names it."""
    path = tmp_path / "learned.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"learned\.bin: "):
        Learned.read(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5])
def test_an_older_version_on_its_own_file(source: Source, tmp_path: Path, share: float) -> None:
    """Without the file, the version's data is split as in training, whatever share is given now."""
    data = load(source)
    found = find_learned(tmp_path, manifest_of(data.card), replace(source, test_share=share))
    assert found is not None
    whole = replace(source, test_share=0.0).read("train")
    learned = np.any(list(found.find(whole).values()), axis=0)
    assert data.test is not None
    assert whole.where(~learned).texts() == data.test.texts()


def test_an_older_version_on_a_folder(tmp_path: Path) -> None:
    """The training texts of a folder are recognized by the manifest's fingerprints."""
    source = Source(str(write_tsv_folder(tmp_path / "data", train=60, test=20)))
    data = load(source)
    found = find_learned(tmp_path, manifest_of(data.card), source)
    assert found is not None
    assert found.find(data.train)["learned"].all()


@pytest.mark.parametrize("size", [40, 300])
def test_an_older_version_on_other_texts(source: Source, tmp_path: Path, size: int) -> None:
    """Of other texts it cannot be known which ones an older version has learned from."""
    other = Source(str(write_csv(tmp_path / "other.csv", make_corpus(size, seed=5))))
    assert find_learned(tmp_path, manifest_of(load(source).card), other) is None
