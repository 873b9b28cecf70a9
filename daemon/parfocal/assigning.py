"""Scored files taken into a session afterwards: those without a flask, and from another's."""

import msgspec

from parfocal.files import FileState, FileTable
from parfocal.journal import Journal, Message
from parfocal.sessions import SessionError
from parfocal.types import FlaskRef, FrameResult


def assign(
    journal: Journal, path: str, flask: FlaskRef, move: bool
) -> tuple[Message, FrameResult, str | None]:
    """The frame told again with its flask, as the next revision; call it in a transaction.

    Also returns the session that it had before. What was told before stays in the log. Nothing is
    looked at again: cells are the same.

    Raises
    ------
    SessionError
        The file is unknown, not scored, of this flask already or of another without `move`, or is a
        copy of one that counts.
    """
    files = FileTable(journal)
    if journal.db.execute("SELECT 1 FROM file WHERE path = ?", (path,)).fetchone() is None:
        raise SessionError(f"{path} was never seen: give the path under the watched folder")
    known = files.at(path)
    if known.seq is None or known.state is not FileState.DONE:
        raise SessionError(f"{path} is {known.state}, not scored: assign it when it is")
    if known.session == flask.session:
        raise SessionError(f"{path} belongs to flask {flask.id} already")
    if known.session is not None and not move:
        raise SessionError(
            f"{path} belongs to a flask already (session {known.session}): --move takes it away"
        )
    if known.sha256 and files.same_bytes(known.sha256, flask.session, known.id):
        raise SessionError(f"{path} has the bytes of an image that counts for {flask.id} already")
    body, blob = journal.db.execute(
        "SELECT body, blob FROM message WHERE seq = ?", (known.seq,)
    ).fetchone()
    told = msgspec.json.decode(bytes(body), type=FrameResult)
    result = msgspec.structs.replace(told, flask=flask, revision=known.revision + 1)
    message = journal.append("frame", result, blob)
    journal.db.execute(
        "INSERT INTO cell SELECT ?, id, ?, label, probability, novelty, accepted, reason, x_px, "
        "y_px, area_um2, lca, phenotype FROM cell WHERE seq = ?",
        (message.seq, flask.session, known.seq),
    )
    journal.db.execute("UPDATE cell SET session = NULL WHERE seq = ?", (known.seq,))
    journal.db.execute(
        "UPDATE file SET seq = ?, session = ?, revision = revision + 1 WHERE id = ?",
        (message.seq, flask.session, known.id),
    )
    return message, result, known.session
