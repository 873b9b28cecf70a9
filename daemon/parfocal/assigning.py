"""Scored files without a flask, taken into a session afterwards."""

import msgspec

from parfocal.files import FileState, FileTable
from parfocal.journal import Journal, Message
from parfocal.sessions import SessionError
from parfocal.types import FlaskRef, FrameResult


def assign(journal: Journal, path: str, flask: FlaskRef) -> tuple[Message, FrameResult]:
    """The frame told again with its flask, as the next revision; call it in a transaction.

    What was told before stays in the log. Nothing is looked at again: cells are the same.

    Raises
    ------
    SessionError
        The file is unknown, not scored, has a flask already, or is a copy of one that counts.
    """
    files = FileTable(journal)
    if journal.db.execute("SELECT 1 FROM file WHERE path = ?", (path,)).fetchone() is None:
        raise SessionError(f"{path} was never seen: give the path under the watched folder")
    known = files.at(path)
    if known.seq is None or known.state is not FileState.DONE:
        raise SessionError(f"{path} is {known.state}, not scored: assign it when it is")
    if known.session is not None:
        raise SessionError(f"{path} belongs to a flask already (session {known.session})")
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
    journal.db.execute(
        "UPDATE file SET seq = ?, session = ?, revision = revision + 1 WHERE id = ?",
        (message.seq, flask.session, known.id),
    )
    return message, result
