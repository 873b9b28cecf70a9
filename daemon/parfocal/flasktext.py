"""How a flask session ended and what it lacks, in words."""

from parfocal.types import ClosedBy, FlaskRef

BY: dict[ClosedBy, str] = {
    "operator": "by the operator",
    "next flask": "by the next flask",
    "rule": "by rule, no frame came for long",
}


def closed_by_text(flask: FlaskRef) -> str:
    """`by rule, no frame came for long`; empty where that is not known."""
    return BY[flask.closed_by] if flask.closed_by else ""


def missing_text(flask: FlaskRef) -> str:
    """`cell line, passage`: what the rig requires and nobody declared; empty if nothing."""
    return ", ".join(name.replace("_", " ") for name in flask.missing or ())
