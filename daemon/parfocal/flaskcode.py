"""The code on a flask's label: what a hand scanner types, or what a QR code in an image says.

Four forms, of which the label printer chooses one:

    F12                                                  the flask's own name
    F12|HT1080|7                                         name, cell line, passage; P7 is 7 too
    {"id": "F12", "cell_line": "HT1080", "passage": 7}   also "note"
    CLOSE                                                takes the flask off the stage
"""

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.sidecar import DeclaredFlask
from parfocal.types import Gray

CLOSE = "CLOSE"
MAX_CHARACTERS = 300
"""Longer than any label of a flask; leaflets and parcels carry longer codes."""
MAX_ID_CHARACTERS = 80
SCALES = (1.0, 0.75, 1.5, 0.5)
"""A found code that cannot be read at one scale often can at the next."""


class CodeError(Exception):
    """A code that is not of a flask; the message says what was read and why it is none."""


def shown(text: str) -> str:
    """Text from outside as it may stand on a terminal: short, in quotes, nothing that rings."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return f"'{plain[:40]}...'" if len(plain) > 43 else f"'{plain}'"


def parse(text: str) -> DeclaredFlask | None:
    """The flask that a code names; None for the code that closes.

    Raises
    ------
    CodeError
        It is none of the four forms.
    """
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        raise CodeError(
            f"{shown(text)} has {len(text)} characters, a flask's code at most {MAX_CHARACTERS}"
        )
    if not text.isprintable() or not text:
        raise CodeError(f"{shown(text)} is no plain text: scan the code of a flask")
    if text.upper() == CLOSE:
        return None
    if text.startswith(("{", "[")):
        return _of_json(text)
    if "://" in text:
        raise CodeError(f"{shown(text)} is a web address: scan the code of a flask")
    return _of_parts(text)


def _of_json(text: str) -> DeclaredFlask:
    try:
        flask = msgspec.json.decode(text.encode(), type=DeclaredFlask)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise CodeError(f"{shown(text)} is not understood: {error}") from error
    words = (flask.id, flask.cell_line or "", flask.note or "")
    if not all(word.isprintable() for word in words):  # JSON can escape what rings
        raise CodeError(f"{shown(text)} is no plain text: scan the code of a flask")
    return _named(flask, text)


def _of_parts(text: str) -> DeclaredFlask:
    parts = [part.strip() for part in text.split("|")]
    if len(parts) > 3:
        raise CodeError(f"{shown(text)} has {len(parts)} parts: it takes ID|LINE|PASSAGE")
    name, line, passage = (*parts, "", "")[:3]
    if not name:
        raise CodeError(f"{shown(text)} names no flask: it takes ID|LINE|PASSAGE")
    values = {"id": name, "cell_line": line or None, "passage": _passage(passage, text)}
    try:
        return _named(msgspec.convert(values, DeclaredFlask), text)
    except msgspec.ValidationError as error:
        raise CodeError(f"{shown(text)} is not understood: {error}") from error


def _passage(part: str, text: str) -> int | None:
    if not part:
        return None
    digits = part[1:] if part[0] in "Pp" else part
    if not (digits.isascii() and digits.isdigit()):
        raise CodeError(f"{shown(text)} has passage {shown(part)}: it takes a number, 7 or P7")
    return int(digits)


def _named(flask: DeclaredFlask, text: str) -> DeclaredFlask:
    if not flask.id.strip() or len(flask.id) > MAX_ID_CHARACTERS:
        raise CodeError(
            f"{shown(text)} names no flask: its name has 1 to {MAX_ID_CHARACTERS} characters"
        )
    return flask


def seen(gray: Gray) -> str:
    """Text of the QR code in an image; empty when none can be read.

    Parameters
    ----------
    gray : ndarray of shape (h, w), uint8 or uint16
    """
    if gray.dtype != np.uint8:  # the search takes 8 bits; a label spans the grey scale
        gray = cv2.normalize(gray, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)  # type: ignore[call-overload]
    search = cv2.QRCodeDetectorAruco()
    found, corners = search.detect(gray)
    if not found:
        return ""
    label = _around(gray, np.reshape(corners, (-1, 2)).astype(np.float32))
    for scale in SCALES:
        sized = cv2.resize(label, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for reader in (search, cv2.QRCodeDetector()):
            text, _, _ = reader.detectAndDecode(sized)
            if text:
                return str(text)
    return ""


def _around(gray: Gray, corners_px: NDArray[np.float32]) -> Gray:
    """The part of an image around a code, with the quiet zone that reading it needs."""
    low, high = corners_px.min(0), corners_px.max(0)
    margin = 0.25 * (high - low)
    left, top = np.maximum(low - margin, 0).astype(int)
    right, bottom = np.ceil(high + margin).astype(int) + 1
    return gray[top:bottom, left:right]
