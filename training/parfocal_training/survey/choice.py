"""One way to make a part, and whether its images are enough."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from parfocal_training.errors import DataError
from parfocal_training.survey.candidates import Candidate

Name = Callable[[Candidate], str]


@dataclass(frozen=True, slots=True)
class Size:
    """Images of a part: `labelled` of each class, `unlabelled` in all."""

    labelled: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to make a part: from which images, and what can keep the two roles apart.

    `apart` names what is tried, the widest first; empty: the two lists have nothing in common, as
    `disjoint` says.
    """

    title: str
    truth: Name
    labelled: tuple[Candidate, ...]
    unlabelled: tuple[Candidate, ...]
    apart: tuple[tuple[str, Name], ...] = ()
    disjoint: str = ""
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """What can be answered, in alphabetical order."""
        return tuple(sorted({self.truth(c) for c in self.labelled + self.unlabelled}))

    def counts(self) -> Iterator[tuple[str, int, int, int]]:
        """Of each class: its name, images for labels, images to ask for, and both together."""
        for name in self.classes:
            told = {c.sha256 for c in self.labelled if self.truth(c) == name}
            free = {c.sha256 for c in self.unlabelled if self.truth(c) == name}
            yield name, len(told), len(free), len(told | free)

    def lacks(self, size: Size) -> str:
        """What is missing, for a sentence; empty if there is enough."""
        if len(self.classes) != 2:
            return f"shows {len(self.classes)} class(es): {', '.join(self.classes) or 'none'}"
        ask = -(-size.unlabelled // 2)
        faults = []
        for name, told, free, both in self.counts():
            if both < size.labelled + ask:
                faults.append(f"{size.labelled + ask} of {name} are needed, there are {both}")
            elif told < size.labelled:
                faults.append(f"{size.labelled} labelled of {name} are needed, there are {told}")
            elif free < ask:
                faults.append(f"{ask} of {name} not shown before are needed, there are {free}")
        return "; ".join(faults)

    def most(self, size: Size) -> Size | None:
        """The largest part of about these proportions that is possible."""
        for labelled in range(size.labelled, 0, -1):
            asked = max(2, size.unlabelled * labelled // size.labelled)
            if not self.lacks(Size(labelled, asked)):
                return Size(labelled, asked)
        return None


class Impossible(DataError):
    """The images do not give such a part; `metadata`: nothing says what it is made from."""

    def __init__(self, text: str, metadata: bool = False) -> None:
        super().__init__(text)
        self.metadata = metadata
