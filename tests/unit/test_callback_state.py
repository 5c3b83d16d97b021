"""The state of callbacks: stored in full, without settings, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.deferred import deferred
from training.configs import load_config

with deferred():
    import keras

    from tests.callbacks import Counter, Undeclared
    from training.fit.callback_state import restore_state, save_state, state_attributes
    from training.fit.loop import recipe_callbacks


def save(*callbacks: keras.callbacks.Callback) -> Any:
    """The state of callbacks, through JSON."""
    return json.loads(json.dumps(save_state(callbacks)))


def test_state_is_restored_and_settings_are_not() -> None:
    """Declared attributes are restored; all others stay as they are."""
    callback = Counter(limit=2)
    restore_state([callback], save(Counter(limit=1, count=7)))
    assert (callback.limit, callback.count) == (2, 7)


def test_callbacks_of_one_class() -> None:
    """Several callbacks of a class get their states in order."""
    first, second = Counter(0), Counter(0)
    restore_state([first, second], save(Counter(0, count=1), Counter(0, count=2)))
    assert (first.count, second.count) == (1, 2)


def test_callbacks_may_be_added_and_removed() -> None:
    """A state without a callback is ignored, and a callback without a state is left as it is."""
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=3)
    stopping.on_train_begin()
    callback = Counter(0, count=5)
    restore_state([callback, keras.callbacks.TensorBoard("there")], save(stopping))
    assert callback.count == 5


@pytest.mark.parametrize("kind", ["Undeclared", "LambdaCallback", "CSVLogger"])
def test_undeclared_callbacks_are_refused(kind: str) -> None:
    """A callback that declares no state cannot be resumed, so it cannot be saved."""
    make = {
        "Undeclared": lambda: Undeclared(0),
        "LambdaCallback": keras.callbacks.LambdaCallback,
        "CSVLogger": lambda: keras.callbacks.CSVLogger("x.csv"),
    }
    callback = make[kind]()
    with pytest.raises(TypeError, match=f"state_attributes. Received: {type(callback).__name__}"):
        save_state([callback])


def test_best_weights_are_refused() -> None:
    """`EarlyStopping` with `restore_best_weights` has state that JSON cannot hold."""
    stopping = keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True)
    stopping.on_train_begin()
    stopping.best_weights = [object()]
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(stopping)


@pytest.mark.parametrize("schedule", ["plateau", "constant", "cosine", "exponential"])
def test_callbacks_of_recipes_are_declared(schedule: str, tmp_path: Path) -> None:
    """Every callback that a recipe can ask for declares its state."""
    config = load_config("smoke").replace(schedule=schedule, warmup_epochs=1, ema_momentum=0.9)
    callbacks = recipe_callbacks(config, tmp_path / "model.keras", tmp_path)
    assert len(callbacks) >= 5
    assert all(isinstance(state_attributes(callback), tuple) for callback in callbacks)
