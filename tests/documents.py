"""The code blocks of the documentation."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SHELL = ("sh", "bash")
RUN = (*SHELL, "python")
_BLOCK = re.compile(
    r"(?P<mark><!--(?P<reason>(?:(?!-->).)*)-->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_REASON = re.compile(r"\s*not run:\s+(?P<reason>\S.*?)\s*", re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a document.

    Attributes:
        path: The document, relative to the repository.
        line: The first line of its code.
        language: As named; empty for output.
        code: Its lines.
        reason: Why it is not run; None if it is.
    """

    path: str
    line: int
    language: str
    code: str
    reason: str | None


def documents() -> list[Path]:
    """The documents of the repository whose examples readers try."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("[lkm]*/**/README.md")]
    return sorted(path for path in found if path.name != "CHANGELOG.md")


def blocks(path: Path) -> Iterator[Block]:
    """Yield the blocks of a document."""
    text = path.read_text("utf-8")
    for match in _BLOCK.finditer(text):
        marked = _REASON.fullmatch(match["reason"] or "")
        yield Block(
            path=path.relative_to(ROOT).as_posix(),
            line=1 + text.count("\n", 0, match.start("code")),
            language=match["language"],
            code=match["code"],
            reason=marked["reason"] if marked else None,
        )
