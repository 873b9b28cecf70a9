"""Flask sessions of one journal in another, where their images are scored again."""

from collections.abc import Iterable

from parfocal.journal import Journal


def copy_sessions(journal: Journal, rows: Iterable[dict[str, object]]) -> None:
    """Put flask sessions of another journal into this one, open until their images are through."""
    columns = _columns(journal)
    with journal.transaction():
        for row in rows:
            known = {name: value for name, value in row.items() if name in columns}
            known |= {name: None for name in columns if name.startswith("closed_")}
            places = ", ".join("?" * len(known))
            journal.db.execute(
                f"INSERT INTO flask_session ({', '.join(known)}) VALUES ({places})",
                tuple(known.values()),
            )


def restore(journal: Journal, rows: Iterable[dict[str, object]]) -> None:
    """Let sessions say what these rows say, for example that they are closed."""
    columns = _columns(journal)
    with journal.transaction():
        for row in rows:
            known = {name: value for name, value in row.items() if name in columns}
            places = ", ".join(f"{name} = ?" for name in known)
            journal.db.execute(
                f"UPDATE flask_session SET {places} WHERE session = ?",
                (*known.values(), row["session"]),
            )


def _columns(journal: Journal) -> set[str]:
    """Columns of the table of sessions; an older journal lacks some, whose rows then do too."""
    return {str(row[1]) for row in journal.db.execute("PRAGMA table_info(flask_session)")}
