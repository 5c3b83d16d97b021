"""Imports that wait until a test needs them.

TensorFlow, Keras, scikit-learn and what training builds on them take seconds to import. Pytest
imports every test module to collect its tests, in every process, whichever tests then run. So test
modules import the slow ones in a block:

    with deferred():
        import keras

        from training.train import train

A name bound there is a `Deferred` until the first test of the module starts: conftest.py then calls
`import_deferred`, which binds what was meant. Until then the name may stand in annotations, but not
in decorators, base classes and other code that runs at import.
"""

import builtins
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class Deferred:
    """A module, or a name in one, that has not been imported yet."""

    def __init__(self, module: str, name: str | None = None) -> None:
        self._module, self._name = module, name

    def load(self) -> Any:
        """Import it and return it."""
        module = importlib.import_module(self._module)
        if self._name is None:
            return module
        try:
            return getattr(module, self._name)
        except AttributeError:
            return importlib.import_module(f"{self._module}.{self._name}")

    def __getattr__(self, name: str) -> "Deferred":  # `from module import name`, `module.Name`
        if name.startswith("__"):
            raise AttributeError(name)
        return Deferred(self._module, name)

    def __or__(self, _other: object) -> "Deferred":  # `Name | None`
        return self


@contextmanager
def deferred() -> Iterator[None]:
    """Defer the imports in a `with` block of a test module."""

    def defer(name: str, _globals: Any, _locals: Any, names: Any, _level: int) -> Deferred:
        return Deferred(name if names else name.partition(".")[0])

    original = builtins.__import__
    builtins.__import__ = defer  # type: ignore[assignment]
    try:
        yield
    finally:
        builtins.__import__ = original


def import_deferred(module: ModuleType) -> None:
    """Import what `module` deferred, and what its helpers in `tests` deferred."""
    for name, value in list(vars(module).items()):
        if isinstance(value, Deferred):
            setattr(module, name, value.load())
    helpers = {getattr(value, "__module__", None) for value in vars(module).values()}
    for helper in helpers - {module.__name__, __name__}:
        if isinstance(helper, str) and helper.startswith("tests."):
            import_deferred(sys.modules[helper])
