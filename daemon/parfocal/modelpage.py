"""The card of a model as one HTML page that needs nothing beside it."""

from collections.abc import Iterator
from html import escape

from parfocal import __version__
from parfocal.bundle import Bundle
from parfocal.card import Reliability
from parfocal.modelcard import Section, model_sections, right_aligned

STYLE = """\
:root { color-scheme: light dark; --line: #8886; --mark: #2a7ab0; --warn: #c60; }
@media (prefers-color-scheme: dark) { :root { --mark: #6db5e8; --warn: #fa4; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; margin-bottom: 0; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.25rem; }
p { margin: .5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .75rem 0; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { white-space: nowrap; } th.number, td.number { text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; }
ul.notes { padding-left: 1rem; border-left: 4px solid var(--warn); list-style: none; }
figure { margin: 1rem 0; } svg { max-width: 26rem; width: 100%; height: auto; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }
figcaption { font-size: .9rem; opacity: .8; max-width: 36rem; }
small { opacity: .8; }"""


def model_page(bundle: Bundle) -> str:
    """The whole page; every text is escaped."""
    card = bundle.card
    title = escape(f"{card.name} {card.version}")
    sections = "\n".join(_section(one, card.reliability) for one in model_sections(bundle))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{STYLE}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{escape(card.description)}</p>
{sections}
<p><small>parfocal {escape(__version__)}</small></p>
</body>
</html>
"""


def _section(section: Section, known: Reliability | None) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in section.sentences]
    if known is not None and section.columns[:1] == ("is so sure",):
        parts.append(_figure(known))
    if section.rows:
        parts.append(_table(section))
    if section.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in section.notes)
        parts.append(f'<ul class="notes">{notes}</ul>')
    return "\n".join(parts)


def _table(section: Section) -> str:
    styles = [' class="number"' if right else "" for right in right_aligned(section)]
    heads = _cells("th", section.columns, styles) if any(section.columns) else ""
    rows = "\n".join(f"<tr>{_cells('td', row, styles)}</tr>" for row in section.rows)
    return f'<div class="wide"><table>\n<tr>{heads}</tr>\n{rows}\n</table></div>'


def _cells(tag: str, texts: tuple[str, ...], styles: list[str]) -> str:
    pairs = zip(texts, styles, strict=True)
    return "".join(f"<{tag}{style}>{escape(text)}</{tag}>" for text, style in pairs)


SIDE, LEFT, TOP = 320, 56, 12
"""Pixels: side of the plot, and its distance from the figure's left and upper edge."""


def _figure(known: Reliability) -> str:
    """The reliability diagram: right answers against probability."""
    least = min(min(b.low, b.predicted) for b in known.bins)
    start = max(0.0, int(least * 10) / 10) if least < 0.95 else 0.9
    drawing = "\n".join([*_axes(start), *_points(known, start)])
    width, height = LEFT + SIDE + 16, TOP + SIDE + 52
    return f"""<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="reliability">
{drawing}
</svg><figcaption>Each point is a row of the table: its cells are as sure as the point is far right,
and as often right as it is high; the bar is its 95 % interval over groups. On the dashed line the
model is as sure as it is right, below it boasts.</figcaption></figure>"""


def _at(predicted: float, observed: float, start: float) -> tuple[float, float]:
    """Pixels of a point of the plot, which spans `start` to 1 both ways."""
    across, up = ((value - start) / (1 - start) * SIDE for value in (predicted, observed))
    return round(LEFT + across, 1), round(TOP + SIDE - up, 1)


def _axes(start: float) -> Iterator[str]:
    (x0, y0), (x1, y1) = _at(start, start, start), _at(1, 1, start)
    yield (f'<rect x="{x0}" y="{y1}" width="{SIDE}" height="{SIDE}" fill="none" '
           'stroke="var(--line)"/>')  # fmt: skip
    yield (f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="currentColor" opacity=".5" '
           'stroke-dasharray="5 4"/>')  # fmt: skip
    for step in range(6):
        value = start + (1 - start) * step / 5
        x, y = _at(value, value, start)
        yield f'<text x="{x}" y="{y0 + 18}" text-anchor="middle">{value:.2f}</text>'
        yield f'<text x="{x0 - 8}" y="{y + 4}" text-anchor="end">{value:.2f}</text>'
    middle = TOP + SIDE / 2
    yield (f'<text x="{LEFT + SIDE / 2}" y="{y0 + 42}" text-anchor="middle">'
           "probability of the answer</text>")  # fmt: skip
    yield (f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">'
           "share that was right</text>")  # fmt: skip


def _points(known: Reliability, start: float) -> Iterator[str]:
    for one in known.bins:
        x, y = _at(one.predicted, one.observed, start)
        low, high = (_at(one.predicted, end, start)[1] for end in (one.low, one.high))
        text = f"{one.n} cells {one.predicted:.1%} sure, {one.observed:.1%} right"
        yield (f'<line x1="{x}" y1="{low}" x2="{x}" y2="{high}" stroke="var(--mark)" '
               'stroke-width="2"/>')  # fmt: skip
        yield f'<circle cx="{x}" cy="{y}" r="4.5" fill="var(--mark)"><title>{text}</title></circle>'
