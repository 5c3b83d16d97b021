"""Recipes and the options that change them."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from app.errors import InvalidInput
from training.config import Config, ModelConfig, TeacherConfig, current_names
from training.configs import TUTORIALS, config_names, load_config

CONFIG = Config(name="tiny", model=ModelConfig(architecture="rnn"))


@pytest.mark.parametrize("name", config_names())
def test_every_recipe_loads(name: str) -> None:
    """A file in `training/configs/` defines a valid config."""
    assert isinstance(load_config(name), Config)


def test_unknown_recipe() -> None:
    """A recipe that is not there is answered with those that are."""
    with pytest.raises(InvalidInput, match="bow, bow_ngrams, lstm, sentiment3, smoke, tutorial_"):
        load_config("../evil")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Not A Name"}, "name must be"),
        ({"units": 0}, "units must be above 0. Received: 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"hidden": (16, 0)}, "hidden must be"),
        ({"validation_share": 0}, "validation_share"),
        ({"ema_momentum": -0.1}, "ema_momentum"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        ({"l2": -1.0}, "l2 must be 0 or more. Received: -1"),
        ({"clip_norm": -1.0}, "clip_norm must be 0 or more"),
        ({"seed": -1}, "seed must be from 0"),
        ({"head_tokens": -1}, "head_tokens must be 0 or more. Received: -1"),
        ({"l1": -1.0}, "l1 must be 0 or more"),
        ({"ngram_logits_l2": -1.0}, "ngram_logits_l2 must be 0 or more"),
        ({"warmup_epochs": -1.0}, "warmup_epochs must be 0 or more"),
        (
            {"warmup_epochs": 3.5, "epochs": 3},
            "must be at most epochs, 3. Received: 3.5",
        ),
        ({"max_length": 1, "truncation": "pre"}, "max_length must be at least 2. Received: 1"),
        ({"layers": 0}, "layers must be above 0"),
        ({"sort_window": 0}, "sort_window must be above 0"),
        ({"ngram_logits_lr_factor": 0.0}, "ngram_logits_lr_factor must be above 0"),
        ({"decay_rate": 0.0}, "decay_rate must be above 0"),
        ({"decay_rate": 1.5}, "decay_rate must be above 0 and at most 1. Received: 1.5"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout must be at least 0 and below 1"),
        ({"architecture": "lstm"}, "architecture must be one of bow, embedding, rnn. Received"),
        ({"cell": "mgu"}, "cell must be one of simple, lstm, gru. Received: 'mgu'"),
        ({"attention_heads": 17}, "attention_heads must be from 0 to 16. Received: 17"),
        ({"attention_heads": 1, "pooling": "last"}, "Received: rnn with pooling last"),
        ({"attention_heads": 1, "architecture": "bow"}, "needs the architecture rnn"),
        ({"next_word_epochs": -1}, "next_word_epochs must be 0 or more. Received: -1"),
        ({"next_word_epochs": 1, "architecture": "bow"}, "has read the next word. Received: bow"),
        ({"next_word_epochs": 1, "bidirectional": True}, "Received: rnn in both directions"),
        ({"pooling": "min"}, "pooling must be one of last, max, mean, max_mean"),
        ({"cleaning": "soap"}, "cleaning must be one of standard, alphanumeric"),
        ({"length_rule": "any"}, "length_rule must be one of fixed, deviations"),
        ({"truncation": "mid"}, "truncation must be one of pre, post, head_tail"),
        ({"activation": "magic"}, "activation must be one of relu, tanh"),
        ({"weight_init": "magic"}, "weight_init must be one of glorot_uniform"),
        ({"schedule": "magic"}, "schedule must be one of plateau, constant, cosine, exponential"),
        ({"class_weights": "some"}, "class_weights must be one of none, balanced"),
        ({"keep": "all"}, "keep must be one of best, last"),
        ({"ngram_logits": 4}, "ngram_logits must be one of 0, 1, 2, 3. Received: 4"),
        (
            {"ngram_logits_buckets": 1000},
            "must be a power of two, 16777216 at most",
        ),
        (
            {"ngram_logits_buckets": 2**25},
            "must be a power of two, 16777216 at most",
        ),
        ({"nb_weighting": True}, "nb_weighting needs ngram_logits above 0"),
        ({"momentum": 0.9}, "need optimizer sgd. Received: adam"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov needs momentum above 0"),
        (
            {"architecture": "bow", "pretrain_embeddings": True},
            "architecture with word embeddings",
        ),
        (
            {"architecture": "bow", "ngram_embeddings": 5},
            "architecture with word embeddings",
        ),
        ({"ngram_embeddings": -1}, "ngram_embeddings must be from 0 to 4194304. Received: -1"),
        ({"ngram_embeddings": 2**30}, "ngram_embeddings must be from 0 to 4194304"),
        ({"ngram_embedding_dim": 129}, "ngram_embedding_dim must be from 1 to 128"),
        ({"ngram_embedding_dim": 0}, "ngram_embedding_dim must be from 1 to 128"),
        (
            {"ngram_lookup": "bigram", "ngram_embeddings": 1000},
            "must be a power of two, 16777216 at most, for ngram_lookup bigram. Received: 1000",
        ),
        ({"ngram_lookup": "bigram"}, "for ngram_lookup bigram. Received: 0"),
        ({"neutral": True, "ngram_logits": 1}, "Received: ngram_logits 1 and neutral"),
        ({"halve_neutral": True}, "Received: halve_neutral without neutral"),
        ({"neutral": True, "class_weights": "balanced"}, "class_weights balanced and neutral"),
        ({"piece_weight": -1.0}, "piece_weight must be 0 or more. Received: -1.0"),
        ({"teacher": "me"}, "teacher must be one of none, linear, network"),
        (
            {"architecture": "bow", "embeddings_file": "f"},
            "architecture with word embeddings",
        ),
        ({"pretrain_embeddings": True, "embeddings_file": "f"}, "must have one source"),
        (
            {"teacher": "linear", "ngram_logits": 1, "nb_weighting": True},
            "Received: nb_weighting and teacher linear",
        ),
        ({"soft_label_share": 1.1}, "soft_label_share must be from 0 to 1. Received: 1.1"),
        ({"optimizer": "magic"}, "optimizer must be one of sgd, .* Received: 'magic'"),
        ({"head_tokens": 400}, "head_tokens must be below max_length, 400. Received: 400"),
    ],
)
def test_bounds(change: dict[str, object], message: str) -> None:
    """A value out of its bounds is rejected before data is read."""
    with pytest.raises(InvalidInput, match=message):
        CONFIG.replace(**change)


def test_set_fields() -> None:
    """`field=value` sets a field, converted to its type; other fields keep their values."""
    changed = CONFIG.with_assignments(
        ["units=64", "learning_rate=1e-4", "hidden=16,8", "optimizer=sgd"]
    )
    assert (changed.model.units, changed.model.hidden) == (64, (16, 8))
    assert (changed.optimizer.learning_rate, changed.optimizer.kind) == (1e-4, "sgd")
    assert changed.loop == CONFIG.loop


@pytest.mark.parametrize(
    ("assignment", "flat"),
    [
        ("model.units=64", "units=64"),
        ("teacher.kind=linear", "teacher=linear"),
        ("optimizer.kind=sgd", "optimizer=sgd"),
        ("loop.epochs=3", "epochs=3"),
    ],
)
def test_a_field_by_its_part(assignment: str, flat: str) -> None:
    """A field may be given with its part; `kind` alone is called as its part."""
    assert CONFIG.with_assignments([assignment]) == CONFIG.with_assignments([flat])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("nesterov=maybe", "nesterov must be true or false. Received: 'maybe'"),
        ("quux=3", "must be one of name, seed, vocabulary_size.* Received: 'quux'"),
        ("unit=3", "Received: 'unit'; did you mean units"),
        ("loop.batchsize=3", "Received: 'loop.batchsize'; did you mean batch_size"),
        ("average=0.9", "Received: 'average'; did you mean ema_momentum"),
        ("loop.units=3", "Received: 'loop.units'; did you mean units"),
        ("kind=sgd", "Received: 'kind'"),
        ("units=many", "units must be a whole number. Received: 'many'"),
        ("dropout=", "dropout must be a number"),
        ("hidden=a,b", "whole numbers and commas"),
    ],
)
def test_wrong_assignments(assignment: str, message: str) -> None:
    """An unknown field or a value of another type is named with its rule."""
    with pytest.raises(InvalidInput, match=message):
        CONFIG.with_assignments([assignment])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3}, "Received: 'depth'"),
        ({"hidden": None}, "must have the fields of Config"),
        ({"units": "64"}, "must have the fields of Config"),
        ({"loop": {"epoch": 3}}, "did you mean epochs"),
    ],
)
def test_a_mapping_that_is_no_config(change: dict[str, object], message: str) -> None:
    """An unknown field or a value of a wrong type is an error that names it, not a crash."""
    with pytest.raises(InvalidInput, match=message):
        Config.from_mapping(asdict(CONFIG) | change)


def test_a_mapping_without_a_required_field() -> None:
    """A mapping without the architecture is refused."""
    with pytest.raises(InvalidInput, match="architecture"):
        Config.from_mapping({"name": "tiny", "model": {"units": 8}})


FORMER = {
    "name": "old",
    "architecture": "rnn",
    "head": 9,
    "embedding": 8,
    "pretrain": True,
    "embeddings": "",
    "embedding_rate": 0.5,
    "known_ngrams": 7,
    "known_width": 5,
    "ngrams": 2,
    "ngram_buckets": 64,
    "ngram_rate": 2.0,
    "ngram_l2": 0.1,
    "teacher": "linear",
    "teacher_share": 0.4,
    "optimizer": "nadam",
    "decay": 0.8,
    "warmup": 0.5,
    "average": 0.9,
    "sorted_together": 3,
    "hidden": [4, 2],
    "pairs": 0,
    "l2": 0.2,
}
"""A flat mapping with every former field name."""


def test_former_names() -> None:
    """A mapping from before Config had parts is read: each former name sets today's field."""
    config = Config.from_mapping(FORMER)
    assert config.text.head_tokens == 9
    assert config.model == ModelConfig(
        architecture="rnn",
        embedding_dim=8,
        pretrain_embeddings=True,
        embedding_lr_factor=0.5,
        ngram_embeddings=7,
        ngram_embedding_dim=5,
        ngram_logits=2,
        ngram_logits_buckets=64,
        ngram_logits_lr_factor=2.0,
        ngram_logits_l2=0.1,
        hidden=(4, 2),
        l2=0.2,
    )
    assert config.teacher == TeacherConfig(kind="linear", soft_label_share=0.4)
    optimizer = config.optimizer
    assert (optimizer.kind, optimizer.decay_rate, optimizer.warmup_epochs) == ("nadam", 0.8, 0.5)
    assert (optimizer.ema_momentum, config.loop.sort_window) == (0.9, 3)


BUNDLED = sorted((Path(__file__).parents[2] / "models").glob("*/*/manifest.json"))


def test_there_are_bundled_manifests() -> None:
    """The next test reads the manifests of all bundled versions."""
    assert len(BUNDLED) >= 4


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_bundled_manifests(path: Path) -> None:
    """The config of every bundled version has the values that its manifest states."""
    stated = json.loads(path.read_text(encoding="utf-8"))["hyperparameters"]
    config = Config.from_mapping(stated)
    # Earlier exports have all fields in one mapping, later ones a mapping for each part.
    nested = isinstance(stated.get("model"), dict)
    read = json.loads(json.dumps(asdict(config) if nested else config.flat()))
    assert (config.name, config.seed) == (stated["name"], stated["seed"])
    stated = current_names(stated)
    for name, value in stated.items():
        if isinstance(value, dict):  # a field that is newer than the version has its default
            assert {field: read[name].get(field) for field in value} == value
        else:
            assert read.get(name) == value


def test_the_recipe_of_a_bundled_version() -> None:
    """A manifest of a bundled version gives the recipe of that name, former names included."""
    path = next(path for path in BUNDLED if path.parts[-3] == "tweets-lstm")
    stated = json.loads(path.read_text(encoding="utf-8"))["hyperparameters"]
    assert Config.from_mapping(stated) == load_config("tweets_lstm")


def test_a_retired_field() -> None:
    """A retired field is ignored at the value with which it changed nothing, and refused else."""
    kept = asdict(CONFIG)
    assert Config.from_mapping(kept | {"pairs": 0}) == CONFIG
    with pytest.raises(InvalidInput, match="pairs"):
        Config.from_mapping(kept | {"pairs": 5})


def test_round_trip() -> None:
    """A config survives the trip through a manifest."""
    config = CONFIG.replace(hidden=(16, 8))
    assert Config.from_mapping(json.loads(json.dumps(asdict(config)))) == config


def test_the_head_is_of_one_truncation() -> None:
    """Where texts are cut at one end only, a short row needs no other head."""
    assert CONFIG.replace(max_length=20, truncation="post").text == replace(
        CONFIG.text, max_length=20, truncation="post"
    )


def test_tutorials() -> None:
    """The recipes of tutorials are recipes, train a fixed number of epochs and keep the last."""
    assert set(TUTORIALS) < set(config_names())
    assert {load_config(name).loop.keep for name in TUTORIALS} == {"last"}
