"""Layers that were renamed, and the names that `.keras` files know them by.

A run that was trained before a layer or an argument was renamed must still load, to be exported.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

import keras

Layer = TypeVar("Layer", bound=type)


def saved_as(name: str) -> Callable[[Layer], Layer]:
    """Register a Keras layer under the class name that files have.

    Keras finds the class by its registered name, and the weights by `__name__`; so that is set too.
    """

    def register(layer: Layer) -> Layer:
        layer.__name__ = name
        registered: Layer = keras.saving.register_keras_serializable("valence", name=name)(layer)
        return registered

    return register


class RenamedArguments(keras.layers.Layer):  # type: ignore[misc]
    """A layer whose constructor's arguments have other names in older files."""

    renamed: ClassVar[dict[str, str]] = {}
    """Old name of an argument to today's."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the layer from the result of `get_config`, of this or an older version."""
        arguments = {cls.renamed.get(name, name): value for name, value in config.items()}
        layer: Self = super().from_config(arguments)
        return layer
