"""The survey on paper: labelled images, numbered ones to answer, and a sheet for the answers."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from parfocal_training.survey.key import Key, SheetPart, Shown
from parfocal_training.survey.pictures import Pictures, Pixels

A4_MM = (210.0, 297.0)
MARGIN_MM, GAP_MM, HEAD_MM, NUMBER_MM = 12.0, 1.5, 24.0, 5.0


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


@dataclass(frozen=True, slots=True)
class Grid:
    """Where images stand on a page: so many in a row, the highest so high for its width."""

    columns: int
    ratio: float
    numbered: bool

    @property
    def wide_mm(self) -> float:
        """Width of an image."""
        return (A4_MM[0] - 2 * MARGIN_MM - (self.columns - 1) * GAP_MM) / self.columns

    @property
    def step_mm(self) -> float:
        """From one row to the next."""
        return self.wide_mm * self.ratio + GAP_MM + (NUMBER_MM if self.numbered else 0)

    @property
    def rows(self) -> int:
        """As many as go on a page."""
        return max(1, int((A4_MM[1] - HEAD_MM - MARGIN_MM) // self.step_mm))

    def corner_mm(self, place: int) -> tuple[float, float]:
        """The upper left corner of the image at a place of its page."""
        row, column = divmod(place, self.columns)
        return MARGIN_MM + column * (self.wide_mm + GAP_MM), HEAD_MM + row * self.step_mm


def _image_pages(
    key: Key, part: SheetPart, images: Sequence[Shown], what: str, pictures: Pictures
) -> Iterator[Figure]:
    numbered = bool(images) and images[0].role == "unlabelled"
    ratio = max(pictures[i.sha256].shape[0] / pictures[i.sha256].shape[1] for i in images)
    grid = Grid(_columns(part, numbered), ratio, numbered)
    pages = range(0, len(images), grid.rows * grid.columns)
    for page, first in enumerate(pages, 1):
        more = f"  (page {page} of {len(pages)})" if len(pages) > 1 else ""
        figure, axes = _page(key, f"Part {part.number}: {part.title}", what + more)
        for place, image in enumerate(images[first : first + grid.rows * grid.columns]):
            number = str(image.number) if numbered else ""
            _put(axes, pictures[image.sha256], grid.corner_mm(place), grid.wide_mm, number)
        yield figure


def _columns(part: SheetPart, numbered: bool) -> int:
    """Images in a row: cells as large as 40 on a page allow, frames large enough to see cells."""
    if part.kind == "frames":
        return 2
    return 4 if numbered else 6


def _put(
    axes: Axes, pixels: Pixels, corner_mm: tuple[float, float], wide_mm: float, number: str
) -> None:
    x, y = corner_mm
    high_mm = wide_mm * pixels.shape[0] / pixels.shape[1]
    extent = (x, x + wide_mm, y + high_mm, y)
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="none", aspect="auto"
    )
    axes.set(xlim=(0, A4_MM[0]), ylim=(A4_MM[1], 0))
    if number:
        axes.text(x, y + high_mm + 4, number, fontsize=11, weight="bold")


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
