"""The images of each part, drawn at random; what is asked in one part is shown in no other."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from parfocal_training.errors import DataError
from parfocal_training.survey.apart import apart
from parfocal_training.survey.candidates import Candidate
from parfocal_training.survey.choice import Choice, Impossible, Size
from parfocal_training.survey.choices import choices_of
from parfocal_training.survey.key import Kind, Role, SheetPart, Shown
from parfocal_training.survey.wanted import Wanted

Pools = Mapping[Kind, tuple[Candidate, ...]]
Sizes = Mapping[Kind, Size]


def draw_parts(
    wanted: Sequence[Wanted], strict: bool, pools: Pools, sizes: Sizes, seed: int
) -> tuple[tuple[SheetPart, ...], list[str]]:
    """The parts, and why others were left out; `strict`: none may be for want of metadata.

    Raises
    ------
    DataError
        Every part that cannot be drawn and may not be left out.
    """
    rng = np.random.default_rng(seed)
    parts: list[SheetPart] = []
    left_out: list[str] = []
    faults: list[str] = []
    for kind, value in wanted:
        try:
            if not pools[kind]:
                raise Impossible("frames needs whole frames: give --frames", metadata=True)
            number = len(parts) + 1
            parts.append(draw_part(number, (kind, value), pools[kind], sizes[kind], parts, rng))
        except Impossible as reason:
            (left_out if reason.metadata and not strict else faults).append(str(reason))
    if faults or not parts:
        raise DataError("the survey cannot be drawn: " + ". ".join(faults or left_out))
    return tuple(parts), left_out


def draw_part(
    number: int,
    wanted: Wanted,
    pool: Sequence[Candidate],
    size: Size,
    before: Sequence[SheetPart],
    rng: np.random.Generator,
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
    choices = choices_of(kind, value, offered, shown, rng)
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


def _drawn(
    number: int,
    kind: Kind,
    choice: Choice,
    size: Size,
    before: Sequence[SheetPart],
    rng: np.random.Generator,
) -> SheetPart:
    first, second = choice.classes
    by, images = _images(choice, size, rng)
    units = [{i.unit for i in images if i.role == role} for role in ("labelled", "unlabelled")]
    shared = units[0] & units[1]
    return SheetPart(
        number=number,
        kind=kind,
        title=choice.title[0].upper() + choice.title[1:],
        classes=(first, second),
        separated_by=by,
        shared=tuple(sorted(shared)),
        notes=(*choice.notes, *_remarks(by, shared, images, before)),
        images=images,
    )


def _images(choice: Choice, size: Size, rng: np.random.Generator) -> tuple[str, tuple[Shown, ...]]:
    """What separates the roles, and the numbered images of both."""
    ask = dict.fromkeys(choice.classes, size.unlabelled // 2)
    ask[choice.classes[int(rng.integers(2))]] += size.unlabelled % 2
    by, told, free = apart(choice, size.labelled, ask, rng)
    asked = [c for name in ask for c in _some(choice, free, name, ask[name], rng)]
    hidden = {c.sha256 for c in asked}
    told = [c for c in told if c.sha256 not in hidden]
    labelled = [_some(choice, told, name, size.labelled, rng) for name in ask]
    mixed = [asked[at] for at in rng.permutation(len(asked))]
    examples = (image for some in labelled for image in _numbered("labelled", choice, some))
    return by, (*examples, *_numbered("unlabelled", choice, mixed))


def _some(
    choice: Choice, pool: Sequence[Candidate], name: str, n: int, rng: np.random.Generator
) -> list[Candidate]:
    mine = [c for c in pool if choice.truth(c) == name]
    return [mine[at] for at in rng.permutation(len(mine))[:n]]


def _numbered(role: Role, choice: Choice, images: Sequence[Candidate]) -> list[Shown]:
    return [
        Shown(
            role=role,
            number=number,
            truth=choice.truth(c),
            sha256=c.sha256,
            file_sha256=c.file_sha256,
            path=c.path,
            unit=c.unit,
            at=c.at,
        )
        for number, c in enumerate(images, 1)
    ]


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
