"""What is the right answer: the probabilities of each text, and the version that answers now."""

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

TOLERANCE: Final = 1e-5
"""The same text gets the same answer, whatever it is batched with."""

Probabilities = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks.

    Attributes:
        model: The model.
        alias: The alias it names; None for none.
        texts: The texts; an empty one is invalid, and fails alone in a list.
        single: Whether it is sent as `text`.
    """

    model: str
    alias: str | None
    texts: Sequence[str]
    single: bool

    def body(self) -> bytes:
        """The body of `POST /predict`."""
        body: dict[str, Any] = {"model": self.model}
        body |= {"text": self.texts[0]} if self.single else {"texts": self.texts}
        body |= {"version": self.alias} if self.alias else {}
        return json.dumps(body).encode()


class Line:
    """The versions that one after the other answer the same question.

    A version may come back, as in a rollback. An answer that began after another one had come from
    a later version is mixed.
    """

    def __init__(self, version: int) -> None:
        self._versions = [version]
        self._seen = 0
        self._lock = threading.Lock()

    def announce(self, version: int) -> None:
        """A version will take over."""
        with self._lock:
            if version != self._versions[-1]:
                self._versions.append(version)

    def has_arrived(self) -> bool:
        """Whether the last version has answered."""
        return self._seen == len(self._versions) - 1

    def begin(self) -> int:
        """A request begins; pass the result to `accept`."""
        return self._seen

    def accept(self, began: int, version: int) -> bool:
        """Whether a version may answer a request that began then."""
        with self._lock:
            for place in range(began, len(self._versions)):
                if self._versions[place] == version:
                    self._seen = max(self._seen, place)
                    return True
        return False


class Truth:
    """All right answers.

    Args:
        probabilities: Of each text, by the model, the residue of the version modulo `sources`, and
            the text.
        lines: The versions that answer, by model and alias.
        sources: Of how many different models the versions are copies, in turn.
    """

    def __init__(
        self,
        probabilities: Mapping[tuple[str, int, str], Probabilities],
        lines: Mapping[tuple[str, str | None], Line],
        sources: int = 2,
    ) -> None:
        self._probabilities = probabilities
        self._lines = lines
        self._sources = sources

    def begin(self, question: Question) -> int:
        """A request begins; pass the result to `find_fault`."""
        return self._lines[question.model, question.alias].begin()

    def find_fault(self, question: Question, began: int, content: bytes) -> str:
        """What is wrong with the body of a 200: `wrong`, `mixed`, or nothing."""
        try:
            answer = json.loads(content)
            predictions = [answer] if question.single else answer["predictions"]
            version = answer["version"]
            if answer["model"] != question.model or len(predictions) != len(question.texts):
                return "wrong"
            if not self._lines[question.model, question.alias].accept(began, version):
                return "mixed"
            right = all(
                self._is_right((question.model, version % self._sources, text), prediction)
                for text, prediction in zip(question.texts, predictions, strict=True)
            )
        except (ValueError, KeyError, TypeError):
            return "wrong"
        return "" if right else "wrong"

    def _is_right(self, key: tuple[str, int, str], prediction: Mapping[str, Any]) -> bool:
        if not key[2]:
            return bool(prediction["error"]["status"] == 422)
        expected, received = self._probabilities[key], prediction["probabilities"]
        return expected.keys() == received.keys() and all(
            math.isclose(expected[label], received[label], rel_tol=0, abs_tol=TOLERANCE)
            for label in expected
        )
