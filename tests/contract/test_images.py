"""The images that manifests name are those that `make image` builds."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from app import __version__
from tests.rendered import K8S, composed, containers, pods, rendered

ROOT = Path(__file__).parents[2]
TARGETS = ("cpu", "gpu", "train", "load", "models")
"""Those that are stages of the Dockerfile; `traced` is `cpu` with other requirements."""


def command_line(target: str, **variables: str) -> str:
    """The command that builds a target."""
    environment = {**os.environ, "DRY_RUN": "1", **variables}
    command = [ROOT / "k8s" / "image" / "build", target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def tags(target: str) -> list[str]:
    """The tags that a target gets."""
    return re.findall(r"--tag (\S+)", command_line(target))


def test_images_of_manifests_are_built() -> None:
    """Every image in overlays and load tests has a tag that a target of `make image` gets."""
    built = {tag for target in TARGETS for tag in tags(target)}
    folders = [*(K8S / "overlays").iterdir(), K8S / "load-test"]
    named = {
        each["image"] for f in folders for pod in pods(rendered(f)) for each in containers(pod)
    }
    for pod in pods(composed("model-volume/oci")):
        named |= {v["image"]["reference"] for v in pod["volumes"] if "image" in v}
    assert named <= built
    assert "localhost/valence:dev" in named


def test_targets_of_the_dockerfile() -> None:
    """Each target is a stage of the Dockerfile, whose last stage is the default target."""
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(TARGETS) <= set(stages)
    assert stages[-1] == TARGETS[0]


@pytest.mark.parametrize("builder", ["docker", "podman", "buildah"])
def test_command_of_a_builder(builder: str) -> None:
    """Each builder gets the version, the base and the options that were asked for."""
    found = command_line("cpu", BUILDER=builder, BASE="python@sha256:0", FLAGS="--network host")
    assert found.startswith(f"{builder} build ")
    assert "--target cpu" in found
    assert "--build-arg BASE=python@sha256:0 " in found
    labels = dict(re.findall(r"--label org\.opencontainers\.image\.(\S+)=(\S+)", found))
    assert labels["version"] == __version__
    assert labels["base.name"] == "python@sha256:0"
    assert labels.keys() == {"version", "base.name", "revision", "licenses"}
    assert found.endswith("--network host .\n")


def test_requirements_of_the_traced_image() -> None:
    """The image `traced` is `cpu` with the extra `otel`, under a tag of its own."""
    assert tags("traced") == [f"localhost/valence:{__version__}-traced"]
    assert "--target cpu " in command_line("traced")
    assert "--build-arg REQUIREMENTS=serve-otel " in command_line("traced")
    assert "REQUIREMENTS" not in command_line("cpu")


def test_unknown_target() -> None:
    """Another target is refused with the rule."""
    done = subprocess.run(
        [ROOT / "k8s" / "image" / "build", "tpu"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "must be cpu, traced, gpu, train, load or models. Received: tpu" in done.stderr


def test_context_has_what_is_copied() -> None:
    """The build context lets through every path that the Dockerfile copies from it, and no more."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = set(re.findall(r"^COPY (?!--from)(\S+)", dockerfile, re.MULTILINE))
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert copied == set(re.findall(r"^!(\S+)$", ignore, re.MULTILINE))
