"""`TextEncoder`: text to ids, identical in training, in serving and in the exported graph."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np

from app.errors import InvalidInput, UnusableVersion
from app.text.normalizer import STANDARD_REWRITES, Normalizer, Rewrite
from app.text.padding import Int32Array
from app.text.tokenizer import STANDARD_ALIASES, STANDARD_PATTERN, Aliases, Tokenizer
from app.text.vocabulary import BEGIN, SPECIAL_IDS, UNKNOWN, Vocabulary

RULES_VERSION: Final = 2
"""Raised by hand when a change in this package gives a text other ids under the same config, or a
config says what an older service would not understand. Configs of earlier versions keep their ids.

1: words and marks; 2: a pattern may have a group, and tokens may have aliases.
"""

_SCHEMA_VERSION: Final = 1
_MALFORMED: Final = (
    *(ValueError, KeyError, TypeError, RecursionError, OverflowError, re.error),
    FutureWarning,  # of `re` about a doubtful pattern, where warnings are errors
)
"""What JSON of another shape raises, and a pattern that is no regular expression."""


@dataclass(frozen=True, slots=True)
class TextConfig:
    """How a text becomes ids: everything but the vocabulary.

    Attributes:
        max_length: The most ids in a row, including the begin-of-sequence id.
        head: A text that is too long keeps its first `head` tokens and as many of its last ones
            as fit, because reviews begin with their subject and end with their verdict.
        rewrites: Applied in order before lower-casing.
        pattern: The regular expression of one token.
        aliases: Tokens that stand for another one: `:-)` for `🙂`.
        rules_version: The rules that the config was written for.
    """

    max_length: int
    head: int
    rewrites: tuple[Rewrite, ...] = STANDARD_REWRITES
    pattern: str = STANDARD_PATTERN
    aliases: Aliases = STANDARD_ALIASES
    rules_version: int = RULES_VERSION

    def __post_init__(self) -> None:
        if not 1 <= self.rules_version <= RULES_VERSION:
            raise InvalidInput(
                f"rules_version must be 1 to {RULES_VERSION}. Received: {self.rules_version}"
            )
        if self.rules_version == 1 and (self.aliases or re.compile(self.pattern).groups):
            raise InvalidInput("rules_version 1 must have no aliases, and no group in the pattern")
        if self.max_length < 2:
            raise InvalidInput(f"max_length must be at least 2. Received: {self.max_length}")
        if not 0 <= self.head < self.max_length:
            raise InvalidInput(f"head must be 0 to {self.max_length - 1}. Received: {self.head}")


@dataclass(slots=True)  # not frozen: that takes three times as long to create
class Encoded:
    """A text as a model reads it.

    Attributes:
        ids: int32 of shape (length,), 1 <= length <= max_length; the first is `BEGIN`.
        tokens: The number of tokens of the whole text, before truncation and without `BEGIN`.
        unknown: The number of tokens of the whole text that are not in the vocabulary.
        known: The number of ids that stand for a word.
        truncated: Whether tokens were dropped.
    """

    ids: Int32Array
    tokens: int
    unknown: int
    known: int
    truncated: bool

    @property
    def read(self) -> int:
        """The number of tokens that the model reads: its ids without `BEGIN`."""
        return len(self.ids) - 1


@dataclass(frozen=True, slots=True)
class EncodedWords:
    """A text as a model reads it, with the place of each token.

    Attributes:
        ids: As in `Encoded`.
        spans: Of each id but the first, start and end in the text as it was passed, in characters:
            `text[start:end]` is the token before it was normalized.
    """

    ids: Int32Array
    spans: list[tuple[int, int]]


class TextEncoder:
    """Normalizer, tokenizer, vocabulary and truncation under one config. Thread-safe.

    Attributes:
        config: How a text becomes tokens, and how it is truncated.
        vocabulary: The tokens that have an id.
    """

    def __init__(self, config: TextConfig, vocabulary: Vocabulary) -> None:
        self.config = config
        self.vocabulary = vocabulary
        self._normalize = Normalizer(config.rewrites)
        self._tokenize = Tokenizer(config.pattern, config.aliases)
        self._room = config.max_length - 1  # for tokens, without BEGIN
        self._head = config.head
        self._tail = self._room - config.head

    def tokenize(self, text: str) -> list[str]:
        """All tokens of a text, in order."""
        return self._tokenize(self._normalize(text))

    def encode(self, text: str) -> Encoded:
        """Encode a text: its ids, at most `config.max_length`, and what truncation dropped."""
        tokens = self.tokenize(text)
        count = len(tokens)
        truncated = count > self._room
        unread = 0
        if truncated:
            end = count - self._tail
            unread = self.vocabulary.count_unknown(tokens[self._head : end])
            tokens = tokens[: self._head] + tokens[end:]
        ids = [BEGIN, *self.vocabulary.ids(tokens)]
        unknown = ids.count(UNKNOWN)
        row = np.fromiter(ids, np.int32, len(ids))
        return Encoded(row, count, unread + unknown, len(tokens) - unknown, truncated)

    def locate(self, text: str) -> EncodedWords:
        """Encode a text, and find the place of each token that the model reads.

        It takes several times as long as `encode`.
        """
        located = self._normalize.locate(text)
        tokens = self._tokenize.locate(located.text)
        if len(tokens) > self._room:
            tokens = tokens[: self._head] + tokens[len(tokens) - self._tail :]
        ids = [BEGIN, *self.vocabulary.ids(token for token, _, _ in tokens)]
        return EncodedWords(
            np.fromiter(ids, np.int32, len(ids)),
            [(located.starts[start], located.ends[end - 1]) for _, start, end in tokens],
        )

    def fingerprint(self) -> str:
        """Sha256, in hexadecimal, of everything that determines the ids of a text.

        Encoders with the same fingerprint give every text the same ids. It is stored in the
        manifest of a version, and checked before the version serves.
        """
        canonical = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the encoder as JSON, for `load`."""
        content = {"schema_version": _SCHEMA_VERSION, "special_ids": SPECIAL_IDS} | self._content()
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "TextEncoder":
        """Read an encoder that `save` wrote.

        Files with the same content share one encoder as long as it is in use: a vocabulary takes
        5 MB, and models that were trained on the same texts have the same.

        Raises:
            UnusableVersion: The file is missing or malformed, or of another schema or rules
                version.
        """
        try:
            stored = path.read_bytes()
        except OSError as error:
            raise UnusableVersion(f"{path.name} cannot be read: {error.strerror}") from error
        digest = hashlib.sha256(stored).digest()
        encoder = _IN_USE.get(digest)
        if encoder is None:
            encoder = _IN_USE[digest] = cls._parse(stored, path)
        return encoder

    @classmethod
    def _parse(cls, stored: bytes, path: Path) -> "TextEncoder":
        try:
            content = json.loads(stored.decode())
            for key, first, last in (
                ("schema_version", _SCHEMA_VERSION, _SCHEMA_VERSION),
                ("rules_version", 1, RULES_VERSION),
            ):
                if content[key] not in range(first, last + 1):
                    raise UnusableVersion(
                        f"{path.name}: {key} must be {first}{f' to {last}' * (last > first)}. "
                        f"Received: {content[key]}"
                    )
            special_ids = content.get("special_ids", SPECIAL_IDS)  # earlier files have none
            if special_ids != SPECIAL_IDS:
                raise UnusableVersion(
                    f"{path.name}: special_ids must be {SPECIAL_IDS}. Received: {special_ids}"
                )
            rules_version = content["rules_version"]
            config = TextConfig(
                max_length=content["max_length"],
                head=content["head"],
                rewrites=tuple(Rewrite(**rewrite) for rewrite in content["rewrites"]),
                pattern=content["pattern"],
                aliases=() if rules_version == 1 else (*dict(content["aliases"]).items(),),
                rules_version=rules_version,
            )
            return cls(config, Vocabulary(content["words"]))
        except (*_MALFORMED, InvalidInput) as error:
            raise UnusableVersion(f"{path.name} is not a tokenizer: {error}") from error

    def _content(self) -> dict[str, Any]:
        content = asdict(self.config)
        aliases = dict(content.pop("aliases"))
        if self.config.rules_version > 1:
            content["aliases"] = aliases
        return content | {"words": list(self.vocabulary.words)}


_IN_USE: Final[WeakValueDictionary[bytes, TextEncoder]] = WeakValueDictionary()
"""The encoders in use, by the sha256 of the file that each was read from."""
