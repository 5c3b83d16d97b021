"""The software bill of materials of the image."""

import hashlib

import pytest

from k8s.image.sbom import ROOT, TARGETS, make_bom, read_packages

LOCK = (ROOT / "requirements" / "serve.txt").read_text(encoding="utf-8")


def test_every_package_of_the_lock() -> None:
    """Every package that the lock file installs is listed once, with its hashes."""
    found = {each["name"]: each for each in read_packages(LOCK, "3.11")}
    assert len(found) == len(list(read_packages(LOCK, "3.11")))
    assert {"fastapi", "onnxruntime", "numpy", "uvloop"} <= found.keys()
    assert found["onnxruntime"]["purl"].startswith("pkg:pypi/onnxruntime@1.")
    assert all(each["externalReferences"][0]["hashes"] for each in found.values())


def test_of_one_python() -> None:
    """A package with a version for each Python is listed in that of the image."""
    lock = (
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:" + "a" * 64 + "\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:" + "b" * 64 + "\n"
        "colorama==0.4.6 ; sys_platform == 'win32' \\\n    --hash=sha256:" + "c" * 64 + "\n"
    )
    assert [each["version"] for each in read_packages(lock, "3.11")] == ["2.4.6"]
    assert [each["version"] for each in read_packages(lock, "3.13")] == ["2.5.5"]


@pytest.mark.parametrize("target", ["cpu", "traced", "gpu"])
def test_models(target: str) -> None:
    """Models are listed with the digest of their weights; equal inputs give equal documents."""
    bom = make_bom(target, "3.11")
    models = [c for c in bom["components"] if c["type"] == "machine-learning-model"]
    assert {"bow", "lstm", "tweets-lstm"} <= {model["name"] for model in models}
    lstm = next(model for model in models if model["name"] == "lstm")
    weights = ROOT / "models" / "lstm" / lstm["version"] / TARGETS[target][1]
    assert lstm["hashes"][0]["content"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    references = [c["bom-ref"] for c in bom["components"]]
    assert len(set(references)) == len(references)
    assert bom["dependencies"][0]["dependsOn"] == references
    assert bom == make_bom(target, "3.11")


@pytest.mark.parametrize(
    ("target", "package"),
    [
        ("traced", "opentelemetry-sdk"),
        ("gpu", "nvidia-cudnn-cu12"),
        ("train", "keras"),
        ("load", "locust"),
    ],
)
def test_of_each_target(target: str, package: str) -> None:
    """Each target of the image has the packages that it installs, which `cpu` lacks."""
    assert package in {each["name"] for each in make_bom(target, "3.11")["components"]}
    assert package not in {each["name"] for each in make_bom("cpu", "3.11")["components"]}
