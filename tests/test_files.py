"""The table of files: one row a path, and what its numbers mean after every change."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from parfocal.files import FileState, FileTable, Known, Signature
from parfocal.journal import Journal
from parfocal.reasons import FileReason
from parfocal.sessions import SessionError, Sessions
from parfocal.sidecar import DeclaredFlask

A, B = "a" * 64, "b" * 64


class Body(msgspec.Struct):
    """As much of a frame as the table looks at."""

    flask: dict[str, str] | None


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.sqlite", "rig")) as made:
        yield made


@pytest.fixture
def files(journal: Journal) -> FileTable:
    return FileTable(journal)


def signature(size: int = 1, dev: int = 1) -> Signature:
    return Signature(dev, 2, size, 3)


def scored(files: FileTable, known: Known, sha256: str, session: str | None = None) -> Known:
    with files.journal.transaction():
        flask = {"session": session} if session else None
        message = files.journal.append("frame", Body(flask), b"preview " + sha256[:1].encode())
        return files.done(files.claim(known), message.seq, sha256, session)


@pytest.mark.parametrize("number", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_inodes_and_devices_of_64_bits_fit(number: int, files: FileTable) -> None:
    status = os.stat_result((0o100644, number, number, 1, 0, 0, 5, 0, 0, 0), {"st_mtime_ns": 3})
    seen = Signature.of(status)
    assert files.add("/x.tif", seen, None).signature == seen


def test_another_device_number_is_no_change_as_shares_get_one_at_every_mount() -> None:
    assert signature(dev=1) == signature(dev=2)
    assert signature(size=1) != signature(size=2)


def test_a_file_goes_from_seen_to_done(files: FileTable) -> None:
    known = files.add("/x.tif", signature(), "s")
    assert (known.state, known.tries, known.revision) == (FileState.SETTLING, 0, 0)
    known = files.claim(known)
    assert (known.state, known.tries) == (FileState.CLAIMED, 1)
    known = files.wait(known, 9.5, FileReason.INCOMPLETE, "short")
    assert (known.state, known.next_try_s, known.reason) == (FileState.WAITING, 9.5, "incomplete")
    known = scored(files, known, A, "s")
    assert (known.state, known.seq, known.sha256, known.revision) == (FileState.DONE, 1, A, 1)
    assert (known.reason, known.next_try_s) == (None, None)
    assert files.counts() == {"done": 1}


def test_new_content_starts_with_fresh_tries_and_the_flask_of_now(files: FileTable) -> None:
    known = scored(files, files.add("/x.tif", signature(), "s"), A, "s")
    again = files.changed(known, signature(2), "t")
    assert (again.state, again.tries, again.session, again.revision) == ("settling", 0, "t", 1)
    done = scored(files, again, B, "t")
    assert (done.revision, done.seq, done.session) == (2, 2, "t")


def test_content_that_changes_before_it_was_scored_keeps_its_flask(files: FileTable) -> None:
    known = files.add("/x.tif", signature(), "s")
    assert files.changed(known, signature(2), "t").session == "s"


def test_a_touch_keeps_result_and_flask(files: FileTable) -> None:
    known = scored(files, files.add("/x.tif", signature(), "s"), A, "s")
    touched = files.unchanged(files.claim(files.changed(known, signature(2), "t")))
    assert (touched.state, touched.seq, touched.sha256) == (FileState.DONE, 1, A)
    assert (touched.session, touched.revision) == ("s", 1)
    without = scored(files, files.add("/y.tif", signature(), None), B, None)
    again = files.unchanged(files.claim(files.changed(without, signature(2), "t")))
    assert again.session is None


def test_refused_content_has_no_result_of_the_content_before_it(
    files: FileTable, journal: Journal
) -> None:
    known = scored(files, files.add("/x.tif", signature(), None), A)
    assert journal.thumbnail(A) == b"preview a"
    changed = files.claim(files.changed(known, signature(2), None))
    refused = files.quarantine(changed, FileReason.NO_SCALE, "none", B)
    assert (refused.seq, refused.sha256, refused.revision) == (None, B, 1)
    assert journal.thumbnail(B) is None
    back = files.quarantine(scored(files, refused, A), FileReason.UNREADABLE, "?", A)
    assert back.seq == 2  # the same bytes: the result stands


def test_a_duplicate_points_at_the_scored_file_of_its_session(files: FileTable) -> None:
    first = scored(files, files.add("/x.tif", signature(), "s"), A, "s")
    other = files.add("/y.tif", signature(), "s")
    assert files.same_bytes(A, "s", other.id) == first.id
    assert files.same_bytes(A, "s", first.id) is None
    assert files.same_bytes(A, "t", other.id) is None
    assert files.same_bytes(B, "s", other.id) is None
    copy = files.duplicate(other, first.id, A)
    assert (copy.state, copy.reason) == (FileState.QUARANTINED, "duplicate")
    assert files.same_bytes(A, "s", 99) == first.id  # a copy is never the original


def test_the_unfinished_come_in_the_order_they_were_first_seen(files: FileTable) -> None:
    names = ["/ü.tif", "/b\n.tif", "/a'; DROP TABLE file; --.tif", "/😀.tif"]
    for name in names:
        files.add(name, signature(), None)
    files.claim(files.at(names[0]))
    assert [known.path for known in files.unfinished(frozenset())] == names
    scored(files, files.at(names[0]), A)
    files.quarantine(files.at(names[1]), FileReason.CORRUPT, "?", B)
    files.quarantine(files.at(names[2]), FileReason.NO_SCALE, "none", B)
    left = files.unfinished(frozenset({FileReason.NO_SCALE, FileReason.UNREADABLE}))
    assert [known.path for known in left] == names[2:]


def test_a_file_never_seen_is_not_found(files: FileTable) -> None:
    known = files.add("/x.tif", signature(), None)
    assert (files.find("/x.tif"), files.find("/y.tif")) == (known, None)


# ------------------------------------------------------------------------------------- sessions


@pytest.fixture
def sessions(journal: Journal) -> Sessions:
    return Sessions(journal)


def flask(name: str, **more: object) -> DeclaredFlask:
    return msgspec.convert({"id": name, **more}, DeclaredFlask)


def test_one_flask_is_on_the_stage_at_a_time(sessions: Sessions) -> None:
    assert sessions.current() is None
    first, nothing = sessions.open(flask("A", cell_line="HeLa", passage=3, note="n"))
    assert nothing is None and sessions.current() == first
    assert (first.id, first.cell_line, first.passage, first.note) == ("A", "HeLa", 3, "n")
    second, closed = sessions.open(flask("B"))
    assert closed is not None and closed.session == first.session and closed.closed_at
    assert sessions.current() == second
    assert sessions.close().session == second.session
    assert sessions.current() is None
    assert sessions.get(first.session) == closed


def test_closing_an_empty_stage_is_refused(sessions: Sessions) -> None:
    with pytest.raises(SessionError, match="no flask is open"):
        sessions.close()


def test_the_same_id_opened_again_is_another_session(sessions: Sessions) -> None:
    first, _ = sessions.open(flask("A"))
    second, _ = sessions.open(flask("A"))
    assert first.session != second.session


def test_a_declared_flask_is_one_session_and_not_on_the_stage(sessions: Sessions) -> None:
    first = sessions.declared(flask("A", passage=3))
    assert sessions.declared(flask("A", passage=3)) == first
    assert sessions.current() is None
    opened, _ = sessions.open(flask("A", passage=3))
    assert opened.session != first.session
    assert sessions.declared(flask("A", passage=3)) == first


@pytest.mark.parametrize("more", [{"passage": 4}, {}, {"passage": 3, "cell_line": "HeLa"}])
def test_the_same_id_with_other_facts_is_another_declared_flask(
    more: dict[str, object], sessions: Sessions
) -> None:
    first = sessions.declared(flask("A", passage=3))
    other = sessions.declared(flask("A", **more))
    assert other.session != first.session
    assert (other.passage, other.cell_line) == (more.get("passage"), more.get("cell_line"))
