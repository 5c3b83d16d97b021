"""The repository: what it finds, what it chooses, and what it rejects."""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from app.artifact import (
    GOLDEN,
    MANIFEST,
    TOKENIZER,
    digest,
    read_golden,
    write_golden,
)
from app.errors import NotReady, UnknownModel, UnusableVersion
from app.serving.plan import Aliases, Plan
from app.serving.repository import Repository, State, Version, load_version
from tests.fakes import FakeEngine, lock, make_encoder


def load_fake(_folder: Path) -> FakeEngine:
    return FakeEngine()


def scanned(folder: Path, default: str | None = None) -> Repository:
    repository = Repository(folder, default, generation=[1])
    repository.scan()
    return repository


def make_ready(
    repository: Repository, *keys: str, aliases: Mapping[str, Aliases] | None = None
) -> None:
    """Put a plan into effect in which these versions serve, and no others."""
    for version in repository.loading_order():
        if version.key in keys:
            version.digest = "0"
            repository.keep(version)
        elif version.state is State.REJECTED:
            repository.notes |= {version.key: {"state": "rejected", "reason": version.reason}}
    repository.hold(Plan(1, repository.default, dict.fromkeys(keys, "0"), aliases or {}))


def describe(version: Version) -> str:
    return version.key


# --- find ---


def test_versions_newest_first(tmp_path: Path) -> None:
    """Models are in alphabetical order, versions by number, newest first."""
    for path in ("b/2", "b/10", "b/9", "a/1"):
        (tmp_path / path).mkdir(parents=True)
    repository = scanned(tmp_path)
    numbers = {name: [v.number for v in vs] for name, vs in repository.versions.items()}
    assert numbers == {"a": [1], "b": [10, 9, 2]}


def test_unreadable_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose folder cannot be read has a reason; the other models serve."""
    for path in ("bow/1", "lstm/1"):
        (tmp_path / path).mkdir(parents=True)
    lock(tmp_path / "lstm", monkeypatch)
    repository = scanned(tmp_path)
    make_ready(repository, "bow/1")
    assert describe(repository.find("bow")) == "bow/1"
    assert list(repository.unreadable) == ["lstm"]
    with pytest.raises(NotReady, match="lstm: its folder cannot be read: Permission denied"):
        repository.find()


@pytest.mark.parametrize(
    "path",
    [".lstm/1", "lstm/.2-half", "lstm/new", "lstm/0", "lstm/01", "lstm/-1", "Lstm/1", "lstm/²"],
)
def test_other_folders(tmp_path: Path, path: str) -> None:
    """Folders with a leading dot, and versions that are not integers, are skipped."""
    (tmp_path / path).mkdir(parents=True)
    assert scanned(tmp_path).versions == {}


def test_files_are_not_models(tmp_path: Path) -> None:
    """Files beside the models or the versions are skipped."""
    (tmp_path / "readme").touch()
    (tmp_path / "lstm").mkdir()
    (tmp_path / "lstm" / "7").touch()
    assert scanned(tmp_path).versions == {}


def test_missing_folder(tmp_path: Path) -> None:
    """A repository that does not exist is unusable."""
    with pytest.raises(UnusableVersion, match="cannot be read"):
        scanned(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("models", "wanted", "default"),
    [
        (("bow", "lstm", "zz"), None, "lstm"),
        (("bow", "zz"), None, "bow"),
        (("bow", "lstm"), "bow", "bow"),
        ((), None, None),
    ],
)
def test_default(
    tmp_path: Path, models: tuple[str, ...], wanted: str | None, default: str | None
) -> None:
    """The default model is the one that was set, else `lstm`, else the first."""
    for name in models:
        (tmp_path / name / "1").mkdir(parents=True)
    assert scanned(tmp_path, wanted).default == default


def test_default_loads_first(fake_models: Path) -> None:
    """The versions of the default model are loaded first, newest first."""
    order = [describe(version) for version in scanned(fake_models).loading_order()]
    assert order == ["lstm/2", "lstm/1", "bow/1"]


# --- choose ---


@pytest.mark.parametrize(
    ("ready", "asked", "found"),
    [
        (("lstm/1", "lstm/2", "bow/1"), (None, None), "lstm/2"),
        (("lstm/1", "lstm/2", "bow/1"), (None, 1), "lstm/1"),
        (("lstm/1", "lstm/2", "bow/1"), ("bow", None), "bow/1"),
        (("lstm/1", "bow/1"), (None, None), "lstm/1"),
    ],
)
def test_find(
    fake_models: Path, ready: tuple[str, ...], asked: tuple[Any, Any], found: str
) -> None:
    """The newest ready version answers, of the default model if none is named."""
    repository = scanned(fake_models)
    make_ready(repository, *ready)
    assert describe(repository.find(*asked)) == found


@pytest.mark.parametrize("asked", [("nobody", None), ("lstm", 9), ("bow", 2), (None, 9)])
def test_find_unknown(fake_models: Path, asked: tuple[Any, Any]) -> None:
    """An unknown model or version is an error that lists those that answer."""
    repository = scanned(fake_models)
    make_ready(repository, "lstm/2", "bow/1")
    with pytest.raises(UnknownModel, match=r"bow \(1\), lstm \(2\)"):
        repository.find(*asked)


def test_find_before_it_is_loaded(fake_models: Path) -> None:
    """Until all have agreed on what serves, every version is not ready, rather than unknown."""
    repository = Repository(fake_models)
    repository.scan()
    for asked in ((None, 1), ("bow", None)):
        with pytest.raises(NotReady, match="being loaded"):
            repository.find(*asked)


def test_find_before_the_scan(fake_models: Path) -> None:
    """Before the scan every version is not ready, rather than unknown."""
    for asked in ((None, None), ("nobody", None)):
        with pytest.raises(NotReady, match="being read"):
            Repository(fake_models).find(*asked)


def test_find_rejected(fake_models: Path) -> None:
    """A rejected version is unknown by name, and not ready as the default."""
    repository = scanned(fake_models)
    for version in repository.loading_order():
        version.reject("it is broken")
    make_ready(repository)
    with pytest.raises(UnknownModel):
        repository.find("bow")
    with pytest.raises(NotReady, match="it is broken"):
        repository.find()


def test_missing_default(fake_models: Path) -> None:
    """A default model that does not exist is named as missing."""
    repository = scanned(fake_models, "nobody")
    make_ready(repository, "bow/1", "lstm/1", "lstm/2")
    with pytest.raises(NotReady, match="nobody is not there"):
        repository.find()


# --- load and verify ---


@pytest.fixture
def folder(fake_models: Path, tmp_path: Path) -> Path:
    """A version to damage."""
    return Path(shutil.copytree(fake_models / "lstm" / "2", tmp_path / "lstm" / "2"))


def edit_manifest(folder: Path, **fields: Any) -> None:
    """Change fields of the manifest, and update its digests."""
    path = folder / MANIFEST
    content = json.loads(path.read_text()) | fields
    for name in content["files"]:
        content["files"][name] = digest(folder / name).model_dump()
    path.write_text(json.dumps(content))


def edit_golden(folder: Path, **fields: Any) -> None:
    """Change fields of the second golden row."""
    rows = list(read_golden(folder))
    rows[1] = rows[1].model_copy(update=fields)
    write_golden(folder, rows)
    edit_manifest(folder)


def no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def manifest_is_not_json(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")


def other_version(folder: Path) -> None:
    edit_manifest(folder, version=3)


def missing_file(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()


def altered_file(folder: Path) -> None:
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes()[::-1])


def half_copied_file(folder: Path) -> None:
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-1])


def other_tokenizer(folder: Path) -> None:
    make_encoder(("other",)).save(folder / TOKENIZER)
    edit_manifest(folder)


def tokenizer_is_not_json(folder: Path) -> None:
    (folder / TOKENIZER).write_text("[")
    edit_manifest(folder)


def no_golden_rows(folder: Path) -> None:
    (folder / GOLDEN).write_text("")
    edit_manifest(folder)


def other_ids(folder: Path) -> None:
    edit_golden(folder, ids=(2, 3))


def other_probabilities(folder: Path) -> None:
    edit_golden(folder, probabilities=(0.5, 0.5))


def nan_probabilities(folder: Path) -> None:
    edit_golden(folder, probabilities=(0.5, 0.25, 0.25))


def other_labels(folder: Path) -> None:
    edit_manifest(folder, labels=["negative", "neutral", "positive"], baseline=None)


def labels_in_another_order(folder: Path) -> None:
    edit_manifest(folder, labels=["positive", "negative"])


def renamed_label(folder: Path) -> None:
    edit_manifest(folder, labels=["bad", "positive"])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_manifest, "manifest.json cannot be read"),
        (manifest_is_not_json, "manifest.json"),
        (other_version, "manifest.json must be in lstm/3"),
        (missing_file, "saved_model.pb is missing"),
        (altered_file, "saved_model.pb differs"),
        (half_copied_file, "saved_model.pb must have"),
        (other_tokenizer, "tokenizer.json is not the one"),
        (tokenizer_is_not_json, "tokenizer.json is not a tokenizer"),
        (no_golden_rows, "golden.jsonl must have at least one row"),
        (other_ids, "golden row 2 must get the same ids"),
        (other_probabilities, "golden row 2 must get its probabilities"),
        (nan_probabilities, "golden row 2 must have 2 probabilities"),
        (other_labels, "must have the labels of golden row 1 in their order, negative, positive"),
        (labels_in_another_order, "Received: positive, negative"),
        (renamed_label, "Received: bad, positive"),
    ],
)
def test_damaged_version(folder: Path, damage: Callable[[Path], None], reason: str) -> None:
    """A version that differs from its export in any way is unusable, with a reason."""
    damage(folder)
    with pytest.raises(UnusableVersion, match=reason):
        load_version(folder, load_fake)


def test_intact_version(folder: Path) -> None:
    """A version as it was exported is loaded."""
    loaded = load_version(folder, load_fake)
    assert (loaded.manifest.name, loaded.manifest.version, loaded.engine.name) == (
        "lstm",
        2,
        "fake",
    )


def test_golden_rows_without_labels(folder: Path) -> None:
    """A version whose rows have no labels, as older exports wrote them, is loaded."""
    rows = [row.model_copy(update={"labels": ()}) for row in read_golden(folder)]
    write_golden(folder, rows)
    edit_manifest(folder)
    assert "labels" not in (folder / GOLDEN).read_text()
    assert load_version(folder, load_fake).manifest.labels == ("negative", "positive")


def test_engine_with_other_results(folder: Path) -> None:
    """An engine that does not reproduce the golden rows makes the version unusable."""
    with pytest.raises(UnusableVersion, match="golden row 1"):
        load_version(folder, lambda _folder: FakeEngine(offset=0.01))


def test_engine_that_cannot_load(folder: Path) -> None:
    """The engine's error is the reason."""

    def fail(_folder: Path) -> FakeEngine:
        raise UnusableVersion("no signature")

    with pytest.raises(UnusableVersion, match="no signature"):
        load_version(folder, fail)


@pytest.mark.parametrize(
    ("precision", "offset", "usable"),
    [("fp32", 0.0002, True), ("fp32", 0.001, False), ("int8", 0.001, True), ("int8", 0.05, False)],
)
def test_tolerance(folder: Path, precision: str, offset: float, usable: bool) -> None:
    """An engine may differ by rounding, by more with int8 weights than with fp32."""
    edit_manifest(folder, engines={"fake": {"precision": precision}})
    result = nullcontext() if usable else pytest.raises(UnusableVersion, match="golden row 1")
    with result:
        load_version(folder, lambda _folder: FakeEngine(offset=offset))


def test_golden_rows_of_an_engine(folder: Path) -> None:
    """An engine is compared with its own results at export, not with the SavedModel's."""
    rows = [
        row.model_copy(update={"answers": {"fake": row.probabilities}, "probabilities": (1.0, 0.0)})
        for row in read_golden(folder)
    ]
    write_golden(folder, rows)
    edit_manifest(folder)
    assert load_version(folder, load_fake).engine.name == "fake"


@pytest.mark.parametrize("level", ["lstm", "lstm/2"])
def test_folder_that_links(fake_models: Path, tmp_path: Path, level: str) -> None:
    """The folder of a model or version may be a link inside the repository, and none out of it."""
    inside, outside = tmp_path / "models" / "..data" / level, tmp_path / "elsewhere" / level
    for target in (inside, outside):
        shutil.copytree(fake_models / level, target)
    link = tmp_path / "models" / level
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(inside)
    folder = tmp_path / "models" / "lstm" / "2"
    assert load_version(folder, load_fake).manifest.version == 2
    link.unlink()
    link.symlink_to(outside)
    with pytest.raises(UnusableVersion, match="links out of it"):
        load_version(folder, load_fake)


# --- aliases


ALIASES = {"lstm": {"stable": 1, "canary": 2, "canary_share": 0.25}}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((None, "stable"), "lstm/1"),
        (("lstm", "canary"), "lstm/2"),
        (("lstm", 2), "lstm/2"),
        (("bow", None), "bow/1"),
    ],
)
def test_find_alias(fake_models: Path, asked: tuple[Any, Any], found: str) -> None:
    """An alias is answered by the version it stands for."""
    repository = scanned(fake_models)
    make_ready(repository, "lstm/1", "lstm/2", "bow/1", aliases=ALIASES)
    assert describe(repository.find(*asked)) == found


def test_canary_share(fake_models: Path) -> None:
    """A share of the requests without a version goes to canary; one id always lands alike."""
    repository = scanned(fake_models)
    make_ready(repository, "lstm/1", "lstm/2", "bow/1", aliases=ALIASES)
    ids = [f"{number:032x}" for number in range(4000)]
    first = [describe(repository.find(None, None, each)) for each in ids]
    assert first == [describe(repository.find(None, None, each)) for each in ids]
    assert 0.22 < first.count("lstm/2") / len(ids) < 0.28


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "must be JSON"),
        ("[]", "must be an object"),
        ('{"stable": 0}', "stable must be the number of a version"),
        ('{"stable": true}', "stable must be the number of a version"),
        ('{"stable": "2"}', "stable must be the number of a version"),
        ('{"Stable!": 2}', "an alias must match"),
        ('{"stable": 1, "canary": 2, "canary_share": 1.5}', "from 0 to 1"),
        ('{"stable": 1, "canary_share": 0.5}', "needs stable and canary"),
    ],
)
def test_invalid_aliases(tmp_path: Path, content: str, reason: str) -> None:
    """Aliases that break a rule are refused with it."""
    (tmp_path / "lstm").mkdir()
    (tmp_path / "lstm" / "aliases.json").write_text(content)
    sight = Repository(tmp_path).look()
    assert reason in sight.refused_aliases["lstm"]
    assert sight.aliases == {}


def test_aliases_that_link_to_themselves(tmp_path: Path) -> None:
    """A link in a circle is refused like any other file."""
    (tmp_path / "lstm").mkdir()
    (tmp_path / "lstm" / "aliases.json").symlink_to("aliases.json")
    assert "aliases.json" in Repository(tmp_path).look().refused_aliases["lstm"]
