"""Print a survey on a terminal, and write it as a page with pictures."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console

from training.inspection.survey import FOREIGN, Finding, Survey
from training.inspection.texts import FOREIGN_RULE
from training.reports.page import (
    render_facts,
    render_figures,
    render_list,
    render_page,
    render_table,
)
from training.reports.pictures import draw_labels, draw_lengths
from training.support.files import atomic_folder

CHECK: Final = "check.json"


def print_survey(survey: Survey) -> None:
    """Print a survey to stdout."""
    console = Console(highlight=False)
    for line in _tell(survey):
        console.print(line, markup=False, soft_wrap=True)


def write_survey(folder: Path, survey: Survey) -> None:
    """Write `check.json`, pictures and `report.html`; an earlier one is replaced.

    Raises:
        InvalidInput: The folder exists and holds something else.
    """
    lengths = dict(survey.lengths)
    histogram = lengths.pop("histogram")
    facts = {name: lengths[name] for name in ("texts", "max_tokens", "share_cut")}
    pictures = {
        "labels": draw_labels(survey.labels),
        "lengths": draw_lengths(**facts, **histogram),
    }
    columns = list(next(iter(survey.labels.values())))
    labels = [
        ([label], [f"{count:,}" for count in counts.values()])
        for label, counts in survey.labels.items()
    ]
    findings = [([name], [f"{finding.count:,}"]) for name, finding in survey.findings.items()]
    listed = [", ".join(finding.rows) for finding in survey.findings.values()]
    page = render_page(
        title=survey.name,
        summary=f"What the recipe {survey.recipe} would learn from.",
        figures={"Rows read": f"{survey.rows.read:,}"}
        | {name.capitalize(): f"{count:,}" for name, count in survey.rows.used.items()},
        sections={
            "Rows": render_facts({line.strip(): count for line, count in survey.rows.cells()}),
            "Labels": render_table(["Label", *columns], labels)
            + render_figures(pictures["labels"]),
            "Lengths in tokens": render_facts(lengths) + render_figures(pictures["lengths"]),
            "Oddities": render_table(["Texts", "Number"], findings, listed, "The first rows"),
            "Rows to look at": render_list(survey.surprises),
        },
    )
    with atomic_folder(folder, replaces=CHECK) as partial:
        for name, picture in pictures.items():
            (partial / f"{name}.png").write_bytes(picture.png)
        content = json.dumps(asdict(survey), indent=2, ensure_ascii=False)
        (partial / CHECK).write_text(content + "\n", encoding="utf-8")
        (partial / "report.html").write_text(page, encoding="utf-8")


def _tell(survey: Survey) -> Iterator[str]:
    """The lines of a survey."""
    yield f"{survey.name}, as the recipe {survey.recipe} would read it"
    yield from survey.rows.table()
    yield from _tell_labels(survey)
    lengths = survey.lengths
    yield (
        f"tokens of a text: mean {lengths['mean']:,}, median {lengths['median']:,.0f}, 95 % have "
        f"at most {lengths['p95']:,.0f}, the longest {lengths['max']:,}; {lengths['share_cut']:.1%}"
        f" have more than {lengths['max_tokens']:,} and are cut"
    )
    for name, finding in survey.findings.items():
        yield f"{finding.count:,} {name}{_list_rows(finding)}"
        if name == FOREIGN and finding.count:
            yield f"  (a text looks foreign if {FOREIGN_RULE})"
    if survey.agreement is not None:
        yield (
            "a linear model of words and pairs of words, asked about texts that it was not fitted "
            f"to, agrees with {survey.agreement:.1%} of the labels"
        )
    if survey.surprises:
        yield "rows to look at:"
        yield from (f"  {surprise}" for surprise in survey.surprises)


def _list_rows(finding: Finding) -> str:
    """The first rows of a finding, as they follow its name."""
    if not finding.rows:
        return ""
    places = ", ".join(finding.rows)
    if all(row.removeprefix("row ").replace(",", "").isdecimal() for row in finding.rows):
        places = f"rows {places.replace('row ', '')}"
    return f": {places}{', ...' if finding.count > len(finding.rows) else ''}"


def _tell_labels(survey: Survey) -> Iterator[str]:
    """A table of labels by split."""
    columns = list(next(iter(survey.labels.values())))
    wide = max(len(label) for label in ("label", *survey.labels))
    yield "  ".join([f"{'label':<{wide}}", *(f"{name:>10}" for name in columns)])
    for label, counts in survey.labels.items():
        yield "  ".join([f"{label:<{wide}}", *(f"{count:>10,}" for count in counts.values())])
    listed = sum(sum(counts.values()) for counts in survey.labels.values())
    if others := survey.rows.read - listed - survey.rows.used.get("unlabelled", 0):
        yield f"  and {others:,} rows dropped from the test part, without labels, or by the reader"
