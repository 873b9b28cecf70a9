"""How a phenotyping tells how far it is: whatever it goes through can be watched."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Watched(Protocol):
    """The steps of a stage as they come, and its name for whoever watches."""

    def __call__(self, steps: Sequence[T], stage: str, /) -> Iterator[T]:
        """Every step of `stage` in turn."""


def unwatched(steps: Sequence[T], stage: str, /) -> Iterator[T]:
    """The steps; nobody is told."""
    return iter(steps)
