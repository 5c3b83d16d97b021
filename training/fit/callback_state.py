"""The state of callbacks in a checkpoint: which attributes it stores, declared per class.

Only state is stored, never settings. `ReduceLROnPlateau`, for one, negates its `min_delta` at the
first epoch it sees; stored and restored, it would be negated twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import keras

_KERAS_STATE: Final[Mapping[type[keras.callbacks.Callback], tuple[str, ...]]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.History: ("epoch", "history"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
    # Its averages are variables of the optimizer. They are in the model only between the last step
    # of an epoch and the beginning of the next one, when no checkpoint is written.
    keras.callbacks.SwapEMAWeights: (),
    keras.callbacks.TensorBoard: (),
    keras.callbacks.TerminateOnNaN: (),
}
"""The state of the callbacks of Keras. Callbacks of this project, and subclasses of these, declare
theirs in a class attribute `state_attributes`."""


def save_state(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """Return the state of each callback, ready for JSON.

    Raises:
        TypeError: A callback declares no state.
    """
    return [
        {
            "class": type(callback).__name__,
            "state": {name: getattr(callback, name) for name in state_attributes(callback)},
        }
        for callback in callbacks
    ]


def restore_state(
    callbacks: Sequence[keras.callbacks.Callback], saved: Sequence[Mapping[str, Any]]
) -> None:
    """Restore what `save_state` returned; a callback that was not saved is left as it is.

    Call it after `on_train_begin`, in which callbacks reset themselves.
    """
    left = list(saved)
    for callback in callbacks:
        same_class = (entry for entry in left if entry["class"] == type(callback).__name__)
        if (entry := next(same_class, None)) is not None:
            left.remove(entry)
            for name, value in entry["state"].items():
                setattr(callback, name, value)


def state_attributes(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    """Return the names of the attributes that are the state of a callback.

    Raises:
        TypeError: Its class declares no state.
    """
    kind = type(callback)
    declared: tuple[str, ...] | None = vars(kind).get("state_attributes", _KERAS_STATE.get(kind))
    if declared is None:
        raise TypeError(
            "a callback in a training with checkpoints must declare the names of its state in "
            f"state_attributes. Received: {kind.__name__}, which does not"
        )
    return declared
