"""Expert survey: which images of a data set go where on the sheets, and the key to them.

Four parts as in the Methods of Yao, Rochman and Sun (2019): cells of one flask pair (Fig. 2b), two
flasks of one cell line (2f), an unknown flask pair after several known ones (3e), and whole frames
of one flask pair (3f). Nothing here reads or draws pixels.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import numpy as np

from parfocal_training.errors import DataError, UsageError

Kind = Literal["within", "same-type", "across", "frames"]
Role = Literal["labelled", "unlabelled"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TRIES = 300
"""Random orders in which fields are tried before labelled and unlabelled images share some."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One image that may be shown; `at` is its place in the crop set or the list of frames.

    `sha256` is that of the raw crop or of the frame's file, `file_sha256` that of the image file
    it comes from. `field` is empty where nobody knows which cells were neighbours.
    """

    at: int
    cell_line: str
    flask: str
    pair: str
    field: str
    path: str
    sha256: str
    file_sha256: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One image on the sheet; labelled ones are numbered within their class.

    `unit` is the field it comes from, or its image file where fields are not known.
    """

    role: Role
    number: int
    truth: str
    sha256: str
    file_sha256: str
    path: str
    unit: str
    at: int


class SheetPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the survey, with the truth.

    `separated_by` is what labelled and unlabelled images never share (`none`: they share what
    `shared` lists); `notes` say what a reader of the scores must know.
    """

    number: int
    kind: Kind
    title: str
    classes: tuple[str, str]
    separated_by: str
    shared: tuple[str, ...]
    notes: tuple[str, ...]
    images: tuple[Shown, ...]

    def of(self, role: Role, truth: str | None = None) -> tuple[Shown, ...]:
        """The images of a role (and class) in the order of their numbers."""
        mine = [i for i in self.images if i.role == role and truth in (None, i.truth)]
        return tuple(sorted(mine, key=lambda image: image.number))


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `key.json`; `um_per_px` and `flat_field_um` are those of the crops."""

    schema: Literal["parfocal.survey/1"] = "parfocal.survey/1"
    code_version: str
    data: str
    frames: str
    seed: int
    shown: Literal["normalized", "raw"]
    um_per_px: float
    flat_field_um: float
    parts: tuple[SheetPart, ...]

    @property
    def sheet(self) -> str:
        """A short name of exactly these images in this order; answers carry it."""
        shown = [(i.role, i.number, i.truth, i.sha256) for p in self.parts for i in p.images]
        return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Size:
    """Images of a part: `labelled` of each class, `unlabelled` in all."""

    labelled: int
    unlabelled: int


Rng = np.random.Generator
Name = Callable[[Candidate], str]


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


def wanted_parts(text: str) -> tuple[tuple[Kind, str], ...]:
    """Kinds and what follows their colon, from `within:1,same-type,across,frames:all`.

    Raises
    ------
    UsageError
        An unknown kind.
    """
    out: list[tuple[Kind, str]] = []
    for one in text.split(","):
        name, _, value = (piece.strip() for piece in one.partition(":"))
        kind = next((k for k in KINDS if k == name), None)
        if kind is None:
            raise UsageError(
                f"--parts takes a number from 1 to {len(KINDS)}, or a list of {', '.join(KINDS)}, "
                f"each with :VALUE if you like; got '{one.strip()}'"
            )
        out.append((kind, value))
    return tuple(out)


def draw_part(
    number: int,
    wanted: tuple[Kind, str],
    pool: Sequence[Candidate],
    size: Size,
    before: Sequence[SheetPart],
    rng: Rng,
) -> SheetPart:
    """The images of one part; what is asked for in one part is shown in no other.

    Raises
    ------
    Impossible
        Too few images, or nothing says which flask or pair they are from.
    """
    kind, value = wanted
    asked = {image.sha256 for part in before for image in part.of("unlabelled")}
    shown = {image.sha256 for part in before for image in part.images}
    once = {c.sha256: c for c in reversed(pool)}.values()  # a copy would give the answer away
    offered = [c for c in reversed(once) if c.sha256 not in asked]
    choices = _choices(kind, value, offered, shown, rng)
    for choice in choices:
        if not choice.lacks(size):
            return _drawn(number, kind, choice, size, before, rng)
    raise Impossible(_too_few(kind, value, choices, size))


def _too_few(kind: Kind, value: str, choices: list[Choice], size: Size) -> str:
    best = max(choices, key=lambda c: most.labelled if (most := c.most(size)) else 0)
    most, ways = best.most(size), []
    if most:
        tail = "-frames" if kind == "frames" else ""
        ways.append(f"give --labelled{tail} {most.labelled} --unlabelled{tail} {most.unlabelled}")
    if kind in ("within", "frames") and value != "all" and len(choices) > 1:
        ways.append(f"ask for {kind}:all, which draws from all pairs together")
    return (
        f"{kind}: too few images for {size.labelled} + {size.labelled} labelled and "
        f"{size.unlabelled} unlabelled ones even of {best.title}: {best.lacks(size)}; "
        + ", or ".join([*ways, "add images"])
    )


def _choices(
    kind: Kind, value: str, offered: Sequence[Candidate], shown: set[str], rng: Rng
) -> list[Choice]:
    """Every way to make a part, the best first."""
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
    made = []
    for line, two in twos:
        mine = tuple(c for c in _only(offered, flask={*two}) if c.cell_line == line)
        new = tuple(c for c in _only(fresh, flask={*two}) if c.cell_line == line)
        made.append(Choice(f"cells of two flasks of {line}", _flask, mine, new, _fields(mine)))
    return _largest_first(made)


def _across(
    value: str, offered: tuple[Candidate, ...], fresh: tuple[Candidate, ...], rng: Rng
) -> list[Choice]:
    """The pair that is asked for is one of which earlier parts show least."""
    by: Literal["pair", "flask"] = "pair" if any(c.pair for c in offered) else "flask"
    novel = _one_pair(offered) if by == "pair" else _one_flask_each(offered)
    names = {name for group in novel for name in group}
    if len(novel) < 2:
        raise Impossible("across needs two flask pairs, by the column pair or flask", True)
    _must_be(by, value, sorted(names))
    rest = {c.sha256 for c in offered} - {c.sha256 for c in fresh}
    seen = Counter(getattr(c, by) for c in offered if c.sha256 in rest)
    drawn = [novel[i] for i in rng.permutation(len(novel)) if not value or value in novel[i]]
    made = []
    for group in sorted(drawn, key=lambda group: sum(seen[name] for name in group)):
        told, asked = _only(offered, **{by: names - {*group}}), _only(fresh, **{by: {*group}})
        n_told = len({getattr(c, by) for c in told})
        notes = [f"Asked for: {by} {' and '.join(group)}; labelled: {n_told} other {by}(s)."]
        if sum(seen[name] for name in group):
            notes.append(f"Earlier parts show images of that {by} too: it is not quite unknown.")
        title = "cells of a flask pair that is not among the labelled ones"
        made.append(Choice(title, _cell_line, told, asked, disjoint=by, notes=tuple(notes)))
    return made


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
    return c.field or c.path


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


def _drawn(
    number: int,
    kind: Kind,
    choice: Choice,
    size: Size,
    before: Sequence[SheetPart],
    rng: Rng,
) -> SheetPart:
    first, second = choice.classes
    ask = dict.fromkeys(choice.classes, size.unlabelled // 2)
    ask[choice.classes[int(rng.integers(2))]] += size.unlabelled % 2
    by, told, free = _apart(choice, size.labelled, ask, rng)
    asked = [c for name in ask for c in _some(choice, free, name, ask[name], rng)]
    hidden = {c.sha256 for c in asked}
    told = [c for c in told if c.sha256 not in hidden]
    labelled = {name: _some(choice, told, name, size.labelled, rng) for name in ask}
    images = [
        *(_shown("labelled", i, c, n) for n in ask for i, c in enumerate(labelled[n], 1)),
        *(
            _shown("unlabelled", i, asked[at], choice.truth(asked[at]))
            for i, at in enumerate(rng.permutation(len(asked)), 1)
        ),
    ]
    shared = {_unit(c) for n in ask for c in labelled[n]} & {_unit(c) for c in asked}
    return SheetPart(
        number=number,
        kind=kind,
        title=choice.title[0].upper() + choice.title[1:],
        classes=(first, second),
        separated_by=by,
        shared=tuple(sorted(shared)),
        notes=(*choice.notes, *_remarks(by, shared, images, before)),
        images=tuple(images),
    )


def _apart(
    choice: Choice, labelled: int, ask: Mapping[str, int], rng: Rng
) -> tuple[str, list[Candidate], list[Candidate]]:
    """What separates the roles, and the images for labels and to be asked for that it leaves."""
    if choice.disjoint:
        return choice.disjoint, list(choice.labelled), list(choice.unlabelled)
    for name, unit in choice.apart:
        away = _units_to_ask(choice, unit, labelled, ask, rng)
        if away is not None:
            told = [c for c in choice.labelled if unit(c) not in away]
            return name, told, [c for c in choice.unlabelled if unit(c) in away]
    return "none", list(choice.labelled), list(choice.unlabelled)


Counts = Mapping[str, Counter[str]]
"""Of each unit: how many of each class."""


def _units_to_ask(
    choice: Choice, unit: Name, labelled: int, ask: Mapping[str, int], rng: Rng
) -> set[str] | None:
    """Units whose images are asked for, such that the others have enough labelled ones.

    They are as many as can be spared, up to half of all: answers about one field say little.
    """
    free, told = _counted(choice, unit, choice.unlabelled), _counted(choice, unit, choice.labelled)
    once = {name: Counter(dict.fromkeys(counts, 1)) for name, counts in free.items()}
    units = sum(once.values(), Counter[str]())
    for _ in range(TRIES):
        spare = sum(told.values(), Counter[str]())
        spare.subtract(dict.fromkeys(ask, labelled))
        order = [str(name) for name in rng.permutation(sorted(free))]
        away: set[str] = set()
        if _grown(away, order, free, ask, told, spare):
            half = {n: min(ask[n], units[n] // 2) for n in ask}
            _grown(away, order, once, half, told, spare)
            return away
    return None


def _counted(choice: Choice, unit: Name, images: Sequence[Candidate]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for c in images:
        counts.setdefault(unit(c), Counter())[choice.truth(c)] += 1
    return counts


def _grown(
    away: set[str],
    order: Sequence[str],
    size: Counts,
    goal: Mapping[str, int],
    told: Counts,
    spare: Counter[str],
) -> bool:
    """Take units in this order until the goal is met, as long as what they cost can be spared."""
    got = sum((size[name] for name in away), Counter[str]())
    for name in order:
        useful = any(size[name][n] and got[n] < goal[n] for n in goal)
        if name not in away and useful and all(told[name][n] <= spare[n] for n in goal):
            away.add(name)
            got.update(size[name])
            spare.subtract(told[name])
    return all(got[n] >= goal[n] for n in goal)


def _some(
    choice: Choice, pool: Sequence[Candidate], name: str, n: int, rng: Rng
) -> list[Candidate]:
    mine = [c for c in pool if choice.truth(c) == name]
    return [mine[at] for at in rng.permutation(len(mine))[:n]]


def _shown(role: Role, number: int, c: Candidate, truth: str) -> Shown:
    return Shown(
        role=role,
        number=number,
        truth=truth,
        sha256=c.sha256,
        file_sha256=c.file_sha256,
        path=c.path,
        unit=_unit(c),
        at=c.at,
    )


def _remarks(
    by: str, shared: set[str], images: Sequence[Shown], before: Sequence[SheetPart]
) -> Iterator[str]:
    if shared:
        yield f"Labelled and unlabelled images share {len(shared)} field(s) of view."
    if by == "image":
        yield "Fields of view are not known: neighbouring cells may be in both roles."
    told = {i.file_sha256 for part in before for i in part.of("labelled")}
    known = sum(i.file_sha256 in told for i in images if i.role == "unlabelled")
    if known:
        yield f"{known} image(s) asked for are from files that earlier parts show with labels."
