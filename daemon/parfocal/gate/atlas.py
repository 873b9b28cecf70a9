"""Fields pieced together by their overlaps: what lies on one field lies on its neighbours too.

A small overlap is easily missed where little is seen; but if a frame lies on one field, and that
field's place beside another is known, so is the frame's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parfocal.gate.places import Overlap, shared, turned

LEAST_SHARE = 0.002
Matrix = NDArray[np.float64]


@dataclass(slots=True)
class Atlas:
    """Each field's sheet, and the matrix (3, 3) that takes its points to that sheet.

    Fields that overlap, directly or by way of others, lie on one sheet.
    """

    sheets: list[int] = field(default_factory=list)
    places: list[Matrix] = field(default_factory=list)

    def completed(self, found: Sequence[Overlap], size: tuple[int, int]) -> tuple[Overlap, ...]:
        """The overlaps of a frame (h, w) that were found, and those that follow; largest first."""
        known = {one.field: one for one in found}
        for one in sorted(found, key=lambda one: one.share):
            to_sheet = self._to_sheet(one)
            for number, sheet in enumerate(self.sheets, 1):
                if sheet == self.sheets[one.field - 1] and number not in {o.field for o in found}:
                    # the largest overlap comes last and has the last word
                    known[number] = self._follows(number, to_sheet, one.confidence, size)
        real = (one for one in known.values() if one.share >= LEAST_SHARE)
        return tuple(sorted(real, key=lambda one: -one.share))

    def add(self, overlaps: Sequence[Overlap]) -> None:
        """Lay down the next field; sheets on which it lies become one."""
        number = len(self.sheets) + 1
        if not overlaps:
            self.sheets.append(number)
            self.places.append(np.eye(3))
            return
        place, sheet = self._to_sheet(overlaps[0]), self.sheets[overlaps[0].field - 1]
        for one in overlaps[1:]:
            other = self.sheets[one.field - 1]
            if other != sheet:
                self._join(other, sheet, place @ np.linalg.inv(self._to_sheet(one)))
        self.sheets.append(sheet)
        self.places.append(place)

    def _join(self, other: int, sheet: int, move: Matrix) -> None:
        for k, one in enumerate(self.sheets):
            if one == other:
                self.sheets[k], self.places[k] = sheet, move @ self.places[k]

    def _to_sheet(self, one: Overlap) -> Matrix:
        """The matrix from the frame to the sheet of the field on which it lies."""
        return self.places[one.field - 1] @ matrix(one)

    def _follows(
        self, number: int, to_sheet: Matrix, confidence: float, size: tuple[int, int]
    ) -> Overlap:
        m = np.linalg.inv(self.places[number - 1]) @ to_sheet
        at, turn = (float(m[0, 2]), float(m[1, 2])), float(np.arctan2(m[1, 0], m[0, 0]))
        return Overlap(number, at, turn, shared(at, turn, size), confidence)


def matrix(one: Overlap) -> Matrix:
    """The matrix (3, 3) that takes points of the frame to the earlier field."""
    made = np.eye(3)
    made[:2, :2], made[:2, 2] = turned(one.turn_rad), one.offset_px
    return made
