"""Recipes and the options that change them."""

import json
from dataclasses import asdict, replace

import pytest

from app.errors import InvalidInput
from training.config import Config, config_names, load_config

CONFIG = Config(name="tiny", architecture="lstm")


@pytest.mark.parametrize("name", config_names())
def test_every_recipe_loads(name: str) -> None:
    """A file in `training/configs/` defines a valid config."""
    assert isinstance(load_config(name), Config)


def test_unknown_recipe() -> None:
    """A recipe that is not there is answered with those that are."""
    with pytest.raises(InvalidInput, match="bow, lstm, smoke"):
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


def test_round_trip() -> None:
    """A config survives the trip through a manifest."""
    config = replace(CONFIG, hidden=(16, 8))
    assert Config.from_mapping(json.loads(json.dumps(asdict(config)))) == config
