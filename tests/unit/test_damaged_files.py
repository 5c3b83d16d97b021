"""Every reader of a file answers any damage with its declared error, and no other."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.artifact import GOLDEN, MANIFEST, TOKENIZER, read_golden, read_manifest
from app.errors import UnusableVersion
from app.serving.plan import parse_aliases
from app.settings import Settings, explain_settings_error
from app.text.encoder import TextEncoder

Read = Callable[[Path], object]

ALIASES = b'{"stable": 2, "canary": 3, "canary_share": 0.05}'


def read_tokenizer(folder: Path) -> object:
    """Read the tokenizer of a version; its fingerprint is compared before it is used."""
    return TextEncoder.load(folder / TOKENIZER).fingerprint()


def read_aliases(folder: Path) -> object:
    """Read aliases as the repository does."""
    return parse_aliases((folder / "aliases.json").read_bytes())


READERS: dict[str, Read] = {
    MANIFEST: read_manifest,
    GOLDEN: read_golden,
    TOKENIZER: read_tokenizer,
    "aliases.json": read_aliases,
}

leaves = (
    *(st.none(), st.booleans(), st.integers(), st.floats()),
    st.text(st.characters(codec=None), max_size=9),
)
values = st.recursive(
    st.one_of(*leaves),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=2),
    max_leaves=4,
)


def draw_place(data: st.DataObject, content: Any) -> tuple[Any, Any]:
    """A container inside some JSON, and the key of one of its values."""
    holder, key = {"": content}, ""
    while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.integers(0, 3)):
        holder = holder[key]
        keys = sorted(holder) if isinstance(holder, dict) else range(min(len(holder), 20))
        key = data.draw(st.sampled_from(list(keys)))
    return holder, key


@pytest.fixture(scope="module")
def originals(fake_models: Path) -> dict[str, bytes]:
    """The files of a version, by name."""
    folder = fake_models / "lstm" / "2"
    files = {name: (folder / name).read_bytes() for name in (MANIFEST, GOLDEN, TOKENIZER)}
    return files | {"aliases.json": ALIASES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a version, which each example writes anew."""
    folder = tmp_path_factory.mktemp("damaged") / "lstm" / "2"
    folder.mkdir(parents=True)
    return folder


def check(folder: Path, name: str, content: bytes) -> None:
    """Read a file with some content: it is read, or refused in one sentence."""
    (folder / name).write_bytes(content)
    try:
        READERS[name](folder)
    except UnusableVersion as error:
        message = str(error)
    else:
        return
    assert name in message


@pytest.mark.parametrize("name", READERS)
def test_intact(folder: Path, originals: dict[str, bytes], name: str) -> None:
    """The files that are damaged below can be read."""
    (folder / name).write_bytes(originals[name])
    assert READERS[name](folder)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, derandomize=True)
@given(data=st.data(), noise=st.binary(max_size=4), cut=st.booleans())
def test_bytes(
    folder: Path,
    originals: dict[str, bytes],
    name: str,
    data: st.DataObject,
    noise: bytes,
    cut: bool,
) -> None:
    """A file that is cut short, or has other bytes somewhere."""
    content = originals[name]
    at = data.draw(st.integers(0, len(content)))
    check(folder, name, content[:at] + noise + (b"" if cut else content[at + len(noise) :]))


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, derandomize=True)
@given(data=st.data(), value=values)
def test_values(
    folder: Path, originals: dict[str, bytes], name: str, data: st.DataObject, value: Any
) -> None:
    """JSON with one value replaced by any other."""
    lines = [json.loads(line) for line in originals[name].splitlines()] if name == GOLDEN else []
    content = lines[0] if lines else json.loads(originals[name])
    holder = {"": content}
    inside, key = draw_place(data, content)
    if inside == holder:
        content = value
    else:
        inside[key] = value
    check(folder, name, json.dumps(content).encode())


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"null", b"[" * 100_000, b'{"stable": ' * 50_000, b"1" * 5000, b"\0" * 9],
    ids=["empty", "no UTF-8", "null", "deep list", "deep object", "long number", "NUL"],
)
def test_extremes(folder: Path, name: str, content: bytes) -> None:
    """Files that are none."""
    (folder / name).write_bytes(content)
    with pytest.raises(UnusableVersion, match=re.escape(name)):
        READERS[name](folder)


@pytest.mark.parametrize("pattern", ["(", "[a-", "*", "a{99999999999}", ""])
def test_pattern_of_the_tokenizer(folder: Path, originals: dict[str, bytes], pattern: str) -> None:
    """A pattern that is no regular expression makes the tokenizer unusable; an empty one is one."""
    content = json.loads(originals[TOKENIZER]) | {"pattern": pattern}
    check(folder, TOKENIZER, json.dumps(content).encode())


names = st.sampled_from(sorted(Settings.model_fields))
words = st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)


@settings(max_examples=100, derandomize=True)
@given(st.dictionaries(names, words, max_size=3))
def test_settings(given_values: dict[str, str]) -> None:
    """Any values are accepted, or refused in one sentence that names the setting."""
    typed: Any = given_values
    try:
        Settings(**typed)
    except ValidationError as error:
        sentence = explain_settings_error(error)
    else:
        return
    assert "Received" in sentence
