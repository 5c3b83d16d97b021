"""The software bill of materials of an image: what its lock file installs, and its models.

    python -m k8s.image.sbom cpu > sbom.json

CycloneDX 1.6, on the standard library and `packaging`. Packages have the hashes of the lock file,
so that what was installed can be compared; models have the digest of their weights, which are the
same files in the repository and in the image.
"""

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from packaging.markers import default_environment
from packaging.requirements import Requirement

from app import __version__

ROOT: Final = Path(__file__).parents[2]
ONNX, TENSORFLOW = "model.onnx", "variables/variables.data-00000-of-00001"
TARGETS: Final = {
    "cpu": ("serve.txt", ONNX),
    "traced": ("serve-otel.txt", ONNX),
    "gpu": ("gpu.txt", TENSORFLOW),
    "train": ("train.txt", None),
    "load": ("load.txt", None),
}
"""By target: the file in `requirements/`, and the weights of each model, if it has models."""
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE: Final = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # of URLs, RFC 9562


def read_packages(lock: str, python: str) -> Iterator[dict[str, Any]]:
    """The packages that a lock file installs, as components.

    Args:
        lock: The content of a file of requirements with hashes.
        python: The minor version of Python that installs them, such as `3.11`; on Linux.
    """
    environment: dict[str, str] = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    for entry in lock.replace("\\\n", " ").splitlines():
        line = entry.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line.split(" --hash")[0])
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        version = str(requirement.specifier).removeprefix("==")
        name = requirement.name.lower().replace("_", "-")
        yield {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"pkg:pypi/{name}@{version}",
                    "hashes": [
                        {"alg": "SHA-256", "content": digest}
                        for digest in sorted(_HASH.findall(line))
                    ],
                }
            ],
        }


def read_models(models: Path, weights: str) -> Iterator[dict[str, Any]]:
    """The versions of a repository of models that have a file of `weights`, as components."""
    for path in sorted(models.glob("*/*/manifest.json")):
        manifest = json.loads(path.read_bytes())
        if weights not in manifest["files"]:
            continue
        yield {
            "type": "machine-learning-model",
            "bom-ref": f"model:{manifest['name']}/{manifest['version']}",
            "name": manifest["name"],
            "version": str(manifest["version"]),
            "description": f"{manifest['architecture']}, labels {', '.join(manifest['labels'])}",
            "hashes": [{"alg": "SHA-256", "content": manifest["files"][weights]["sha256"]}],
            "properties": [
                {"name": "valence:data", "value": manifest["data"]["name"]},
                {"name": "valence:data-sha256", "value": manifest["data"]["fingerprint"]},
            ],
        }


def make_bom(target: str, python: str) -> dict[str, Any]:
    """The bill of materials of a target. Equal inputs give equal documents, without a time."""
    lock, weights = TARGETS[target]
    packages = read_packages((ROOT / "requirements" / lock).read_text(encoding="utf-8"), python)
    models = read_models(ROOT / "models", weights) if weights else ()
    components = [*packages, *models]
    text = json.dumps(components, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, text)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "valence",
                "name": "valence",
                "version": __version__,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": "valence", "dependsOn": [c["bom-ref"] for c in components]}],
    }


def main() -> int:
    """Print the bill of materials of the target on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", nargs="?", choices=TARGETS, default="cpu", help="[cpu]")
    parser.add_argument("--python", default="3.11", help="the minor version of Python [3.11]")
    options = parser.parse_args()
    bom = make_bom(options.target, options.python)
    json.dump(bom, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
