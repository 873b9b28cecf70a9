"""What became of the images of a replay, by its own journal."""

from contextlib import closing
from pathlib import Path

import msgspec

from parfocal.reasons import FileReason
from parfocal.replay_images import JOURNAL, Results, Source
from parfocal.replay_source import CHANGED
from parfocal.types import FlaskRef, Fraction
from parfocal.verdict import Totals

NO_FLASK = "-"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A file without a result; `changed`: it holds other bytes than those that were scored."""

    path: str
    reason: FileReason
    detail: str
    changed: bool


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """The images of one flask, or those without one; intervals take images as clusters."""

    flask: str
    n_images: int
    n_cells: int
    n_abstained: int
    n_rejected: int
    composition: dict[str, Fraction]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the images of a replay.

    `n_missing` of the refused are not there any more, `n_changed` hold other bytes now.
    `n_rewritten` images and `n_unscored` files of a journal could not be replayed at all.
    """

    finished: bool
    n_images: int
    n_scored: int
    n_missing: int
    n_changed: int
    n_rewritten: int
    n_unscored: int
    models: tuple[str, ...]
    detectors: tuple[str, ...]
    flasks: tuple[Scored, ...]
    refused: tuple[Refusal, ...]


def summary(source: Source, out: Path, finished: bool) -> Summary:
    """What the replay's own journal says became of the images."""
    totals: dict[str, Totals] = {}
    models, detectors = dict[str, None](), dict[str, None]()
    flasks: dict[str, FlaskRef] = {}
    with closing(Results(out / JOURNAL)) as results:
        for seq in results.seqs().values():
            result = results.frame(seq)
            session = result.flask.session if result.flask else ""
            if result.flask:
                flasks[session] = result.flask
            totals.setdefault(session, Totals()).add(result)
            models[f"{result.model.name} {result.model.version}"] = None
            detectors[result.model.detector] = None
        refused = tuple(
            Refusal(path=path, reason=FileReason(reason), detail=detail, changed=detail == CHANGED)
            for path, reason, detail in results.refused()
        )
    missing = (one.reason is FileReason.VANISHED and not one.changed for one in refused)
    return Summary(
        finished=finished,
        n_images=len(source.images),
        n_scored=sum(len(one.accepted) for one in totals.values()),
        n_missing=sum(missing),
        n_changed=sum(one.changed for one in refused),
        n_rewritten=source.n_rewritten,
        n_unscored=source.n_unscored,
        models=tuple(models),
        detectors=tuple(detectors),
        flasks=tuple(_scored(flasks.get(key), one) for key, one in totals.items()),
        refused=refused,
    )


def _scored(flask: FlaskRef | None, totals: Totals) -> Scored:
    verdict = totals.verdict(flask or FlaskRef(id=NO_FLASK, session=""))
    return Scored(
        flask=verdict.flask.id,
        n_images=verdict.n_frames,
        n_cells=verdict.n_cells,
        n_abstained=verdict.n_abstained,
        n_rejected=verdict.n_rejected,
        composition=verdict.composition,
    )
