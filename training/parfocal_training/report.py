"""One HTML file that needs nothing beside it: paragraphs, tables, figures and what was asked."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from parfocal import __version__
from parfocal_training.write import write_whole

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
  th, td { padding: .25rem .75rem; text-align: left; border-bottom: 1px solid #8884; }
  td { white-space: nowrap; }
  td.number, th.number { text-align: right; }
  .wide { overflow-x: auto; }
  figure { margin: 1.5rem 0; } figure img { max-width: 100%; background: white; }
  caption, figcaption { text-align: left; opacity: .8; font-size: .9rem; padding-bottom: .25rem; }
  pre { overflow: auto; padding: .75rem; border: 1px solid #8884; }
  .warning { border-left: 4px solid #c60; padding: .25rem 1rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for part in parts %}
{%- if part.kind == "heading" %}<h2>{{ part.text }}</h2>
{% elif part.kind == "paragraph" %}<p>{{ part.text }}</p>
{% elif part.kind == "warning" %}<p class="warning">{{ part.text }}</p>
{% elif part.kind == "list" %}<ul>{% for item in part.items %}<li>{{ item }}</li>{% endfor %}</ul>
{% elif part.kind == "table" %}<div class="wide"><table>
{% if part.text %}<caption>{{ part.text }}</caption>{% endif %}
<tr>{% for name in part.columns %}<th class="{{ part.styles[loop.index0] }}">{{ name }}</th>{% endfor %}</tr>
{% for row in part.rows %}<tr>{% for cell in row %}<td class="{{ part.styles[loop.index0] }}">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% elif part.kind == "figure" %}<figure><img alt="{{ part.text }}" src="data:image/png;base64,{{ part.png }}">
<figcaption>{{ part.text }}</figcaption></figure>
{% elif part.kind == "details" %}<details><summary>{{ part.text }}</summary><pre>{{ part.body }}</pre></details>
{% endif %}
{%- endfor %}
<p><small>parfocal {{ version }}</small></p>
</body>
</html>
"""  # noqa: E501 - markup reads better in long lines


@dataclass(frozen=True, slots=True)
class ReportPart:
    """One block of a report; which of the fields are used depends on `kind`."""

    kind: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    styles: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    png: str = ""
    body: str = ""


@dataclass(slots=True)
class Report:
    """A page that grows block by block; all text is escaped."""

    title: str
    parts: list[ReportPart] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A section begins."""
        self.parts.append(ReportPart("heading", text))

    def paragraph(self, text: str) -> None:
        """Plain text."""
        self.parts.append(ReportPart("paragraph", text))

    def warning(self, text: str) -> None:
        """Text that must not be overlooked."""
        self.parts.append(ReportPart("warning", text))

    def bullets(self, items: Sequence[str]) -> None:
        """A list."""
        self.parts.append(ReportPart("list", items=tuple(items)))

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = ""
    ) -> None:
        """A table; a column is aligned right when all that stands in it are numbers."""
        numeric = [
            bool(rows) and all(isinstance(row[i], int | float) for row in rows)
            for i in range(len(columns))
        ]
        self.parts.append(
            ReportPart(
                "table",
                caption,
                columns=tuple(columns),
                rows=tuple(tuple(cell_text(cell) for cell in row) for row in rows),
                styles=tuple("number" if n else "" for n in numeric),
            )
        )

    def figure(self, figure: Figure, caption: str) -> None:
        """A matplotlib figure as an embedded picture; the caption is also its text for readers."""
        png = base64.b64encode(drawn(figure)).decode()
        self.parts.append(ReportPart("figure", caption, png=png))

    def details(self, summary: str, body: str) -> None:
        """Folded text, such as a plan or a log."""
        self.parts.append(ReportPart("details", summary, body=body))

    def html(self) -> str:
        """The whole page."""
        template = Environment(autoescape=True).from_string(PAGE)
        return template.render(title=self.title, parts=self.parts, version=__version__)

    def write(self, path: Path) -> None:
        """Write the page, whole or not at all."""
        write_whole(path, self.html().encode())


def cell_text(cell: object) -> str:
    """Three decimals for fractions, of which none above 0 reads 0; whole numbers as they are."""
    if not isinstance(cell, float):
        return str(cell)
    return "< 0.001" if 0 < cell < 0.0005 else f"{cell:.3f}"


def canvas(width_in: float, height_in: float) -> Figure:
    """An empty figure that draws without a screen and keeps its labels apart."""
    made = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(made)
    return made


def drawn(figure: Figure) -> bytes:
    """A figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
