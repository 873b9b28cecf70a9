"""A picture of the cells behind the numbers: some of each class, and the most doubtful."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal import detectors
from parfocal.annotate import COLOURS
from parfocal.config import Limits
from parfocal.notebook.entry import ScoredFrame
from parfocal.reader import Prepared
from parfocal.score import Reading, Request
from parfocal.types import Cell

TILE_PX = 112
FIELD_UM = 100.0
"""Every tile shows this much of the flask, whatever the camera."""
COLUMNS = 8
BAR_UM = 50.0
LABEL_PX = 18
FULL_PX = 4096

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """A cell chosen for the montage."""

    frame: ScoredFrame
    cell: Cell


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One line of the montage."""

    title: str
    picks: list[Pick]


def choose(frames: tuple[ScoredFrame, ...], seed: str) -> list[Row]:
    """Random accepted cells of each class, the least certain and the strangest ones.

    The choice depends on nothing but the session, so that an entry can be made again.
    """
    every = [Pick(frame, cell) for frame in frames for cell in frame.result.cells]
    chance = random.Random(seed)  # no secret
    rows = []
    for label in sorted({pick.cell.label for pick in every}):
        of = [p for p in every if p.cell.label == label and p.cell.accepted]
        rows.append(Row(f"{label}, at random", chance.sample(of, min(COLUMNS, len(of)))))
    doubt = sorted(every, key=lambda p: p.cell.probability)[:COLUMNS]
    strange = sorted(every, key=lambda p: -p.cell.novelty)[:COLUMNS]
    rows += [Row("least certain", doubt), Row("least like training", strange)]
    return [row for row in rows if row.picks]


def montage(frames: tuple[ScoredFrame, ...], seed: str) -> bytes | None:
    """PNG of chosen cells with a scale bar; None when no cell can be shown.

    Images are read again by a reader child and shown only if they are still the ones that were
    scored; a tile without its image stays blank.
    """
    rows = choose(frames, seed)
    if not rows:
        return None
    labels = sorted({label for f in frames for label in f.result.composition})
    tiles = dict(_tiles(rows))
    strips = [_strip(row, tiles, labels) for row in rows]
    picture = np.vstack([*strips, _scale_bar(strips[0].shape[1])])
    return bytes(cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])


def _tiles(rows: list[Row]) -> Iterator[tuple[tuple[int, int], Picture]]:
    """Tile of each picked cell by (message, cell): each image is read once."""
    wanted: dict[int, list[Pick]] = {}
    for pick in (pick for row in rows for pick in row.picks):
        wanted.setdefault(pick.frame.message.header.seq, []).append(pick)
    # the cells are known already: the cheap detector will do
    cheap = detectors.choose(detectors.CLASSICAL)
    with Reading(Limits(), cheap) as reading:
        for seq, picks in wanted.items():
            image = _image(reading, picks[0].frame)
            if image is not None:
                for pick in picks:
                    yield (seq, pick.cell.id), _tile(image, pick)


def _image(reading: Reading, frame: ScoredFrame) -> Picture | None:
    ref = frame.result.image
    request = msgspec.structs.replace(reading.request(ref.um_per_px), thumbnail_px=FULL_PX)
    answer = reading.read(Request(ref.path, str(Path(ref.path).parent)), request)
    if not isinstance(answer, Prepared) or answer.sha256 != ref.sha256:
        return None
    picture = cv2.imdecode(np.frombuffer(answer.thumbnail, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else np.asarray(picture, np.uint8)


def _tile(image: Picture, pick: Pick) -> Picture:
    """Square of `FIELD_UM` around a cell: shape (TILE_PX, TILE_PX, 3); beyond the frame is gray."""
    ref, cell = pick.frame.result.image, pick.cell
    shown = image.shape[1] / ref.width_px  # pixels of the preview for each pixel of the frame
    x = (cell.left_px + cell.width_px / 2) * shown
    y = (cell.top_px + cell.height_px / 2) * shown
    side = FIELD_UM / ref.um_per_px * shown
    scale = TILE_PX / side
    move = np.array([[scale, 0, TILE_PX / 2 - scale * x], [0, scale, TILE_PX / 2 - scale * y]])
    tile = cv2.warpAffine(
        image, move, (TILE_PX, TILE_PX), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(128, 128, 128),
    )  # fmt: skip
    return np.asarray(tile, np.uint8)


def _strip(row: Row, tiles: dict[tuple[int, int], Picture], labels: list[str]) -> Picture:
    strip = np.full((TILE_PX + LABEL_PX, COLUMNS * TILE_PX, 3), 255, np.uint8)
    _write(strip, row.title, 4, 13)
    for i, pick in enumerate(row.picks):
        tile = tiles.get((pick.frame.message.header.seq, pick.cell.id))
        if tile is None:
            tile = np.full((TILE_PX, TILE_PX, 3), 220, np.uint8)
        tile = tile.copy()
        colour = COLOURS[labels.index(pick.cell.label) % len(COLOURS)][::-1]
        cv2.rectangle(tile, (0, 0), (TILE_PX - 1, TILE_PX - 1), colour, 2)
        mark = "" if pick.cell.accepted else "?"
        _write(tile, f"{pick.cell.probability:.2f}{mark}", 5, TILE_PX - 6)
        strip[LABEL_PX:, i * TILE_PX : (i + 1) * TILE_PX] = tile
    return strip


def _scale_bar(width_px: int) -> Picture:
    bar = np.full((24, width_px, 3), 255, np.uint8)
    length = round(BAR_UM / FIELD_UM * TILE_PX)
    cv2.rectangle(bar, (4, 8), (4 + length, 13), (0, 0, 0), -1)
    _write(bar, f"{BAR_UM:g} um; frame colour = class, number = probability, ? = abstained",
           length + 12, 15)  # fmt: skip
    return bar


def _write(picture: Picture, text: str, x: int, y: int) -> None:
    for colour, width in (((255, 255, 255), 3), ((0, 0, 0), 1)):
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, width,
                    cv2.LINE_AA)  # fmt: skip
