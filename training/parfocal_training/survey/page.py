"""The survey as one HTML file that asks, scores and saves answers without a network."""

import base64
from collections.abc import Sequence
from importlib import resources

import cv2
import msgspec
import numpy as np
from jinja2 import Environment

from parfocal_training.survey.key import Key, SheetPart
from parfocal_training.survey.pictures import Pictures, Pixels

JPEG_QUALITY = 90


def page(key: Key, pictures: Pictures) -> str:
    """One HTML file with everything in it that needs no network."""
    truths = [
        part.classes.index(image.truth) for part in key.parts for image in part.of("unlabelled")
    ]
    sheet = {
        "sheet": key.sheet,
        "sealed": sealed(key.sheet, truths),
        "parts": [_part(part, pictures) for part in key.parts],
    }
    text = msgspec.json.encode(sheet).decode().replace("<", "\\u003c")
    template = Environment(autoescape=True).from_string(_beside("page.html"))
    return template.render(
        sheet=key.sheet, data=text, style=_beside("page.css"), script=_beside("page.js")
    )


def _part(part: SheetPart, pictures: Pictures) -> dict[str, object]:
    """What the page's script reads of a part; nothing in it tells an answer."""
    return {
        "number": part.number,
        "title": part.title,
        "frames": part.kind == "frames",
        "classes": part.classes,
        "labelled": [
            [_uri(pictures[i.sha256]) for i in part.of("labelled", name)] for name in part.classes
        ],
        "unlabelled": [_uri(pictures[i.sha256]) for i in part.of("unlabelled")],
    }


def _uri(pixels: Pixels) -> str:
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _beside(name: str) -> str:
    """The text of a file beside this module."""
    file = resources.files("parfocal_training.survey") / name
    return file.read_text(encoding="utf-8")


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
