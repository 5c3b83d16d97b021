"""A report as one self-contained HTML file, for reading and printing."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Final

from training.reports.pictures import Picture

_PAGE: Final = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 1.5rem 4rem; background: #fff;
  color: #1f2933; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; }
header p { color: #52606d; margin: 0; max-width: 46rem; }
dl { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.6rem 0 0; }
dl div { flex: 1 1 9rem; padding: .8rem 1.1rem; background: #f5f7fa; border-radius: .5rem; }
dt { color: #52606d; font-size: .85rem; }
dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
dd small { display: block; color: #52606d; font-size: .8rem; white-space: nowrap; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { padding: .4rem .8rem; text-align: left; vertical-align: top; font-weight: 400;
  border-bottom: 1px solid #e4e7eb; }
thead th { color: #52606d; font-weight: 600;
  border-bottom: 2px solid #cbd2d9; }
.facts th { color: #52606d; width: 30%; }
.facts td { overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.pair { display: flex; flex-wrap: wrap; gap: 0 3rem; }
figure { margin: 1.2rem 0 0; flex: 1 1 20rem; }
img { display: block; max-width: 100%; height: auto; }
figcaption { color: #52606d; font-size: .9rem; max-width: 46rem; margin-top: .4rem; }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$summary</p>
$figures
</header>
<main>
$sections
</main>
</body>
</html>
""")
_NUMBER: Final = ' class="number"'
_ACRONYMS: Final = {
    "auc": "area",
    "f1": "F1",
    "lstm": "LSTM",
    "mcnemar": "McNemar",
    "p95": "95th percentile",
    "roc": "ROC",
}


def render_page(
    *, title: str, summary: str, figures: Mapping[str, str], sections: Mapping[str, str]
) -> str:
    """Render the page.

    Args:
        title: Title, plain text.
        summary: A sentence or two below the title, plain text.
        figures: Headline figures by name; text after a line feed is set small.
        sections: HTML from the functions below, by heading.
    """
    boxes = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{_figure(value)}</dd></div>"
        for name, value in figures.items()
    )
    return _PAGE.substitute(
        title=escape(title),
        summary=escape(summary),
        figures=f"<dl>\n{boxes}\n</dl>" if figures else "",
        sections="\n".join(
            f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>"
            for heading, content in sections.items()
            if content
        ),
    )


def render_figures(*pictures: Picture) -> str:
    """Render inlined pictures, side by side where there is room."""
    return f'<div class="pair">\n{"".join(_render_figure(picture) for picture in pictures)}</div>'


def _render_figure(picture: Picture) -> str:
    source = "data:image/png;base64," + base64.b64encode(picture.png).decode("ascii")
    width, height = (int.from_bytes(picture.png[at : at + 4]) for at in (16, 20))  # PNG header
    return (
        f'<figure>\n<img src="{source}" width="{width}" height="{height}" '
        f'alt="{escape(picture.alt)}">\n'
        f"<figcaption>{escape(picture.caption)}</figcaption>\n</figure>\n"
    )


def render_metrics(metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Render one row per split and engine, one column per metric."""
    runs = [
        (split, engine, scores)
        for split, engines in metrics.items()
        for engine, scores in engines.items()
    ]
    names = list(dict.fromkeys(name for _, _, scores in runs for name in scores))
    return render_table(
        ["Split", "Engine", *map(_words, names)],
        [
            ([split, engine], [_number(scores.get(name)) for name in names])
            for split, engine, scores in runs
        ],
    )


def render_scores(scores: Mapping[str, Mapping[str, float | None]]) -> str:
    """Render one row per label, one column per score."""
    names = list(dict.fromkeys(name for row in scores.values() for name in row))
    return render_table(
        ["Label", *map(_words, names)],
        [([label], [_number(row.get(name)) for name in names]) for label, row in scores.items()],
    )


def render_trials(rows: Sequence[tuple[str, Mapping[str, object], float | None]]) -> str:
    """Render one row per trial of a search: state, one column per field, and the metric."""
    fields = list(rows[0][1]) if rows else []
    return render_table(
        ["Trial", *fields, "Figure"],
        [
            ([state, *(_fact(setting[field]) for field in fields)], [_number(figure)])
            for state, setting, figure in rows
        ],
    )


def render_facts(facts: Mapping[str, object]) -> str:
    """Render one row per fact; nested facts are joined in one cell."""
    if not facts:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(_words(name))}</th><td>{escape(_fact(value))}</td></tr>'
        for name, value in facts.items()
    )
    return f'<div class="table"><table class="facts"><tbody>\n{rows}\n</tbody></table></div>'


def render_list(sentences: Sequence[str]) -> str:
    """Render sentences as a list."""
    if not sentences:
        return ""
    return "<ul>\n" + "".join(f"<li>{escape(sentence)}</li>\n" for sentence in sentences) + "</ul>"


def render_table(
    heads: Sequence[str],
    rows: Sequence[tuple[list[str], list[str]]],
    words: Sequence[str] = (),
    words_head: str = "",
) -> str:
    """Render a table of names (left-aligned) and numbers (right-aligned).

    Args:
        heads: Column heads.
        rows: Names and numbers of each row; every row has the same number of both.
        words: Cells of an optional last column of text.
        words_head: Head of that column.
    """
    if not rows:
        return ""
    named = len(rows[0][0])
    top = "".join(
        f'<th scope="col"{_NUMBER if k >= named else ""}>{escape(head)}</th>'
        for k, head in enumerate(heads)
    )
    if words:
        top += f'<th scope="col">{escape(words_head)}</th>'
    last = [f"<td>{escape(cell)}</td>" for cell in words] or [""] * len(rows)
    body = "\n".join(
        "<tr>"
        + "".join(f'<th scope="row">{escape(name)}</th>' for name in names)
        + "".join(f"<td{_NUMBER}>{escape(number)}</td>" for number in numbers)
        + f"{cell}</tr>"
        for (names, numbers), cell in zip(rows, last, strict=True)
    )
    return (
        f'<div class="table"><table>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _figure(value: str) -> str:
    number, _, beside = value.partition("\n")
    return escape(number) + (f"<small>{escape(beside)}</small>" if beside else "")


def _words(name: str) -> str:
    words = " ".join(_ACRONYMS.get(word, word) for word in name.split("_"))
    return words[:1].upper() + words[1:]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _fact(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "none"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
        case Mapping():
            pairs = ((str(name).replace("_", " "), _fact(item)) for name, item in value.items())
            return ", ".join(f"{name} {fact}" for name, fact in pairs)
        case list() | tuple():
            return ", ".join(map(_fact, value))
        case _:
            return str(value)
