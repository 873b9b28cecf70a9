"""The survey as people see it: pages to print and a page that asks, scores and saves answers."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import matplotlib as mpl
import msgspec
import numpy as np
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from parfocal.normalize import Reference, normalize
from parfocal.types import Gray
from parfocal_training.reference import levels_8bit, medoid
from parfocal_training.survey import Key, SheetPart, Shown

Pixels = NDArray[np.uint8]
Pictures = Mapping[str, Pixels]
"""What is shown of an image, by the SHA-256 that the key has of it: (h, w) uint8."""

A4_MM = (210.0, 297.0)
MARGIN_MM, GAP_MM, HEAD_MM, NUMBER_MM = 12.0, 1.5, 24.0, 5.0
JPEG_QUALITY = 90


def as_network_sees(crops: Gray, chosen: Sequence[int]) -> list[Pixels]:
    """The chosen ones of crops (n, h, w) with the grey levels of the medoid of all, stretched."""
    reference = Reference.of(crops[medoid(crops)])
    return [_stretched(normalize(crops[at][None], reference)[0], reference) for at in chosen]


def _stretched(levels: NDArray[np.float32], reference: Reference) -> Pixels:
    """Levels (h, w) with the reference's range on 0-255: one and the same line for all images.

    The network's own first step is such a line too, and eyes need the contrast.
    """
    upper = np.cumsum(reference.counts) / reference.pixels
    low, high = (int(np.searchsorted(upper, q)) for q in (0.0005, 0.9995))
    on_8_bits = (levels - low) * (255 / max(high - low, 1))
    shown: Pixels = np.rint(np.clip(on_8_bits, 0, 255)).astype(np.uint8)
    return shown


def as_they_are(images: Sequence[Gray]) -> list[Pixels]:
    """Images (h, w) on 8 bits."""
    return [levels_8bit(image) for image in images]


def reduced(gray: Gray, width_px: int) -> Gray:
    """A frame (h, w) no wider than this."""
    h, w = gray.shape
    if w <= width_px:
        return gray
    size = (width_px, round(h * width_px / w))
    small: Gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return small


def evened(frames: Sequence[Gray]) -> list[Pixels]:
    """Frames, of any sizes, each with the grey levels of the one whose levels are most usual.

    Otherwise the lamp tells the flasks apart. Levels of a frame of another size are thinned.
    """
    eights = [levels_8bit(frame) for frame in frames]
    at = (np.arange(4096) + 0.5) / 4096
    ordered = np.stack([np.quantile(e, at, method="nearest") for e in eights])  # (n, 4096)
    usual = ordered[medoid(ordered[:, None].astype(np.uint8))]
    out = []
    for gray, eight in zip(frames, eights, strict=True):
        ranks = np.linspace(0, len(usual) - 1, eight.size).round().astype(np.int64)
        reference = Reference.of(usual[ranks].astype(np.uint8))
        out.append(_stretched(normalize(gray[None], reference)[0], reference))
    return out


def pdf(key: Key, pictures: Pictures) -> bytes:
    """The sheets on A4: labelled images by class, numbered ones to answer, an answer sheet."""
    buffer = io.BytesIO()
    about = {"Title": f"Survey {key.sheet}", "CreationDate": None}
    # a composite would be drawn again at the page's resolution, and grey values would change
    with (
        mpl.rc_context({"image.composite_image": False, "pdf.fonttype": 42}),
        PdfPages(buffer, metadata=about) as pages,
    ):
        for figure in figures(key, pictures):
            pages.savefig(figure)
    return buffer.getvalue()


def figures(key: Key, pictures: Pictures) -> Iterator[Figure]:
    """The pages one after another."""
    for part in key.parts:
        for name in part.classes:
            what = f"These are labelled: {name}"
            yield from _image_pages(key, part, part.of("labelled", name), what, pictures)
        what = f"Which is it: {' or '.join(part.classes)}?"
        yield from _image_pages(key, part, part.of("unlabelled"), what, pictures)
    yield from _answer_pages(key)


def _page(key: Key, head: str, below: str) -> tuple[Figure, Axes]:
    """An A4 page whose axes are millimetres from its upper left corner."""
    figure = Figure(figsize=(A4_MM[0] / 25.4, A4_MM[1] / 25.4))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, A4_MM[0]), ylim=(A4_MM[1], 0), autoscale_on=False)
    axes.text(MARGIN_MM, 15, head, fontsize=14, weight="bold")
    axes.text(MARGIN_MM, 21, below, fontsize=11)
    axes.text(MARGIN_MM, 291, f"survey {key.sheet}", fontsize=7, color="0.4")
    return figure, axes


def _image_pages(
    key: Key, part: SheetPart, images: Sequence[Shown], what: str, pictures: Pictures
) -> Iterator[Figure]:
    numbered = bool(images) and images[0].role == "unlabelled"
    ratio = max(pictures[i.sha256].shape[0] / pictures[i.sha256].shape[1] for i in images)
    columns = _columns(part, numbered)
    wide = (A4_MM[0] - 2 * MARGIN_MM - (columns - 1) * GAP_MM) / columns
    step = wide * ratio + GAP_MM + (NUMBER_MM if numbered else 0)
    rows = max(1, int((A4_MM[1] - HEAD_MM - MARGIN_MM) // step))
    pages = range(0, len(images), rows * columns)
    for page, first in enumerate(pages, 1):
        more = f"  (page {page} of {len(pages)})" if len(pages) > 1 else ""
        figure, axes = _page(key, f"Part {part.number}: {part.title}", what + more)
        for place, image in enumerate(images[first : first + rows * columns]):
            row, column = divmod(place, columns)
            x, y = MARGIN_MM + column * (wide + GAP_MM), HEAD_MM + row * step
            pixels = pictures[image.sha256]
            high = wide * pixels.shape[0] / pixels.shape[1]
            _put(axes, pixels, (x, x + wide, y + high, y))
            if numbered:
                axes.text(x, y + high + 4, f"{image.number}", fontsize=11, weight="bold")
        yield figure


def _columns(part: SheetPart, numbered: bool) -> int:
    """Images in a row: cells as large as 40 on a page allow, frames large enough to see cells."""
    if part.kind == "frames":
        return 2
    return 4 if numbered else 6


def _put(axes: Axes, pixels: Pixels, extent: tuple[float, float, float, float]) -> None:
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="none", aspect="auto"
    )
    axes.set(xlim=(0, A4_MM[0]), ylim=(A4_MM[1], 0))


def _answer_pages(key: Key) -> Iterator[Figure]:
    """One block a part, two blocks beside each other."""
    asked = [(part, [i.number for i in part.of("unlabelled")]) for part in key.parts]
    blocks = [
        (part, numbers[i : i + 30]) for part, numbers in asked for i in range(0, len(numbers), 30)
    ]
    for first in range(0, len(blocks), 2):
        below = "One cross for each number; guess where you are not sure."
        figure, axes = _page(key, "Answers", below)
        axes.text(MARGIN_MM, 33, "Name", fontsize=11)
        axes.text(110, 33, "Years of experience with cell culture", fontsize=11)
        axes.plot([26, 104], [34, 34], color="black", lw=0.6)
        axes.plot([184, 198], [34, 34], color="black", lw=0.6)
        for column, (part, numbers) in enumerate(blocks[first : first + 2]):
            _answer_block(axes, MARGIN_MM + column * 96, part, numbers)
        yield figure


def _answer_block(axes: Axes, x: float, part: SheetPart, numbers: Sequence[int]) -> None:
    axes.text(x, 46, f"Part {part.number}", fontsize=12, weight="bold")
    for i, name in enumerate(part.classes):
        axes.text(x + 14 + 38 * i, 53, name if len(name) <= 20 else name[:19] + "…", fontsize=10)
    for row, number in enumerate(numbers):
        y = 60 + 7.4 * row
        axes.text(x + 8, y, str(number), fontsize=10, ha="right")
        for i in range(2):
            axes.add_patch(Rectangle((x + 14 + 38 * i, y - 4), 5, 5, fill=False, lw=0.7))


def page(key: Key, pictures: Pictures) -> str:
    """One HTML file with everything in it that needs no network."""
    asked = [part.of("unlabelled") for part in key.parts]
    sheet: dict[str, Any] = {
        "sheet": key.sheet,
        "sealed": sealed(
            key.sheet,
            [
                part.classes.index(image.truth)
                for part, images in zip(key.parts, asked, strict=True)
                for image in images
            ],
        ),
        "parts": [
            {
                "number": part.number,
                "title": part.title,
                "frames": part.kind == "frames",
                "classes": part.classes,
                "labelled": [
                    [_uri(pictures[i.sha256]) for i in part.of("labelled", name)]
                    for name in part.classes
                ],
                "unlabelled": [_uri(pictures[i.sha256]) for i in images],
            }
            for part, images in zip(key.parts, asked, strict=True)
        ],
    }
    text = msgspec.json.encode(sheet).decode().replace("<", "\\u003c")
    template = Environment(autoescape=True).from_string(PAGE)
    return template.render(sheet=key.sheet, data=text, style=STYLE, script=SCRIPT)


def _uri(pixels: Pixels) -> str:
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def sealed(sheet: str, answers: Sequence[int]) -> str:
    """Answers (0 or 1) as text that a glance at the page's source does not give away.

    This is no secret: who wants to can read it with the page's own code. Byte i is the answer in
    its lowest bit under seven bits of padding, XORed with byte i of a stream that starts from the
    sheet's name.
    """
    padding = np.random.default_rng(int(sheet, 16)).integers(0, 128, len(answers))
    state, out = int(sheet[:8], 16), bytearray()
    for answer, pad in zip(answers, padding, strict=True):
        state = (state * 1103515245 + 12345) & 0xFFFFFFFF
        out.append((int(pad) << 1 | answer) ^ (state >> 16 & 0xFF))
    return base64.b64encode(bytes(out)).decode()


PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Which cells are these? Survey {{ sheet }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<noscript>This page needs JavaScript; nothing leaves your computer.</noscript>
<section id="start" hidden>
<h1>Which cells are these?</h1>
<p id="about"></p>
<p>Look at the labelled images, then say of each numbered image what it shows. Guess where you are
not sure. Your score is shown when all are answered; then you save your answers as a file and hand
it back. Nothing leaves your computer by itself.</p>
<form id="who">
<label>Name <input id="person" required maxlength="80" autocomplete="name"></label>
<label>Years of experience with cell culture
<input id="years" type="number" required min="0" max="80" step="any"></label>
<button class="main">Start</button>
</form>
<p id="before" hidden><button id="again" type="button"></button> or start anew above.</p>
</section>
<section id="ask" hidden>
<header>
<nav id="tabs" aria-label="Parts"></nav>
<label id="progress"><progress id="bar"></progress> <span id="count"></span></label>
<button id="finish" class="main" type="button" disabled>Finish and see my score</button>
</header>
<h1 id="title"></h1>
<div id="desk">
<div class="shelf"><h2></h2><div class="examples"></div></div>
<div id="question">
<h2 id="number"></h2>
<img id="asked" alt="">
<div id="choices">
<button type="button"><kbd>1</kbd> <span></span></button>
<button type="button"><kbd>2</kbd> <span></span></button></div>
<p class="hint">Keys: <kbd>1</kbd> and <kbd>2</kbd> answer, <kbd>←</kbd> and <kbd>→</kbd> move.
Click an example to enlarge it.</p>
<div id="strip" role="group" aria-label="Images of this part"></div>
<p id="said" aria-live="polite" class="hint"></p>
</div>
<div class="shelf"><h2></h2><div class="examples"></div></div>
</div>
</section>
<section id="end" hidden>
<h1>Your score</h1>
<p id="total"></p>
<div class="wide"><table><thead><tr><th>Part<th>Right<th>Share<th>95 % interval (Wilson)</tr></thead>
<tbody id="scores"></tbody></table></div>
<p>Answering by chance gives half. The interval says how far a score from so few images can be
trusted.</p>
<p><button id="save" class="main" type="button">Save my answers</button> <span id="saved"></span></p>
</section>
<dialog id="large"><form method="dialog"><button aria-label="Close">Close</button></form>
<img alt="enlarged example"></dialog>
<script type="application/json" id="sheet">{{ data | safe }}</script>
<script>{{ script | safe }}</script>
</body>
</html>
"""  # noqa: E501 - markup reads better in long lines

STYLE = """
:root { color-scheme: light dark; --line: #8886; --main: #06c; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 90rem; }
h1 { font-size: 1.35rem; margin: .5rem 0; } h2 { font-size: 1.05rem; margin: .25rem 0; }
.wide { overflow-x: auto; }
#start, #end { max-width: 46rem; margin: 2rem auto; }
form label { display: block; margin: .75rem 0; }
input { font: inherit; display: block; padding: .35rem .5rem; width: 100%; }
button { font: inherit; padding: .4rem .8rem; border: 1px solid var(--line); border-radius: .4rem;
  background: Canvas; color: CanvasText; cursor: pointer; }
button.main { background: var(--main); color: white; border-color: var(--main); }
button:disabled { opacity: .4; cursor: default; }
:focus-visible { outline: 3px solid #f90; outline-offset: 2px; }
header { position: sticky; top: 0; z-index: 1; background: Canvas; display: flex; flex-wrap: wrap;
  gap: .5rem 1rem; align-items: center; padding: .5rem 0; border-bottom: 1px solid var(--line); }
#progress { flex: 1; text-align: right; } #tabs { display: flex; gap: .35rem; }
[aria-current=true] { border: 2px solid var(--main); font-weight: 600; }
#desk { display: grid; gap: 1.5rem; grid-template-columns: minmax(0,1fr) minmax(20rem,26rem) minmax(0,1fr); }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); gap: 3px; }
.frames .examples { grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); }
.frames#desk { grid-template-columns: minmax(0,1fr) minmax(24rem,40rem) minmax(0,1fr); }
.shelf { max-height: calc(100vh - 9rem); overflow-y: auto; padding: 4px; }
.examples button { padding: 0; border: 0; border-radius: 0; line-height: 0; background: none; }
.examples img, #asked { width: 100%; display: block; }
#question { position: sticky; top: 4.5rem; align-self: start; }
#choices { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; margin: .6rem 0; }
#choices button { padding: .7rem .4rem; overflow-wrap: anywhere; }
#choices [aria-pressed=true] { background: var(--main); color: white; }
#strip { display: grid; grid-template-columns: repeat(10, 1fr); gap: 3px; }
#strip button { padding: .25rem 0; font-size: .85rem; font-variant-numeric: tabular-nums; }
#strip .answered { background: #8884; }
kbd { border: 1px solid var(--line); border-radius: .25rem; padding: 0 .35rem; font-size: .85em; }
.hint { font-size: .85rem; opacity: .8; margin: .3rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td + td { white-space: nowrap; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid var(--line); }
dialog { max-width: 95vw; max-height: 95vh; } dialog img { display: block; margin-top: .5rem;
  width: min(85vw, 50rem); max-height: 80vh; object-fit: contain; }
@media (max-width: 60rem) { #desk, .frames#desk { grid-template-columns: 1fr 1fr; }
  #question { grid-column: 1 / -1; order: -1; position: static; } }
"""  # noqa: E501

SCRIPT = r"""
"use strict";
const sheet = JSON.parse(document.getElementById("sheet").textContent);
const at = id => document.getElementById(id), parts = sheet.parts;
const blank = () => ({ person: "", years: "", part: 0, image: 0, finished: false,
  answers: parts.map(p => p.unlabelled.map(() => null)) });
let state = blank();
const slot = "parfocal-survey-" + sheet.sheet;

function keep() {  // a reload or a closed lid must not cost an hour's answers
  try { localStorage.setItem(slot, JSON.stringify(state)); } catch (refused) { /* go on without */ }
}
function kept() {
  try { return JSON.parse(localStorage.getItem(slot)); } catch (refused) { return null; }
}
function show(id) { for (const s of ["start", "ask", "end"]) at(s).hidden = s !== id; }
function make(tag, text, to) {
  const made = document.createElement(tag);
  made.textContent = text; to.append(made); return made;
}
const done = () => state.answers.flat().filter(a => a !== null).length;
const total = () => state.answers.flat().length;

function begin() {
  at("about").textContent = `${parts.length} part(s), ${total()} images to answer.`;
  const old = kept();
  if (old && old.person) {
    at("before").hidden = false;
    at("again").textContent = `Go on as ${old.person}`;
    at("again").onclick = () => { state = old; state.finished ? end() : open(state.part); };
  }
  show("start");
  at("person").focus();
}
at("who").onsubmit = event => {
  event.preventDefault();
  state = blank();
  state.person = at("person").value.trim().replace(/\s+/g, " ");
  state.years = at("years").value;
  if (!state.person) { at("person").value = ""; at("person").reportValidity(); return; }
  open(0);
};

function open(number) {
  const part = parts[state.part = number], desk = at("desk");
  desk.className = part.frames ? "frames" : "";
  at("title").textContent = `Part ${part.number}: ${part.title}`;
  at("tabs").replaceChildren();
  parts.forEach((p, i) => {
    const tab = make("button", `Part ${p.number}`, at("tabs"));
    tab.onclick = () => { state.image = 0; open(i); };
    tab.setAttribute("aria-current", i === number);
  });
  desk.querySelectorAll(".shelf").forEach((shelf, c) => {
    shelf.querySelector("h2").textContent = `Labelled: ${part.classes[c]}`;
    const box = shelf.querySelector(".examples");
    box.replaceChildren();
    part.labelled[c].forEach((uri, i) => {
      const button = make("button", "", box), img = make("img", "", button);
      button.type = "button"; img.src = uri; img.alt = `${part.classes[c]}, example ${i + 1}`;
      button.onclick = () => { at("large").querySelector("img").src = uri; at("large").showModal(); };
    });
    shelf.scrollTop = 0;
  });
  at("choices").querySelectorAll("span").forEach((span, c) => { span.textContent = part.classes[c]; });
  at("strip").replaceChildren();
  part.unlabelled.forEach((_, i) => {
    make("button", i + 1, at("strip")).onclick = () => turn(i);
  });
  show("ask");
  turn(state.image);
}
function turn(image) {
  const part = parts[state.part], n = part.unlabelled.length, mine = state.answers[state.part];
  state.image = Math.max(0, Math.min(n - 1, image));
  at("number").textContent = `Image ${state.image + 1} of ${n}`;
  at("asked").src = part.unlabelled[state.image];
  at("asked").alt = `image ${state.image + 1} to answer`;
  at("choices").querySelectorAll("button").forEach((button, c) =>
    button.setAttribute("aria-pressed", mine[state.image] === c));
  [...at("strip").children].forEach((button, i) => {
    button.className = mine[i] === null ? "" : "answered";
    button.setAttribute("aria-current", i === state.image);
    button.setAttribute("aria-label",
      `image ${i + 1}, ${mine[i] === null ? "not answered" : part.classes[mine[i]]}`);
  });
  at("bar").max = total(); at("bar").value = done();
  at("count").textContent = `${done()} of ${total()} answered`;
  at("finish").disabled = done() < total();
  [...at("tabs").children].forEach((tab, i) => {
    const left = state.answers[i].filter(a => a === null).length;
    tab.textContent = `Part ${parts[i].number}` + (left ? "" : " ✓");
  });
  keep();
}
function choose(c) {
  const part = parts[state.part], mine = state.answers[state.part], was = state.image;
  mine[was] = c;
  let next = mine.findIndex((a, i) => a === null && i > was);
  if (next < 0) next = mine.indexOf(null);
  const over = next < 0, whole = done() === total();
  turn(over ? was : next);
  at("said").textContent = `Image ${was + 1}: ${part.classes[c]}.` +
    (whole ? " All are answered: look over them, or finish above." :
     over ? " This part is done: go on with the next part above." : "");
}
at("choices").querySelectorAll("button").forEach((button, c) => { button.onclick = () => choose(c); });
document.addEventListener("keydown", event => {
  if (at("ask").hidden || at("large").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const what = { 1: () => choose(0), 2: () => choose(1), ArrowLeft: () => turn(state.image - 1),
    ArrowRight: () => turn(state.image + 1) }[event.key];
  if (what) { event.preventDefault(); what(); }
});

function truth() {  // see `sealed` in parfocal_training.survey_sheets: hidden from a glance only
  let s = parseInt(sheet.sheet.slice(0, 8), 16) >>> 0;
  return Array.from(atob(sheet.sealed), character => {
    s = (Math.imul(s, 1103515245) + 12345) >>> 0;
    return (character.charCodeAt(0) ^ (s >>> 16 & 255)) & 1;
  });
}
function wilson(k, n) {
  const z = 1.959963984540054, p = k / n, d = 1 + z * z / n, middle = (p + z * z / (2 * n)) / d;
  const half = z / d * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return [k === 0 ? 0 : middle - half, k === n ? 1 : middle + half];
}
const percent = x => `${(100 * x).toFixed(1)} %`;
at("finish").onclick = () => { if (done() === total()) { state.finished = true; keep(); end(); } };
function end() {
  const right = truth();
  let before = 0, all = 0;
  at("scores").replaceChildren();
  parts.forEach((part, p) => {
    const mine = state.answers[p], n = mine.length;
    const k = mine.filter((a, i) => a === right[before + i]).length;
    const [low, high] = wilson(k, n), row = make("tr", "", at("scores"));
    make("td", `${part.number}: ${part.title}`, row);
    make("td", `${k} of ${n}`, row);
    make("td", percent(k / n), row);
    make("td", `${percent(low)} to ${percent(high)}`, row);
    before += n; all += k;
  });
  const [low, high] = wilson(all, before);
  at("total").textContent = `${state.person}: ${all} of ${before} right, ${percent(all / before)} ` +
    `(95 % interval ${percent(low)} to ${percent(high)}). Answers can no longer be changed.`;
  show("end");
  at("save").focus();
}
function csv() {
  const cell = value => /[",\r\n]/.test(value) ? `"${String(value).replace(/"/g, '""')}"` : value;
  const rows = [["person", "years", "part", "number", "answer", "sheet"]];
  parts.forEach((part, p) => state.answers[p].forEach((a, i) => rows.push(
    [state.person, state.years, part.number, i + 1, part.classes[a], sheet.sheet])));
  return rows.map(row => row.map(cell).join(",") + "\n").join("");
}
at("save").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `answers-${state.person.replace(/[^\p{L}\p{N}]+/gu, "-")}.csv`;
  link.click();
  at("saved").textContent = `Saved as ${link.download} where your browser puts downloads.`;
};
begin();
"""  # noqa: E501
