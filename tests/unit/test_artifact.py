"""The manifest, the digests and the golden rows of an exported version."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import artifact
from app.artifact import (
    GOLDEN,
    MANIFEST,
    DataCard,
    FileEntry,
    GoldenRow,
    Manifest,
    Reliability,
    copy_version,
    digest,
    read_golden,
    read_manifest,
    read_verified,
    verify_files,
    write_golden,
    write_manifest,
)
from app.errors import UnusableVersion

SHA = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version folder with two files and a valid manifest."""
    folder = tmp_path / "lstm" / "3"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"weights")
    write_manifest(folder, manifest())
    return folder


def manifest(**changes: Any) -> Manifest:
    """A manifest like the exporter's."""
    values: dict[str, Any] = {
        "name": "lstm",
        "version": 3,
        "labels": ("negative", "positive"),
        "architecture": "lstm",
        "hyperparameters": {"units": 8},
        "seed": 7,
        "code_version": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "text_fingerprint": SHA,
        "data": DataCard(name="tiny", fingerprint=SHA, counts={"train": 4}),
        "temperature": 1.0,
        "metrics": {"test": {"tensorflow": {"accuracy": 0.5}}},
        "engines": {"tensorflow": {}},
        "limits": (),
        "files": {},
    }
    return Manifest(**values | changes)


def test_round_trip(folder: Path) -> None:
    """A manifest is read as written, with the digest of every other file."""
    read = read_manifest(folder)
    assert read.model_copy(update={"files": {}}) == manifest()
    assert set(read.files) == {"saved_model.pb", "variables/data"}
    verify_files(folder, read)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "saved_model.pb").unlink(), "saved_model.pb is missing"),
        (lambda f: (f / "model.onnx").write_bytes(b"?"), "model.onnx is not in manifest.json"),
        (lambda f: (f / "saved_model.pb").write_bytes(b"gra"), "must have 5 bytes. Received: 3"),
        (lambda f: (f / "saved_model.pb").write_bytes(b"grapf"), "differs from its sha256"),
    ],
    ids=["missing", "extra", "truncated", "altered"],
)
def test_damaged_files(folder: Path, damage: Callable[[Path], object], reason: str) -> None:
    """A missing, extra, truncated or altered file is named."""
    damage(folder)
    with pytest.raises(UnusableVersion, match=reason):
        verify_files(folder, read_manifest(folder))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"labels": ["only"]}, "labels"),
        ({"temperature": 0}, "temperature"),
        ({"surprise": 1}, "surprise"),
        ({"quality": {"": {"texts": 1}}}, "quality"),
        ({"quality": {"a": {"texts": 0}}}, "at least one text"),
        ({"quality": {"a": {"texts": 9, "accuracy": 1.1}}}, "quality.a.accuracy"),
        (
            {"quality": {"a": {"texts": 9, "accuracy": 0.9, "interval": [0.91, 0.95]}}},
            "must contain the accuracy",
        ),
        ({"reliability": {"max_unknown_share": -0.1}}, "reliability.max_unknown_share"),
        ({"reliability": {"min_known_tokens": 0}}, "reliability.min_known_tokens"),
        ({"reliability": {"measured": {"level": "high"}}}, "reliability.measured.level"),
        ({"version": 4}, "must be in lstm/4. Received: lstm/3"),
        ({"name": "bow"}, "must be in bow/3. Received: lstm/3"),
    ],
)
def test_wrong_manifest(folder: Path, change: dict[str, object], reason: str) -> None:
    """A field that is wrong, undeclared or of another version is named."""
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UnusableVersion, match=reason):
        read_manifest(folder)


def test_manifest_of_an_older_export(folder: Path) -> None:
    """A manifest without quality and reliability has the default rule: one known token."""
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    del content["quality"], content["reliability"]
    path.write_text(json.dumps(content))
    read = read_manifest(folder)
    assert (read.quality, read.reliability) == ({}, Reliability())


@pytest.mark.parametrize(
    ("known", "read", "rule", "covered"),
    [
        (0, 0, {}, False),
        (0, 5, {}, False),
        (1, 300, {}, True),
        (21, 50, {"max_unknown_share": 0.58}, True),
        (20, 50, {"max_unknown_share": 0.58}, False),
        (5, 5, {"max_unknown_share": 0.0}, True),
        (2, 2, {"min_known_tokens": 3}, False),
        (0, 0, {"max_unknown_share": 0.5}, False),
    ],
)
def test_what_a_rule_covers(known: int, read: int, rule: dict[str, Any], covered: bool) -> None:
    """A text needs enough known tokens, and no larger share of unknown ones than the rule says."""
    assert Reliability(**rule).covers(known, read) is covered


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_manifest_is_not_json(folder: Path, content: bytes) -> None:
    """A manifest that is not a JSON object makes the version unusable."""
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(UnusableVersion, match=r"manifest\.json"):
        read_manifest(folder)


def test_no_manifest(folder: Path) -> None:
    """A folder without a manifest is unusable."""
    (folder / MANIFEST).unlink()
    with pytest.raises(UnusableVersion, match="cannot be read"):
        read_manifest(folder)


def test_golden_round_trip(tmp_path: Path) -> None:
    """Golden rows keep any text, line separators included."""
    rows = [GoldenRow(text="a\u2028b\x85c\n", ids=(2, 3), probabilities=(0.25, 0.75))]
    write_golden(tmp_path, rows)
    assert read_golden(tmp_path) == rows


def test_golden_probabilities_of_an_engine(tmp_path: Path) -> None:
    """A row has the probabilities of an engine, by default those of the SavedModel."""
    first = GoldenRow(
        text="a", ids=(2,), probabilities=(0.25, 0.75), answers={"onnx": (0.26, 0.74)}
    )
    second = GoldenRow(text="b", ids=(2,), probabilities=(0.5, 0.5))
    write_golden(tmp_path, [first, second])
    assert "answers" not in (tmp_path / GOLDEN).read_text().splitlines()[1]
    read = read_golden(tmp_path)
    assert [row.expected("onnx") for row in read] == [(0.26, 0.74), (0.5, 0.5)]
    assert [row.expected("tensorflow") for row in read] == [(0.25, 0.75), (0.5, 0.5)]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"not json\n"])
def test_wrong_golden(tmp_path: Path, content: bytes) -> None:
    """Missing or malformed golden rows make the version unusable."""
    (tmp_path / GOLDEN).write_bytes(content)
    with pytest.raises(UnusableVersion, match=r"golden\.jsonl"):
        read_golden(tmp_path)


def test_digest(tmp_path: Path) -> None:
    """Size and sha256 are those of the bytes."""
    (tmp_path / "f").write_bytes(b"abc")
    entry = digest(tmp_path / "f")
    assert entry.size == 3
    assert entry.sha256.startswith("ba7816bf8f01cfea")


def test_version_replaced_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is replaced while it is read is read again."""
    calls = []

    def replace(path: Path) -> FileEntry:
        calls.append(path)
        if len(calls) == 1:
            (folder / "report.html").write_bytes(b"test metrics")
            write_manifest(folder, manifest(seed=8))
        return digest(path)

    read_manifest(folder)
    monkeypatch.setattr(artifact, "digest", replace)
    (folder / "saved_model.pb").write_bytes(b"changed")
    assert read_verified(folder).seed == 8


@pytest.mark.parametrize("change", ["altered", "removed"])
def test_damaged_version(folder: Path, change: str) -> None:
    """A file that does not match an unchanged manifest makes the version unusable."""
    if change == "altered":
        (folder / "saved_model.pb").write_bytes(b"grapj")
    else:
        (folder / "saved_model.pb").unlink()
    with pytest.raises(UnusableVersion, match=r"saved_model\.pb"):
        read_verified(folder)


@pytest.mark.parametrize("target", ["/etc/hostname", "../../secret", "saved_model.pb", "variables"])
def test_links(folder: Path, target: str) -> None:
    """A version with a symbolic link is unusable, wherever the link leads."""
    (folder / "link").symlink_to(target)
    with pytest.raises(UnusableVersion, match=r"no symbolic links. Received: link"):
        read_verified(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "variables/../../secret"])
def test_manifest_that_names_other_files(folder: Path, name: str) -> None:
    """A file outside the version does not count as one of its files, even if it is there."""
    (folder.parent / "secret").write_bytes(b"secret")
    content = json.loads((folder / MANIFEST).read_text())
    content["files"][name] = digest(folder.parent / "secret").model_dump()
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(UnusableVersion, match="is missing"):
        read_verified(folder)


def test_copy(folder: Path, tmp_path: Path) -> None:
    """A copy has the wanted files alone; the manifest lists these, and is else unchanged."""
    copy = copy_version(folder, tmp_path / "other", lambda name: name == "variables/data")
    assert copy == tmp_path / "other" / "lstm" / "3"
    copied = read_verified(copy)
    assert set(copied.files) == {"variables/data"}
    assert copied.model_copy(update={"files": {}}) == manifest()
    assert [path.name for path in copy.parent.iterdir()] == ["3"]


def test_copy_of_a_damaged_version(folder: Path, tmp_path: Path) -> None:
    """A damaged version is not copied, because its copy would look sound."""
    (folder / "variables" / "data").write_bytes(b"altered")
    with pytest.raises(UnusableVersion, match="variables/data"):
        copy_version(folder, tmp_path / "other", lambda name: name == "saved_model.pb")
    assert not (tmp_path / "other").exists()


def test_copy_over_a_version(folder: Path, tmp_path: Path) -> None:
    """A copy replaces nothing."""
    copy_version(folder, tmp_path / "other", lambda _: True)
    with pytest.raises(UnusableVersion, match=r"must not replace a version\. Received: .*lstm/3"):
        copy_version(folder, tmp_path / "other", lambda _: True)
