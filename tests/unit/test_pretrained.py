import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra teacher")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel

from app.errors import InvalidInput
from tests.pretrained import tiny_teacher
from training.distillation.pretrained import (
    FitConfig,
    PretrainedTeacher,
    TeacherExamples,
    WordPieces,
    batches,
    fit,
    load_pretrained,
    load_weights,
    predict,
    save_weights,
)

CONFIG = FitConfig(learning_rate=1e-2, head_rate=1e-2, batch_pieces=64)


def row_opinions(rows: list[np.ndarray]) -> np.ndarray:
    """Whether the second word of a text is the one that tells an opinion."""
    return np.array([row[2] == 7 for row in rows], np.float32)


def examples(count: int = 64) -> TeacherExamples:
    """Texts whose label depends on one word."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(10, 30, rng.integers(3, 12)).astype(np.int32) for _ in range(count)]
    targets = np.arange(count) % 2
    for row, target in zip(rows, targets, strict=True):
        row[1:3] = 8 + target, rng.integers(6, 8)
    return TeacherExamples(
        ids=np.concatenate(rows),
        ends=np.cumsum([len(row) for row in rows]),
        targets=targets.astype(np.float32),
        opinions=np.where(np.arange(count) < count // 2, row_opinions(rows), np.nan),
        weights=np.ones(count, np.float32),
    )


class Killed(PretrainedTeacher):
    """A teacher whose training is killed after some steps."""

    def __init__(self, of: PretrainedTeacher, steps: int) -> None:
        super().__init__(of.encoder, of.output.in_features)
        self.left = steps

    def forward(self, ids, mask):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().forward(ids, mask)


@pytest.mark.parametrize("seed", [None, (7, 0)])
def test_batches(seed) -> None:
    """Every text is in one batch; a batch fits into the budget, or is one text."""
    lengths = np.random.default_rng(0).integers(1, 100, 5000).tolist()
    found = list(batches(lengths, 512, seed))
    assert sorted(np.concatenate(found).tolist()) == list(range(5000))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 512


def test_texts_are_cut_in_their_middle() -> None:
    """A text over its limit keeps its beginning and its end, between the two marks."""
    _, pieces = tiny_teacher()
    short, long = pieces.encode(["a b c", "a b c d e f g h i j k l"], 7)
    whole = pieces.encode(["a b c d e f g h i j k l"], 99)[0]
    assert len(short) == 5
    assert long.tolist() == [*whole[:2], *whole[-5:]]


@pytest.mark.parametrize(
    ("letters", "windows"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("abcd", ["abcd"]),
        ("abcde", ["abc", "de"]),
        ("a" * 12, ["aaaa"] * 3),
    ],
)
def test_windows(letters: str, windows: list[str]) -> None:
    """The windows of a text hold each word once, in order, and are about as long."""
    _, pieces = tiny_teacher()
    (rows,) = pieces.windows([" ".join(letters)], longest=6)
    expected = [pieces.encode([" ".join(window)], longest=6)[0].tolist() for window in windows]
    assert [row.tolist() for row in rows] == expected


@pytest.mark.parametrize(
    ("names", "marks"),
    [
        (("[CLS]", "[SEP]"), (0, 1)),
        (("<s>", "</s>"), (0, 1)),
        (("[CLS]", "[SEP]", "<s>", "</s>"), (2, 3)),
    ],
)
def test_marks_around_a_text(names: tuple[str, ...], marks: tuple[int, int]) -> None:
    """A text is between the marks that its encoder was pretrained with."""
    row = WordPieces(words([*names, "a"])).encode(["a"], 9)[0]
    assert row.tolist() == [marks[0], len(names), marks[1]]


def test_a_tokenizer_without_marks() -> None:
    """A tokenizer without known marks belongs to another kind of model."""
    with pytest.raises(InvalidInput, match="must have <s> and </s> or"):
        WordPieces(words(["a", "[CLS]"]))


def words(names: list[str]) -> Tokenizer:
    """A tokenizer that knows these words."""
    tokenizer = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, names[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_folder_that_is_no_encoder(missing: str, tmp_path: Path) -> None:
    """What is missing is said before anything is loaded."""
    for name in {"config.json", "tokenizer.json"} - {missing}:
        (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(InvalidInput, match=f"Received: .*, without {missing}"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("frozen", "change", "received"),
    [
        (3, {}, "with 3 layers, 0 weights missing"),
        (0, {"pad_token_id": None}, "padding None"),
        (0, {"num_hidden_layers": 4}, "with 4 layers, 16 weights missing"),
        (0, {"model_type": "gpt2"}, r"must be one that transformers\.AutoModel loads"),
    ],
)
def test_an_encoder_that_is_refused(
    frozen: int, change: dict[str, object], received: str, tmp_path: Path
) -> None:
    """Missing weights, too few layers and other kinds of models are said at once."""
    save_encoder(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(InvalidInput, match=received):
        load_pretrained(tmp_path, frozen=frozen)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_an_encoder_with_a_damaged_file(name: str, tmp_path: Path) -> None:
    """A damaged file is a sentence, not a traceback of the library that reads it."""
    save_encoder(tmp_path)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(InvalidInput, match=r"must be one that transformers\.AutoModel loads"):
        load_pretrained(tmp_path)


def save_encoder(folder: Path) -> None:
    """Save a random encoder of three layers."""
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=3,
    )
    BertModel(config).save_pretrained(folder)
    words(["[CLS]", "[SEP]", "a"]).save(str(folder / "tokenizer.json"))


def test_an_encoder_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first layers can stay as they are; the others are fine-tuned."""
    save_encoder(tmp_path)
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    model, pieces = load_pretrained(tmp_path, frozen=2)
    assert int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) < 100  # each takes megabytes
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained
    assert all(name.startswith(("encoder.encoder.layer.2.", "output.")) for name in trained)
    assert model.padding == 3
    assert pieces.encode(["a"], 9)[0].tolist() == [0, 2, 1]


def test_the_teacher_learns(tmp_path: Path) -> None:
    """Both logits are learned, an opinion from the half that know it; embeddings stay."""
    model, _ = tiny_teacher()
    embeddings = model.encoder.embeddings.word_embeddings.weight.clone()
    lessons = examples(4096)
    slow = replace(CONFIG, learning_rate=2e-3, opinion_weight=1.0)
    fit(model, lessons, tmp_path, slow, checkpoint_every_s=1e9)
    logits = predict(model, lessons.rows())
    assert ((logits[:, 0] > 0) == (lessons.targets > 0)).mean() > 0.9
    opinions = row_opinions(lessons.rows())
    assert ((logits[:, 1] > 0) == (opinions > 0)).mean() > 0.8
    assert torch.equal(embeddings, model.encoder.embeddings.word_embeddings.weight)


def test_a_stopped_fit_resumes_exactly(tmp_path: Path) -> None:
    """A fit that was killed between checkpoints ends with the weights of an unbroken one."""
    results = []
    for steps in (10**9, 5):
        folder = tmp_path / str(steps)
        folder.mkdir()
        model, _ = tiny_teacher()
        if steps == 5:
            with pytest.raises(KeyboardInterrupt):
                fit(Killed(model, steps), examples(), folder, CONFIG, checkpoint_every_s=0)
            model, _ = tiny_teacher()
        fit(model, examples(), folder, CONFIG, checkpoint_every_s=0)
        results.append(predict(model, examples().rows()))
    np.testing.assert_array_equal(*results)


def test_answers_do_not_depend_on_neighbours() -> None:
    """A text has the same logit alone as beside longer ones."""
    model, _ = tiny_teacher()
    torch.nn.init.normal_(model.output.weight)
    rows = examples().rows()
    together = predict(model, rows)
    alone = [predict(model, [row])[0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(together[:, 0]) > 0.01


def test_saved_weights(tmp_path: Path) -> None:
    """Saved weights give the same answers in a new model."""
    model, _ = tiny_teacher()
    torch.nn.init.normal_(model.output.weight)
    save_weights(model, tmp_path / "weights.pt")
    other, _ = tiny_teacher()
    load_weights(other, tmp_path / "weights.pt")
    rows = examples().rows()
    np.testing.assert_array_equal(predict(model, rows), predict(other, rows))
