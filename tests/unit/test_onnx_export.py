"""`model.onnx` is kept if it agrees with the SavedModel; the manifest records the outcome."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.artifact import read_golden, read_manifest, verify_files
from tests.deferred import deferred
from tests.trained import Workshop

with deferred():
    import onnx

    from training.export import onnx_export
    from training.export.export import export
    from training.export.onnx_export import (
        PARITY,
        find_fault,
    )
    from training.export.onnx_graph import build_onnx
    from training.export.runtimes import ExportedModel, OnnxModel

pytestmark = pytest.mark.usefixtures("no_report")

GOOD = {
    "largest_difference": 1e-6,
    "neighbours_difference": 0.0,
    "golden_labels_changed": 0,
    "validation_accuracy": 0.9,
    "validation_accuracy_lost": 0.0,
}


@pytest.mark.parametrize("name", ["lstm", "bow"])
def test_the_manifest_records_the_outcome(workshop: Workshop, name: str) -> None:
    """The manifest has the graphs that were tried, the one that serves, and its metrics."""
    folder = workshop.models / name / "1"
    manifest = read_manifest(folder)
    record = manifest.engines["onnx"]
    assert record["file"] == "model.onnx"
    assert "model.onnx" in manifest.files
    served = record["tried"][record["precision"]]
    assert (served["fault"], served["bytes"]) == (None, manifest.files["model.onnx"].size)
    assert set(record["tried"]) == {"lstm": {"fp32", "int8"}, "bow": {"fp32"}}[name]
    assert record["tried"]["fp32"]["largest_difference"] < 1e-5
    assert manifest.metrics["validation"]["onnx"]["accuracy"] > 0.9


@pytest.mark.parametrize("name", ["lstm", "bow"])
def test_golden_answers(workshop: Workshop, name: str) -> None:
    """The golden rows have the answers of `model.onnx` beside those of the SavedModel."""
    folder = workshop.models / name / "1"
    rows = read_golden(folder)
    ids = [np.array(row.ids, np.int32) for row in rows]
    answers = OnnxModel(folder / "model.onnx").score(ids, batch_size=3)
    np.testing.assert_allclose(answers, [row.expected("onnx") for row in rows], atol=1e-6)
    labels = [np.argmax(row.probabilities) for row in rows]
    assert answers.argmax(axis=1).tolist() == labels


def off(by: float, *precisions: str) -> Any:
    """A `build_onnx` whose graphs add too much to one class, in some precisions."""

    def build(model: Any, *, precision: Any, **temperatures: float) -> onnx.ModelProto:
        if precision in precisions:
            kernel, bias = model.get_layer("output").get_weights()
            model.get_layer("output").set_weights([kernel, bias + np.float32([by, 0])])
            graph = build_onnx(model, **temperatures, precision=precision)
            model.get_layer("output").set_weights([kernel, bias])
            return graph
        return build_onnx(model, **temperatures, precision=precision)

    return build


def exported(workshop: Workshop, folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Export a run; return its folder and the manifest's record of ONNX."""
    version = export(workshop.runs / name, folder)
    manifest = read_manifest(version)
    verify_files(version, manifest)
    return version, manifest.engines["onnx"]


@pytest.mark.parametrize("name", ["lstm", pytest.param("bow", marks=pytest.mark.slow)])
def test_a_graph_that_disagrees(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """If the fp32 graph disagrees there is no `model.onnx`, and the manifest says why."""
    monkeypatch.setattr(onnx_export, "build_onnx", off(0.005, "fp32"))
    folder, record = exported(workshop, tmp_path, name)
    assert list(folder.rglob("*.onnx")) == []
    assert (record["file"], record["precision"], list(record["tried"])) == (None, None, ["fp32"])
    assert record["tried"]["fp32"]["fault"].startswith("largest_difference must be at most 0.0001")
    assert "onnx" not in read_manifest(folder).metrics["validation"]
    assert "answers" not in (folder / "golden.jsonl").read_text()
    assert ExportedModel(folder).score_texts(["superb"]).shape == (1, 2)


def test_int8_that_costs_too_much(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If int8 weights change answers, fp32 serves, and both outcomes are recorded."""
    monkeypatch.setattr(onnx_export, "build_onnx", off(50, "int8"))
    folder, record = exported(workshop, tmp_path, "lstm")
    assert (record["file"], record["precision"]) == ("model.onnx", "fp32")
    assert record["tried"]["fp32"]["fault"] is None
    assert record["tried"]["int8"]["fault"] is not None
    assert (folder / "model.onnx").stat().st_size == record["tried"]["fp32"]["bytes"]
    for row in read_golden(folder):
        np.testing.assert_allclose(row.expected("onnx"), row.probabilities, atol=PARITY)


def test_nan(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that returns NaN is not kept, and the manifest is still valid JSON."""
    monkeypatch.setattr(onnx_export, "build_onnx", off(float("nan"), "fp32"))
    folder, record = exported(workshop, tmp_path, "bow")
    assert record["file"] is None
    json.loads((folder / "manifest.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_no_fault(precision: Any) -> None:
    """A graph within all limits has no fault."""
    assert find_fault(GOOD, precision) is None


@pytest.mark.parametrize(
    ("precision", "name", "constant"),
    [
        ("fp32", "largest_difference", "PARITY"),
        ("fp32", "neighbours_difference", "MAX_NEIGHBOURS_DIFFERENCE"),
        ("int8", "neighbours_difference", "MAX_NEIGHBOURS_DIFFERENCE"),
        ("int8", "golden_labels_changed", None),
        ("int8", "validation_accuracy_lost", "MAX_ACCURACY_LOSS"),
    ],
)
def test_each_fault(precision: Any, name: str, constant: str | None) -> None:
    """Each figure has a limit: at the limit a graph may serve, above it or with NaN it may not."""
    limit = getattr(onnx_export, constant) if constant else 0
    assert find_fault(GOOD | {name: limit}, precision) is None
    for value in (limit * 1.01 + 1e-9, float("nan")):
        fault = find_fault(GOOD | {name: value}, precision)
        assert fault is not None
        assert fault.startswith(f"{name} must be at most")
