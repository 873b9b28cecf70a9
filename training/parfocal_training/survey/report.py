"""The report of a survey: parts, people, their agreement, the network, and experience."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from parfocal_training.report import Report, canvas
from parfocal_training.screen import percent
from parfocal_training.survey.answers import Person
from parfocal_training.survey.key import Key
from parfocal_training.survey.scores import PartScores, Score, experience, mean_accuracy

PAPER = {
    "within": "51.6 % (Fig. 2b)",
    "same-type": "figure only (2f): people did not tell the flasks apart",
    "across": "figure only (3e): below the network's, up to 80 %",
    "frames": "77 % (Fig. 3f)",
}
"""Mean of 20 people in Yao, Rochman and Sun (2019), as far as the text gives it."""


def paper_text(kind: str) -> str:
    """What people in the paper reached in a part of this kind, without where it says so."""
    return PAPER[kind].split(" (")[0]


def kappa_text(part: PartScores) -> str:
    """Fleiss' kappa of a part with two decimals; `-` where there is none."""
    found = part.agreement.kappa if part.agreement else None
    return "-" if found is None else f"{found:.2f}"


def report(
    key: Key,
    persons: Sequence[Person],
    parts: Sequence[PartScores],
    warnings: Sequence[str],
    model: Path | None,
) -> Report:
    """The page; `model` is the folder of the network that was asked, if one was."""
    page = Report(f"Expert survey {key.sheet}")
    source = " and ".join(filter(None, (key.data, key.frames and f"frames of {key.frames}")))
    page.paragraph(f"{len(persons)} people, {len(parts)} parts; images of {source}.")
    for warning in warnings:
        page.warning(warning)
    _parts(page, key, parts)
    _persons(page, persons, parts)
    if any(part.agreement for part in parts):
        _agreement(page, parts)
    if model:
        _network(page, persons, parts, model.name)
    _experience(page, persons, parts)
    return page


def _parts(page: Report, key: Key, parts: Sequence[PartScores]) -> None:
    page.heading("Parts")
    page.table(
        ("part", "people", "mean", "SD over people", "95 % interval", "fields", "in the paper"),
        [
            (
                f"{one.number} {one.kind}",
                len(one.persons),
                percent(one.mean),
                percent(one.sd),
                f"{percent(one.mean_low)} to {percent(one.mean_high)}",
                one.n_units,
                paper_text(one.kind),
            )
            for one in parts
        ],
        "Chance is 50 %.",
    )
    page.paragraph(
        "The interval is a bootstrap in which people and fields of view are drawn anew together; "
        "from few people or few fields it is too narrow. In the paper (Yao, Rochman and Sun 2019) "
        "20 people answered: " + "; ".join(f"{kind} {text}" for kind, text in PAPER.items()) + "."
    )
    page.bullets(
        [
            f"Part {part.number}: {part.title} ({' / '.join(part.classes)}). {' '.join(part.notes)}"
            for part in key.parts
        ]
    )


def _persons(page: Report, persons: Sequence[Person], parts: Sequence[PartScores]) -> None:
    page.heading("People")
    page.table(
        ("person", "years", *(f"part {part.number}" for part in parts), "mean"),
        [
            (
                person.name,
                "-" if person.years is None else f"{person.years:g}",
                *(_score_text(part.persons[i]) for part in parts),
                percent(mean_accuracy(parts, i)),
            )
            for i, person in enumerate(persons)
        ],
        "Right answers in % with Wilson's 95 % interval, images taken as independent.",
    )


def _score_text(one: Score) -> str:
    return f"{100 * one.accuracy:.0f} ({100 * one.low:.0f} to {100 * one.high:.0f}), n {one.n}"


def _agreement(page: Report, parts: Sequence[PartScores]) -> None:
    page.heading("Agreement between people")
    page.table(
        ("part", "Fleiss' kappa", "equal answers of two", "least", "most"),
        [
            (part.number, kappa_text(part), percent(a.mean), percent(a.least), percent(a.most))
            for part in parts
            if (a := part.agreement)
        ],
        "kappa 0: as alike as by chance, 1: all alike. People can agree and be wrong.",
    )
    lines = [
        f"part {part.number}: {a} and {b}: {percent(share)}"
        for part in parts
        if part.agreement
        for a, b, share in part.agreement.pairs
    ]
    page.details("Equal answers of each two people", "\n".join(lines))


def _network(
    page: Report, persons: Sequence[Person], parts: Sequence[PartScores], model: str
) -> None:
    page.heading("Network")
    page.paragraph(f"Checkpoint '{model}', asked about the same unlabelled images.")
    heard = [(part, part.network) for part in parts if part.network]
    page.table(
        ("part", "network (%)", "people", "network less people", "95 % interval", "no answer"),
        [
            (
                part.number,
                _score_text(net.score),
                percent(part.mean),
                f"{100 * net.ahead:+.1f} points",
                f"{100 * net.ahead_low:+.1f} to {100 * net.ahead_high:+.1f}",
                net.silent,
            )
            for part, net in heard
        ],
        "No answer: no cell was found in the frame; counted as wrong.",
    )
    page.table(
        ("person", *(f"part {part.number}" for part, _ in heard)),
        [
            (person.name, *(percent(net.agreement[i]) for _, net in heard))
            for i, person in enumerate(persons)
        ],
        "Share of images to which a person and the network give the same answer.",
    )


def _experience(page: Report, persons: Sequence[Person], parts: Sequence[PartScores]) -> None:
    rho, n = experience(persons, parts)
    page.heading("Experience")
    said = "too few to say" if rho is None else f"{rho:.2f}"
    page.figure(
        _experience_figure(persons, parts),
        f"Accuracy against years of experience; Spearman's rho of the mean over parts: {said} "
        f"({n} people with years). Few people: a rho of any size may be chance.",
    )


def _experience_figure(persons: Sequence[Person], parts: Sequence[PartScores]) -> Figure:
    figure = canvas(8, 4.5)
    axes = figure.subplots()
    known = [i for i, person in enumerate(persons) if person.years is not None]
    years = [persons[i].years or 0.0 for i in known]
    for marker, part in zip("osD^vPX*" * 4, parts, strict=False):
        values = [100 * part.persons[i].accuracy for i in known]
        axes.plot(years, values, marker, alpha=0.75, label=f"part {part.number} ({part.kind})")
    axes.axhline(50, color="0.5", ls="--", lw=1, label="chance")
    axes.set(xlabel="experience with cell culture (years)", ylabel="right answers (%)")
    axes.set_ylim(-3, 103)
    figure.legend(loc="outside right upper", frameon=False)
    return figure
