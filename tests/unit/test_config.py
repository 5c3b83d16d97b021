"""Recipes and the options that change them."""

import json
from dataclasses import asdict, replace

import pytest

from app.errors import InvalidInput
from training.config import Config
from training.configs import TUTORIALS, config_names, load_config

CONFIG = Config(name="tiny", architecture="rnn")


@pytest.mark.parametrize("name", config_names())
def test_every_recipe_loads(name: str) -> None:
    """A file in `training/configs/` defines a valid config."""
    assert isinstance(load_config(name), Config)


def test_unknown_recipe() -> None:
    """A recipe that is not there is answered with those that are."""
    with pytest.raises(InvalidInput, match="bow, bow_ngrams, lstm, smoke, tutorial_"):
        load_config("../evil")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Not A Name"}, "name must be"),
        ({"units": 0}, "units must be above 0. Received: 0"),
        ({"dropout": 1.0}, "dropout must be from 0"),
        ({"hidden": (16, 0)}, "hidden must be"),
        ({"validation_share": 0}, "validation_share"),
        ({"average": -0.1}, "average"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        ({"l2": -1.0}, "l2 must be 0 or more. Received: -1"),
        ({"clip_norm": -1.0}, "clip_norm must be 0 or more"),
        ({"seed": -1}, "seed must be from 0"),
        ({"head": -1}, "head must be 0 or more. Received: -1"),
        ({"l1": -1.0}, "l1 must be 0 or more"),
        ({"ngram_l2": -1.0}, "ngram_l2 must be 0 or more"),
        ({"warmup": -1.0}, "warmup must be 0 or more"),
        ({"warmup": 3.5, "epochs": 3}, "warmup must be at most epochs, 3. Received: 3.5"),
        ({"max_length": 1, "truncation": "pre"}, "max_length must be at least 2. Received: 1"),
        ({"layers": 0}, "layers must be above 0"),
        ({"sorted_together": 0}, "sorted_together must be above 0"),
        ({"ngram_rate": 0.0}, "ngram_rate must be above 0"),
        ({"decay": 0.0}, "decay must be above 0"),
        ({"decay": 1.5}, "decay must be at most 1. Received: 1.5"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout must be from 0"),
        ({"architecture": "lstm"}, "architecture must be one of bow, embedding, rnn. Received"),
        ({"cell": "mgu"}, "cell must be one of simple, lstm, gru. Received: 'mgu'"),
        ({"pooling": "min"}, "pooling must be one of last, max, mean, max_mean"),
        ({"cleaning": "soap"}, "cleaning must be one of standard, alphanumeric"),
        ({"length_rule": "any"}, "length_rule must be one of fixed, deviations"),
        ({"truncation": "mid"}, "truncation must be one of pre, post, head_tail"),
        ({"activation": "magic"}, "activation must be one of relu, tanh"),
        ({"weight_init": "magic"}, "weight_init must be one of glorot_uniform"),
        ({"schedule": "magic"}, "schedule must be one of plateau, constant, cosine, exponential"),
        ({"class_weights": "some"}, "class_weights must be one of none, balanced"),
        ({"keep": "all"}, "keep must be one of best, last"),
        ({"ngrams": 4}, "ngrams must be one of 0, 1, 2, 3. Received: 4"),
        ({"ngram_buckets": 1000}, "ngram_buckets must be a power of two, 16777216 at most"),
        ({"ngram_buckets": 2**25}, "ngram_buckets must be a power of two, 16777216 at most"),
        ({"nb_weighting": True}, "nb_weighting must stand beside ngrams above 0"),
        ({"momentum": 0.9}, "must stand beside optimizer sgd. Received: adam"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov must stand beside momentum above 0"),
        ({"architecture": "bow", "pretrain": True}, "beside an architecture with word vectors"),
        ({"architecture": "bow", "known_ngrams": 5}, "beside an architecture with word vectors"),
        ({"known_ngrams": -1}, "known_ngrams must be 0 or more"),
        ({"known_ngrams": 2**30}, "known_ngrams must be at most"),
        ({"known_width": 129}, "known_width must be at most 128"),
        ({"known_width": 0}, "known_width must be above 0"),
        ({"teacher": "me"}, "teacher must be one of none, linear, network"),
        ({"architecture": "bow", "embeddings": "f"}, "beside an architecture with word vectors"),
        ({"pretrain": True, "embeddings": "f"}, "must start from one source"),
        ({"optimizer": "magic"}, "optimizer must be one of sgd, .* Received: 'magic'"),
        ({"head": 400}, "head must be below max_length, 400. Received: 400"),
    ],
)
def test_bounds(change: dict[str, object], message: str) -> None:
    """A value out of its bounds is refused before anything is read."""
    with pytest.raises(InvalidInput, match=message):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_set_fields() -> None:
    """`field=value` sets a field by its type; what is not set stays."""
    changed = CONFIG.with_values(["units=64", "learning_rate=1e-4", "hidden=16,8", "optimizer=sgd"])
    expected = replace(CONFIG, units=64, learning_rate=1e-4, hidden=(16, 8), optimizer="sgd")
    assert changed == expected


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("nesterov=maybe", "nesterov must be true or false. Received: 'maybe'"),
        ("depth=3", "must be one of name, architecture"),
        ("units=many", "units must be a whole number. Received: 'many'"),
        ("dropout=", "dropout must be a number"),
        ("hidden=a,b", "whole numbers and commas"),
    ],
)
def test_wrong_assignments(assignment: str, message: str) -> None:
    """An unknown field or a value of another type is named with its rule."""
    with pytest.raises(InvalidInput, match=message):
        CONFIG.with_values([assignment])


@pytest.mark.parametrize("change", [{"depth": 3}, {"hidden": None}])
def test_a_mapping_that_is_no_config(change: dict[str, object]) -> None:
    """Fields of another version of the code are named, not a crash."""
    with pytest.raises(InvalidInput, match="must have the fields"):
        Config.from_mapping(asdict(CONFIG) | change)


def test_a_retired_field() -> None:
    """A field that there was once is passed over where it said nothing, and named where it did."""
    kept = asdict(CONFIG)
    assert Config.from_mapping(kept | {"pairs": 0}) == CONFIG
    with pytest.raises(InvalidInput, match="pairs"):
        Config.from_mapping(kept | {"pairs": 5})


def test_round_trip() -> None:
    """A config survives the trip through a manifest."""
    config = replace(CONFIG, hidden=(16, 8))
    assert Config.from_mapping(json.loads(json.dumps(asdict(config)))) == config


def test_the_head_is_of_one_truncation() -> None:
    """Where texts are cut at one end only, a short row needs no other head."""
    assert replace(CONFIG, max_length=20, truncation="post").head == CONFIG.head


def test_tutorials() -> None:
    """The recipes of tutorials are recipes, train a fixed number of epochs and keep the last."""
    assert set(TUTORIALS) < set(config_names())
    assert {load_config(name).keep for name in TUTORIALS} == {"last"}
