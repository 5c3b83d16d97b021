"""Tables of short texts and of capabilities: for a page, a terminal and documents.

The figures are those of `training.quality`, as they stand in `metrics.json`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.reports.page import render_table

SHORT_HEADS: Final = (
    "Texts",
    "Right",
    "Accuracy",
    "95 % interval",
    "Calibration error",
    "Wrong above 0.80",
    "Share",
    "Neutral at most 0.80",
)
CAPABILITY_HEADS: Final = ("Capability", "Failed", "Failure rate", "95 % interval")
_TEST_HEADS: Final = ("Capability", "Test", "Kind", "Failed", "Cases")

Row = tuple[str, ...]


def list_scores(short_texts: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return name and figures of each set, followed by those of its kinds."""
    scores: list[tuple[str, Mapping[str, Any]]] = []
    for name, score in short_texts.get("sets", {}).items():
        scores.append((name, score))
        scores += [(f"{name} {kind}", each) for kind, each in score.get("kinds", {}).items()]
    return scores


def short_rows(short_texts: Mapping[str, Any]) -> list[Row]:
    """Return the cells of one row per set and per kind; see `SHORT_HEADS`."""
    return [(name, *_short_cells(score)) for name, score in list_scores(short_texts)]


def capability_rows(capabilities: Mapping[str, Any]) -> list[Row]:
    """Return the cells of one row per capability; see `CAPABILITY_HEADS`."""
    return [
        (
            name,
            f"{found['failed']} of {found['n']}",
            f"{found['failure_rate']:.1%}",
            _interval(found),
        )
        for name, found in capabilities.get("capabilities", {}).items()
    ]


def make_markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, without a line feed at its end."""
    rows = [heads, ["---"] * len(heads), *rows]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in rows)


def render_short_texts(short_texts: Mapping[str, Any]) -> str:
    """Render one row per set and per kind."""
    if not short_texts:
        return ""
    return render_table(SHORT_HEADS, [([name], cells) for name, *cells in short_rows(short_texts)])


def render_capabilities(capabilities: Mapping[str, Any]) -> str:
    """Render one row per capability, then one per test."""
    if not capabilities:
        return ""
    rows = [([name], cells) for name, *cells in capability_rows(capabilities)]
    tests = [
        ([name, test["about"], test["kind"]], [str(test["failed"]), str(test["n"])])
        for name, found in capabilities["capabilities"].items()
        for test in found["tests"]
    ]
    return render_table(CAPABILITY_HEADS, rows) + render_table(_TEST_HEADS, tests)


def _short_cells(score: Mapping[str, Any]) -> Row:
    opinions: Row = ("",) * 6
    if score["n"]:
        opinions = (
            f"{score['right']} of {score['n']}",
            f"{score['accuracy']:.1%}",
            _interval(score),
            f"{score['calibration_error']:.3f}",
            str(score["wrong_and_sure"]),
            f"{score['wrong_and_sure_share']:.1%}",
        )
    neutral = f"{score['neutral_unsure']} of {score['neutral']}" if score["neutral"] else ""
    if score["neutral"] and "neutral_right" in score:
        neutral += f", {score['neutral_right']} right"
    return (*opinions, neutral)


def _interval(score: Mapping[str, Any]) -> str:
    return f"{score['low']:.1%} to {score['high']:.1%}"
