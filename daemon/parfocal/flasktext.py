"""What a flask session holds, how it ended and what it lacks, in words."""

from parfocal.types import ClosedBy, FlaskRef, FlaskVerdict, Fraction

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


def shares_of(verdict: FlaskVerdict) -> dict[str, Fraction]:
    """Shares corrected for the model's confusion where that is known, else as answered."""
    return verdict.corrected or verdict.composition


def shares_text(verdict: FlaskVerdict) -> str:
    """`HEK-293A 64% (45%-79%)  HT1080 36% (21%-55%)`."""
    shares = shares_of(verdict).items()
    return "  ".join(f"{name} {f.fraction:.0%} ({f.low:.0%}-{f.high:.0%})" for name, f in shares)


def amount_text(verdict: FlaskVerdict) -> str:
    """`60 cells/mm2 (45-75)  12% covered (9%-15%)`; empty where neither is known."""
    density, covered = verdict.density, verdict.confluence
    said = (
        f"{density.cells_per_mm2:.0f} cells/mm2 ({density.low:.0f}-{density.high:.0f})"
        if density
        else "",
        f"{covered.fraction:.0%} covered ({covered.low:.0%}-{covered.high:.0%})" if covered else "",
    )
    return "  ".join(filter(None, said))
