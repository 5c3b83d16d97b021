"""Every layer has three forms that stand in one module, and keeps loading from older files."""

import importlib
import inspect
import json
import pkgutil
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.architectures import CONFIGS, batch, make_model
from tests.deferred import deferred

with deferred():
    import keras

    from training.models import layers


@cache
def modules() -> list[ModuleType]:
    """The modules of layers."""
    return [
        importlib.import_module(f"{layers.__name__}.{found.name}")
        for found in pkgutil.iter_modules(layers.__path__)
    ]


def registered(module: ModuleType) -> list[type]:
    """The Keras layers that a module registers for saving."""
    return [
        layer
        for name, layer in keras.saving.get_custom_objects().items()
        if name.startswith("valence>") and layer.__module__ == module.__name__
    ]


def test_three_forms_in_one_module() -> None:
    """A module with a Keras layer has its TensorFlow graph and a function that writes ONNX."""
    with_layers = [module for module in modules() if registered(module)]
    assert with_layers
    for module in with_layers:
        own = [name for name, each in vars(module).items() if inspect.getmodule(each) is module]
        assert any(name.endswith("Graph") for name in own), module.__name__
        writes = [name for name in own if name.startswith("add_") or name.endswith("_weights")]
        assert writes, module.__name__


def test_every_layer_is_compared() -> None:
    """Every registered layer is in an architecture whose three forms are compared."""
    compared = {type(layer) for name in CONFIGS for layer in make_model(name).layers}
    assert {layer for module in modules() for layer in registered(module)} <= compared


OLD_NAMES = {
    "embedding_dim": "width",
    "length": "most",
    "lr_factor": "rate",
    "nb_weighting": "weighted",
    "ngram_embedding_dim": "width",
    "ngram_embeddings": "most",
    "ngram_vector_dim": "depth",
}


@pytest.mark.parametrize("name", ["lstm-known-ngrams", "embedding-known"])
def test_older_files_load(tmp_path: Path, name: str) -> None:
    """A model saved under the old names of classes and arguments loads and answers the same."""
    model = make_model(name)
    model.save(tmp_path / "new.keras")
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        for item in new.namelist():
            content = new.read(item)
            old.writestr(item, with_old_names(content) if item == "config.json" else content)
    loaded = keras.models.load_model(tmp_path / "old.keras", compile=False)
    ids, _ = batch()
    np.testing.assert_array_equal(loaded(ids).numpy(), model(ids).numpy())


def with_old_names(content: bytes) -> bytes:
    """The config of a saved model, as it was before arguments were renamed."""
    config = json.loads(content)
    for layer in config["config"]["layers"]:
        arguments = layer["config"]
        layer["config"] = {OLD_NAMES.get(key, key): value for key, value in arguments.items()}
    names = {layer["registered_name"] for layer in config["config"]["layers"]}
    assert names & {"valence>KnownNgrams"}
    return json.dumps(config).encode()
