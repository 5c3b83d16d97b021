"""Render an overlay the way `kubectl kustomize` does, as far as these manifests go.

For tests and continuous integration on machines without kubectl, and for nothing else: what is
applied to a cluster is rendered by kubectl. A field of a kustomization, a list in a patch or a kind
that is not known here is an error, never skipped, and where kubectl is installed a test holds both
to the same result.

    python k8s/render.py k8s/overlays/prod

Source:
    Kustomize, "kustomization file reference"; the list keys are the `patchMergeKey` of the
    Kubernetes API types; the suffix of a generated name is that of kustomize's `api/hasher`.
"""

import copy
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

# By field name: the key that says which element of a list a patch means. A tuple is tried in order.
_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "port"),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_NAMESPACED = {
    "ConfigMap",
    "Deployment",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
    "ServiceAccount",
}
_KNOWN_FIELDS: dict[str, set[str]] = {
    "kustomization": {
        "apiVersion",
        "configMapGenerator",
        "images",
        "kind",
        "labels",
        "namespace",
        "patches",
        "resources",
    },
    "configMapGenerator": {"behavior", "envs", "literals", "name"},
    "images": {"digest", "name", "newName", "newTag"},
    "labels": {"includeSelectors", "includeTemplates", "pairs"},
    "patches": {"path"},
}


class RenderError(Exception):
    """A manifest is wrong, or uses a part of kustomize that is not known here."""


def render(folder: Path) -> list[Object]:
    """Every object of one kustomization, as a cluster would receive it.

    Args:
        folder: Holds a `kustomization.yaml`.

    Returns:
        The objects, in the order in which the kustomizations name them.

    Raises:
        RenderError: A file is wrong, or says something that this renderer does not know.
    """
    objects, generated = _build(folder)
    names = {name: f"{name}-{_suffix(data)}" for name, data in generated.items()}
    for thing in objects:
        if thing["kind"] == "ConfigMap" and thing["metadata"]["name"] in names:
            thing["metadata"]["name"] = names[thing["metadata"]["name"]]
        for field, value in _fields(thing):
            if field in ("configMap", "configMapKeyRef", "configMapRef") and value["name"] in names:
                value["name"] = names[value["name"]]
    return objects


def _build(folder: Path) -> tuple[list[Object], dict[str, dict[str, str]]]:
    """Objects of a kustomization before generated names get their suffix, and those names' data."""
    kustomization = _read_one(folder / "kustomization.yaml")
    _expect_known("kustomization", kustomization)
    objects: list[Object] = []
    generated: dict[str, dict[str, str]] = {}
    for entry in kustomization.get("resources", []):
        path = folder / entry
        if path.is_dir():
            inner, inner_generated = _build(path)
            objects += inner
            generated |= inner_generated
        else:
            objects.append(_read_one(path))
    for rule in kustomization.get("configMapGenerator", []):
        _generate(folder, rule, objects, generated)
    for rule in kustomization.get("patches", []):
        _expect_known("patches", rule)
        patch = _read_one(folder / rule["path"])
        target = _find(objects, patch["kind"], patch["metadata"]["name"])
        target.update(_merged(target, patch, where=rule["path"]))
    for thing in objects:
        if thing["kind"] not in _NAMESPACED:
            raise RenderError(f"a kind that is known here. Received: {thing['kind']}")
        if "namespace" in kustomization:
            thing["metadata"]["namespace"] = kustomization["namespace"]
    _set_labels(objects, kustomization.get("labels", []))
    _set_images(objects, kustomization.get("images", []))
    return objects, generated


def _generate(
    folder: Path, rule: Object, objects: list[Object], generated: dict[str, dict[str, str]]
) -> None:
    """Make a ConfigMap, or merge more settings into one that a base made."""
    _expect_known("configMapGenerator", rule)
    name = rule["name"]
    lines = list(rule.get("literals", []))
    for path in rule.get("envs", []):
        lines += (folder / path).read_text(encoding="utf-8").splitlines()
    data: dict[str, str] = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            key, equals, value = line.partition("=")
            if not equals:
                raise RenderError(f"{folder.name}: a setting is NAME=VALUE. Received: {line}")
            data[key] = value
    if rule.get("behavior", "create") == "merge":
        _find(objects, "ConfigMap", name)["data"] |= data
        generated[name] |= data
    else:
        generated[name] = data
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": dict(data),
            }
        )


def _suffix(data: dict[str, str]) -> str:
    """The hash that kustomize puts behind the name of a ConfigMap: of its data, not its name."""
    content = json.dumps(
        {"data": data, "kind": "ConfigMap", "name": ""},
        ensure_ascii=False,
        separators=(",", ":"),
        sort_keys=True,
    )
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    return digest.translate(str.maketrans("013ae", "ghkmt"))


def _merged(base: Object, patch: Object, where: str) -> Object:
    """A strategic merge: maps by key, known lists by element, everything else replaced."""
    result = copy.deepcopy(base)
    for field, value in patch.items():
        if value is None:
            result.pop(field, None)
        elif isinstance(value, dict):
            result[field] = _merged(result.get(field, {}), value, where)
        elif isinstance(value, list) and any(isinstance(element, dict) for element in value):
            result[field] = _merged_list(field, result.get(field, []), value, where)
        else:
            result[field] = value
    return result


def _merged_list(field: str, base: list[Object], patch: list[Object], where: str) -> list[Object]:
    """Each element of `patch` merged into the element of `base` that has the same key."""
    keys = [key for key in _LIST_KEYS.get(field, ()) if all(key in element for element in patch)]
    if not keys:
        raise RenderError(f"{where}: a list that is known here, with its key. Received: {field}")
    result = copy.deepcopy(base)
    for element in patch:
        same = [i for i, other in enumerate(result) if other.get(keys[0]) == element[keys[0]]]
        if same:
            result[same[0]] = _merged(result[same[0]], element, where)
        else:
            result.append(copy.deepcopy(element))
    return result


def _set_labels(objects: Iterable[Object], rules: Iterable[Object]) -> None:
    for rule in rules:
        _expect_known("labels", rule)
        if rule.get("includeSelectors", False):
            raise RenderError("includeSelectors is false: the files name what they select")
        for thing in objects:
            thing["metadata"].setdefault("labels", {}).update(rule["pairs"])
            template = thing.get("spec", {}).get("template")
            if template and rule.get("includeTemplates", False):
                template.setdefault("metadata", {}).setdefault("labels", {}).update(rule["pairs"])


def _set_images(objects: Iterable[Object], rules: Iterable[Object]) -> None:
    """Rename the images of containers; a rule's `name` is that of the image before any tag."""
    by_name = {rule["name"]: rule for rule in rules}
    for rule in by_name.values():
        _expect_known("images", rule)
    for thing in objects:
        for field, value in _fields(thing):
            for container in value if field == "containers" else ():
                rule = by_name.get(container["image"], {})
                image = rule.get("newName", container["image"])
                if "digest" in rule:
                    image += f"@{rule['digest']}"
                elif "newTag" in rule:
                    image += f":{rule['newTag']}"
                container["image"] = image


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Every field at any depth, with its value."""
    if isinstance(value, dict):
        for field, inner in value.items():
            yield field, inner
            yield from _fields(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner)


def _find(objects: Iterable[Object], kind: str, name: str) -> Object:
    for thing in objects:
        if (thing["kind"], thing["metadata"]["name"]) == (kind, name):
            return thing
    raise RenderError(f"a patch changes something that is there. Received: {kind}/{name}")


def _expect_known(what: str, rule: Object) -> None:
    unknown = sorted(set(rule) - _KNOWN_FIELDS[what])
    if unknown:
        raise RenderError(f"{what}: fields that are known here. Received: {', '.join(unknown)}")


def _read_one(path: Path) -> Object:
    """The one object of a file; a list of objects in one file is against the rules of the house."""
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise RenderError(f"{path.name} can be read as YAML. Received: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise RenderError(f"{path.name}: one object per file. Received: {len(documents)}")
    result: Object = documents[0]
    return result


def main(folders: list[str]) -> int:
    """Write the objects of each folder to standard output."""
    try:
        for folder in folders:
            yaml.safe_dump_all(render(Path(folder)), sys.stdout, explicit_start=True)
    except RenderError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
