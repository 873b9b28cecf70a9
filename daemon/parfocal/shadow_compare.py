"""What the shadow model said in the live service, beside what was published: by journal alone."""

import sqlite3
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from parfocal.advice import HALF_WIDTH
from parfocal.card import ClassifierCard
from parfocal.replay_compare import Comparing, Comparison, write_cells, write_summary, written
from parfocal.replay_images import JOURNAL, ReplayError, Results, opened
from parfocal.shadow import SENTENCES
from parfocal.types import FlaskVerdict, FrameResult, Header
from parfocal.verdict import Yardstick

UNRECORDED = "unrecorded"
MISSED: dict[str, str] = {
    **{str(why): text for why, text in SENTENCES.items()},
    UNRECORDED: "they still wait, or the service was killed first, or ran without the shadow",
}


class ShadowComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow model beside the active one.

    `asked` is what `model.shadow` said, `model` and `sha256` the bundle that answered last under
    that name, whose answers are compared. Of the `n_images` that were scored since the shadow's
    first one, it answered `n_answered` and `missed` the others, by reason; `n_other` were answered
    or missed by another bundle. Images whose file was rewritten count once, as last scored.
    """

    asked: str
    model: str
    sha256: str
    since_at: str
    n_images: int
    n_answered: int
    n_other: int
    missed: dict[str, int]
    comparison: Comparison


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A shadow as the journal knows it."""

    name: str
    sha256: str
    card: ClassifierCard
    first_seq: int


def compare_shadow(
    source: Path, shadow: str | None = None, out: Path | None = None, half_width: float = HALF_WIDTH
) -> ShadowComparison:
    """The comparison that a journal holds; with `out` it is written there, with all cells.

    Parameters
    ----------
    source : Path
        A state folder or a journal, which is only read.
    shadow : str, optional
        The name under which the shadow was configured; None means the last one.
    out : Path, optional
    half_width : float
        As `verdict.half_width`, for the advice of the shadow's totals.

    Raises
    ------
    ReplayError
        There is no journal, or no answer of a shadow in it.
    OutputError
        A file cannot be written.
    """
    journal = source / JOURNAL if source.is_dir() else source
    with closing(opened(journal)) as db, closing(Results(journal)) as results:
        try:
            return _compared(db, results, _asked(db, journal, shadow), out, half_width)
        except sqlite3.Error as error:
            raise ReplayError(f"the journal {journal} cannot be read: {error}") from error


def _asked(db: sqlite3.Connection, journal: Path, shadow: str | None) -> _Asked:
    (known,) = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'shadow'").fetchone()
    names = [name for (name,) in db.execute(
        "SELECT asked FROM shadow GROUP BY asked ORDER BY max(seq) DESC"
    )] if known else []  # fmt: skip
    if not names:
        raise ReplayError(
            f"{journal} holds nothing of a shadow model: set model.shadow, and let images come"
        )
    name = shadow or names[0]
    row = db.execute(
        "SELECT sha256, card, (SELECT min(seq) FROM shadow WHERE asked = ?1) FROM shadow "
        "JOIN shadow_model ON sha256 = model WHERE asked = ?1 ORDER BY seq DESC LIMIT 1",
        (name,),
    ).fetchone()
    if row is None:
        text = f"{journal} holds no answer of a shadow '{name}'"
        if name not in names:
            raise ReplayError(f"{text}: it knows {', '.join(names)}")
        told = ", ".join(f"{n} {why}" for why, n in _missed(db, name).items())
        raise ReplayError(f"{text}, which missed every image ({told}): see the log, and `check`")
    return _Asked(name, row[0], msgspec.json.decode(row[1], type=ClassifierCard), row[2])


def _missed(db: sqlite3.Connection, name: str) -> dict[str, int]:
    return dict(
        db.execute(
            "SELECT missed, count(*) FROM shadow WHERE asked = ? AND missed IS NOT NULL "
            "GROUP BY missed ORDER BY 2 DESC",
            (name,),
        ).fetchall()
    )


def _compared(
    db: sqlite3.Connection, results: Results, asked: _Asked, out: Path | None, half_width: float
) -> ShadowComparison:
    images = list(_images(db, asked))
    answered = {one.seq: one.shadow_seq for one in images if one.sha256 == asked.sha256}
    missed = Counter(one.missed for one in images if one.missed)
    comparing, pairs = Comparing(), _pairs(db, results, answered)
    if out is None:
        for old, new in pairs:
            deque(comparing.add(old, new), maxlen=0)
    else:
        with written(out):
            out.mkdir(parents=True, exist_ok=True)
            write_cells(comparing, pairs, out)
    yard = Yardstick.of(asked.card, asked.sha256, half_width)
    verdicts = results.verdicts()
    told = ShadowComparison(
        asked=asked.name,
        model=f"{asked.card.name} {asked.card.version}",
        sha256=asked.sha256,
        since_at=_published_at(db, asked.first_seq),
        n_images=len(images),
        n_answered=len(answered),
        n_other=len(images) - len(answered) - missed.total(),
        missed=dict(missed.most_common()),
        comparison=comparing.comparison(verdicts, _verdicts(comparing, verdicts, yard)),
    )
    if out is not None:
        with written(out):
            write_summary(told, out)
    return told


@dataclass(frozen=True, slots=True)
class _Image:
    """A scored image as it is now: its message, and the shadow's row, answer or reason."""

    seq: int
    shadow_seq: int | None
    sha256: str | None
    missed: str | None


def _images(db: sqlite3.Connection, asked: _Asked) -> Iterator[_Image]:
    """Images first scored since the shadow was there.

    A frame that was assigned to a flask later has a newer message than the shadow's row, so they
    are joined by path and bytes.
    """
    rows = db.execute(
        "WITH told AS (SELECT seq, json_extract(CAST(body AS TEXT), '$.image.path') AS path, "
        "json_extract(CAST(body AS TEXT), '$.image.sha256') AS sha256 FROM message "
        "WHERE topic LIKE 'frame/%') "
        "SELECT file.seq, min(told.seq) AS first_seq, max(shadow.seq) FROM told "
        "JOIN file ON file.path = told.path AND file.sha256 = told.sha256 "
        "LEFT JOIN shadow ON shadow.seq = told.seq WHERE file.seq IS NOT NULL "
        "GROUP BY file.id HAVING first_seq >= ? ORDER BY file.id",
        (asked.first_seq,),
    )
    for seq, _, shadow_seq in rows.fetchall():
        if shadow_seq is None:
            yield _Image(seq, None, None, UNRECORDED)
            continue
        name, sha256, missed = db.execute(
            "SELECT asked, model, missed FROM shadow WHERE seq = ?", (shadow_seq,)
        ).fetchone()
        yield _Image(seq, shadow_seq, sha256, missed if name == asked.name else None)


def _pairs(
    db: sqlite3.Connection, results: Results, answered: dict[int, int | None]
) -> Iterator[tuple[FrameResult, FrameResult]]:
    """What was published and what the shadow said, under the flask that the image has now."""
    for seq, shadow_seq in answered.items():
        (body,) = db.execute("SELECT body FROM shadow WHERE seq = ?", (shadow_seq,)).fetchone()
        old, new = results.frame(seq), msgspec.json.decode(body, type=FrameResult)
        yield old, msgspec.structs.replace(new, flask=old.flask)


def _verdicts(
    comparing: Comparing, published: dict[str, FlaskVerdict], yard: Yardstick
) -> dict[str, FlaskVerdict]:
    """What the shadow's totals would say of each flask that has them."""
    return {
        session: count.new.against(published[session].flask, yard)
        for session, count in comparing.flasks.items()
        if session in published
    }


def _published_at(db: sqlite3.Connection, seq: int) -> str:
    (header,) = db.execute("SELECT header FROM message WHERE seq = ?", (seq,)).fetchone()
    return msgspec.json.decode(header, type=Header).published_at
