"""Every way to make a part of a kind, the best first."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from parfocal_training.errors import UsageError
from parfocal_training.survey.candidates import Candidate
from parfocal_training.survey.choice import Choice, Impossible, Name
from parfocal_training.survey.key import Kind

Flasks = tuple[str, str]


def choices_of(
    kind: Kind,
    value: str,
    offered: Sequence[Candidate],
    shown: set[str],
    rng: np.random.Generator,
) -> list[Choice]:
    """Every way to make a part, the best first.

    Parameters
    ----------
    kind, value
        What is wanted; an empty value leaves it open which pair, cell line or flasks.
    offered
        Images that no earlier part asks about.
    shown
        `sha256` of all images in earlier parts.

    Raises
    ------
    Impossible
        Nothing says which flask or pair the images are from.
    UsageError
        The set has no such pair, cell line or flasks.
    """
    fresh = tuple(c for c in offered if c.sha256 not in shown)
    if kind == "same-type":
        return _same_type(value, tuple(offered), fresh)
    if kind == "across":
        return _across(value, tuple(offered), fresh, rng)
    what = "cells" if kind == "within" else "whole frames"
    return _of_a_pair(what, value, tuple(offered), fresh)


def _of_a_pair(
    what: str, value: str, offered: tuple[Candidate, ...], fresh: tuple[Candidate, ...]
) -> list[Choice]:
    pairs = sorted({c.pair for c in offered} - {""})
    if value == "all" or (not pairs and not value):
        note = "Drawn from the whole set" + ("" if value else ": no flask pair is known") + "."
        flasks = (("flask", _flask),) if all(map(_flask, offered)) else ()
        apart = (*flasks, *_fields(offered))
        title = f"{what} of all flasks"
        return [Choice(title, _cell_line, offered, fresh, apart, notes=(note,))]
    _must_be("pair", value, pairs)
    made = []
    for pair in [value] if value else pairs:
        mine, new = _only(offered, pair={pair}), _only(fresh, pair={pair})
        made.append(Choice(f"{what} of flask pair {pair}", _cell_line, mine, new, _fields(mine)))
    return _largest_first(made)


def _same_type(
    value: str, offered: tuple[Candidate, ...], fresh: tuple[Candidate, ...]
) -> list[Choice]:
    made = []
    for line, two in _two_flasks(value, offered):
        mine = tuple(c for c in _only(offered, flask={*two}) if c.cell_line == line)
        new = tuple(c for c in _only(fresh, flask={*two}) if c.cell_line == line)
        made.append(Choice(f"cells of two flasks of {line}", _flask, mine, new, _fields(mine)))
    return _largest_first(made)


def _two_flasks(value: str, offered: Sequence[Candidate]) -> list[tuple[str, Flasks]]:
    """Each cell line with each two of its flasks that the value allows."""
    lines = sorted({c.cell_line for c in offered})
    flasks = {n: sorted({c.flask for c in offered if c.cell_line == n} - {""}) for n in lines}
    twos = [(n, two) for n in lines for two in itertools.combinations(flasks[n], 2)]
    if not twos:
        raise Impossible("same-type needs two flasks of one cell line, by the column flask", True)
    if "+" in value:
        twos = [(n, two) for n, two in twos if sorted(value.split("+")) == sorted(two)]
    elif value:
        _must_be("cell line", value, lines)
        twos = [(n, two) for n, two in twos if n == value]
    if not twos:
        raise UsageError(f"--parts: '{value}' does not give two flasks of one cell line")
    return twos


def _across(
    value: str,
    offered: tuple[Candidate, ...],
    fresh: tuple[Candidate, ...],
    rng: np.random.Generator,
) -> list[Choice]:
    """The pair that is asked for is one of which earlier parts show least."""
    by: Literal["pair", "flask"] = "pair" if any(c.pair for c in offered) else "flask"
    novel = _one_pair(offered) if by == "pair" else _one_flask_each(offered)
    names = {name for group in novel for name in group}
    if len(novel) < 2:
        raise Impossible("across needs two flask pairs, by the column pair or flask", True)
    _must_be(by, value, sorted(names))
    unseen = {c.sha256 for c in fresh}
    seen = Counter(getattr(c, by) for c in offered if c.sha256 not in unseen)
    drawn = [novel[i] for i in rng.permutation(len(novel)) if not value or value in novel[i]]
    made = []
    shown = {group: sum(seen[name] for name in group) for group in drawn}
    for group in sorted(drawn, key=shown.__getitem__):
        told, asked = _only(offered, **{by: names - {*group}}), _only(fresh, **{by: {*group}})
        notes = _about_novel(by, group, told, shown[group])
        title = "cells of a flask pair that is not among the labelled ones"
        made.append(Choice(title, _cell_line, told, asked, disjoint=by, notes=notes))
    return made


def _about_novel(
    by: str, group: tuple[str, ...], told: Sequence[Candidate], n_shown: int
) -> tuple[str, ...]:
    """What to note of a part that asks about these flasks or this pair."""
    n_told = len({getattr(c, by) for c in told})
    asked = f"Asked for: {by} {' and '.join(group)}; labelled: {n_told} other {by}(s)."
    known = f"Earlier parts show images of that {by} too: it is not quite unknown."
    return (asked, known) if n_shown else (asked,)


def _one_pair(offered: Sequence[Candidate]) -> list[tuple[str, ...]]:
    return [(pair,) for pair in sorted({c.pair for c in offered} - {""})]


def _one_flask_each(offered: Sequence[Candidate]) -> list[tuple[str, ...]]:
    """One flask of each cell line, in every combination that leaves another of each."""
    lines = sorted({c.cell_line for c in offered})
    flasks = [sorted({c.flask for c in offered if c.cell_line == n} - {""}) for n in lines]
    return list(itertools.product(*flasks)) if all(len(some) > 1 for some in flasks) else []


def _cell_line(c: Candidate) -> str:
    return c.cell_line


def _flask(c: Candidate) -> str:
    return c.flask


def _unit(c: Candidate) -> str:
    return c.unit


def _only(pool: Sequence[Candidate], **wanted: set[str]) -> tuple[Candidate, ...]:
    return tuple(c for c in pool if all(getattr(c, k) in some for k, some in wanted.items()))


def _must_be(what: str, value: str, known: list[str]) -> None:
    if value and value not in known:
        listed = ", ".join(known) or "none"
        raise UsageError(f"--parts: {what} '{value}' is not in the set, which has {listed}")


def _largest_first(made: list[Choice]) -> list[Choice]:
    return sorted(made, key=lambda choice: -min(free for _, _, free, _ in choice.counts()))


def _fields(pool: Sequence[Candidate]) -> tuple[tuple[str, Name], ...]:
    return (("field" if all(c.field for c in pool) else "image", _unit),)
