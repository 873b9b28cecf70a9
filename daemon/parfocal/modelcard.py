"""What a model's card says, in sections that a person reads from top to bottom.

Knows words and numbers only: `parfocal.console` prints the sections, `parfocal.modelpage` makes
them a page.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from parfocal.bundle import Bundle
from parfocal.card import (
    Abstention,
    ClassifierCard,
    GroupFigures,
    Metric,
    Phenotypes,
    Reliability,
    Seen,
    ShiftRule,
)
from parfocal.intervals import wilson
from parfocal.phenotypes import UNLIKE_ANY, default_names


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with sentences, then a table; `notes` are what must not be overlooked."""

    title: str
    sentences: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


def model_sections(bundle: Bundle) -> tuple[Section, ...]:
    """Everything a person should know before trusting a classifier."""
    card = bundle.card
    every = (
        _answers(card),
        _seen(card),
        _accuracy(card),
        _confusion(card),
        _groups(card),
        _calibration(card),
        _abstention(card.abstention),
        _shift(card),
        _phenotypes(card.phenotypes),
        Section("Must not be used for", notes=card.not_for or ("This card does not say.",)),
        Section("Caveats", notes=card.caveats or ("None were written down.",)),
        _file(bundle),
    )
    return tuple(section for section in every if section is not None)


def right_aligned(section: Section) -> list[bool]:
    """Which columns hold numbers only."""
    columns = zip(*section.rows, strict=True)
    return [all(text[:1].isdigit() or text == "-" for text in column) for column in columns]


def percent(value: float) -> str:
    """A share as people say it."""
    return f"{value:.1%}"


def interval(low: float | None, high: float | None) -> str:
    """Both ends of an interval of shares."""
    return "-" if low is None or high is None else f"{low:.1%} to {high:.1%}"


def _answers(card: ClassifierCard) -> Section:
    names = " or ".join(card.classes)
    return Section(
        "What it answers",
        (
            f"Is this cell {names}?",
            f"It looks at one cell at a time, {_field(card)}. Of each it gives a calibrated "
            "probability, how strange the cell is, and whether it abstains.",
        ),
    )


def _field(card: ClassifierCard) -> str:
    wide = f"{card.crop_px * card.um_per_px:.0f} um"
    if card.prepare.pixels.masked:
        return (
            f"without what lies beyond its outline and rim, in a field of {wide} at "
            f"{card.um_per_px:g} um/px"
        )
    return f"{wide} of its surroundings at {card.um_per_px:g} um/px"


def _seen(card: ClassifierCard) -> Section:
    seen, n_groups = card.seen, len(card.training.groups)
    if seen is None:
        return Section(
            "What it has seen",
            (f"{card.training.data}: {n_groups} groups. This card does not say more.",),
        )
    kind = plural(seen.groups, seen.group_kind)
    what = "simulated cells" if seen.simulated else "cells"
    sentences = (
        f"{sum(seen.cell_lines.values())} {what} of {kind} ({card.training.data}), at "
        f"{seen.um_per_px:g} um/px, found by '{seen.detector}'.",
    )
    return Section(
        "What it has seen", sentences, ("", "seen, with the number of cells"), tuple(_tables(seen))
    )


MOST_LISTED = 8
"""Densities, passages or days that are listed one by one."""


def _tables(seen: Seen) -> Iterable[tuple[str, str]]:
    named = {
        "cell lines": seen.cell_lines,
        "densities": seen.densities,
        "passages": seen.passages,
        "days": seen.days,
    }
    for name, counts in named.items():
        yield name, _counted(counts) or "not recorded"
    if seen.pairs:
        yield "pairs", f"{len(seen.pairs)} pairs of {seen.group_kind}s grown side by side"


def _counted(counts: Mapping[str, int]) -> str:
    """`8: 40, 22: 31`; of many numbers their range, and where the middle half of the cells lies."""
    try:
        values = sorted(float(v) for v, n in counts.items() for _ in range(n))
    except ValueError:
        values = []
    if len(counts) <= MOST_LISTED or not values:
        return ", ".join(f"{v}: {n}" for v, n in counts.items())
    low, high = (values[round(q * (len(values) - 1))] for q in (0.25, 0.75))
    return f"{values[0]:g} to {values[-1]:g}, half of the cells {low:g} to {high:g}"


def plural(n: int, word: str) -> str:
    """`1 flask`, `2 flasks`."""
    return f"{n} {word}{'s' * (n != 1)}"


FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "accuracy, classes counting alike",
    "accuracy_among_others": "accuracy, placed among other classes",
    "accuracy_paper_interval": "accuracy, cells taken as independent",
    "ece": "calibration error",
}
"""Figures that are shares, with their names for people; the rest keep theirs."""


def _accuracy(card: ClassifierCard) -> Section:
    metrics = card.training.metrics
    if not metrics:
        return Section(
            "How well it does", notes=("Nothing was left out of training to measure it.",)
        )
    rows = tuple(
        (FIGURES.get(name, name.replace("_", " ")), *_figure(name, metric))
        for name, metric in metrics.items()
    )
    how = next(iter(metrics.values())).how
    return Section(
        "How well it does",
        (f"On cells that the answering network had not been trained on: {how}.",),
        ("figure", "value", "95 % interval"),
        rows,
    )


def _figure(name: str, metric: Metric) -> tuple[str, str]:
    if name in FIGURES:
        return percent(metric.value), interval(metric.low, metric.high)
    span = "-" if metric.low is None else f"{metric.low:.3f} to {metric.high:.3f}"
    return f"{metric.value:.3f}", span


def _confusion(card: ClassifierCard) -> Section | None:
    if card.confusion is None:
        return None
    rows = tuple(
        (name, *map(str, counts), interval(*wilson(counts[i], sum(counts))))
        for i, (name, counts) in enumerate(zip(card.classes, card.confusion.counts, strict=True))
    )
    columns = ("is", *(f"called {name}" for name in card.classes), "right (95 % interval)")
    return Section("What it takes for what", (), columns, rows)


def _groups(card: ClassifierCard) -> Section | None:
    groups = card.per_group
    if groups is None:
        return None
    kind = card.confusion.group_kind if card.confusion else "group"
    said = [
        f"Each by a network that had not seen it, the worst {kind} first; the interval is for "
        "these cells."
    ]
    total = len(card.confusion.groups) if card.confusion else len(groups)
    if total > len(groups):
        said.append(f"The other {total - len(groups)} of {total} did no worse than the last.")
    columns = (kind, "is", "cells", "right", "95 % interval", "novelty", "strange to the others")
    rows = tuple(map(_group, groups))
    return Section(f"One by one: each left-out {kind}", tuple(said), columns, rows)


def _group(one: GroupFigures) -> tuple[str, ...]:
    strange = {None: "not tested", True: "yes", False: "no"}[one.flagged]
    shares = (percent(one.accuracy), interval(one.low, one.high), f"{one.novelty:.2f}")
    return one.group, " + ".join(one.labels), str(one.n), *shares, strange


def _calibration(card: ClassifierCard) -> Section:
    known, title = card.reliability, "Is it as sure as it is right?"
    temperature = f"Logits are divided by {card.calibration.temperature:.2f}"
    if known is None:
        return Section(title, (f"{temperature}. This card has no reliability table.",))
    sentences = (
        f"{temperature}, fitted to all left-out cells. Tried fold by fold, each with what "
        f"the other folds gave, this took the log loss from {known.log_loss_before:.3f} to "
        f"{known.log_loss:.3f} nats and the Brier score from {known.brier_before:.3f} to "
        f"{known.brier:.3f}: {_judged(known)}. The calibration error was then "
        f"{percent(known.ece)} ({interval(known.ece_low, known.ece_high)}).",
    )
    rows = tuple(
        (percent(b.predicted), percent(b.observed), interval(b.low, b.high), str(b.n))
        for b in known.bins
    )
    return Section(title, sentences, ("is so sure", "was right", "95 % interval", "cells"), rows)


def _judged(known: Reliability) -> str:
    """Whether the temperature helped cells of other folds."""
    steps = (known.log_loss - known.log_loss_before, known.brier - known.brier_before)
    if max(steps) < 0:
        return "that is better"
    return "that is worse than without it" if min(steps) > 0 else "that is no clear gain"


def _abstention(rule: Abstention) -> Section:
    said = [
        f"It abstains below a probability of {rule.min_probability:g}, and on cells stranger than "
        f"{rule.max_novelty:.0%} of those of known kind."
    ]
    said.append(rule.guarantee or "This card guarantees no error rate.")
    rows = []
    if rule.expected_loss is not None and rule.error_rate is not None:
        rows.append(("accepted and wrong, of all (bound)", percent(rule.expected_loss),
                     f"asked for at most {rule.error_rate:.1%}"))  # fmt: skip
    for name, metric in (
        ("accepted, of all", rule.accepted_share),
        ("right, of those accepted", rule.selective_accuracy),
    ):
        if metric is not None:
            rows.append((name, percent(metric.value), interval(metric.low, metric.high)))
    columns = ("cells", "share", "95 % interval") if rows else ()
    half = rule.accepted_share is not None and rule.accepted_share.value < 0.5
    notes = ("It refuses more than half of all cells.",) if half else ()
    return Section("When it says nothing", tuple(said), columns, tuple(rows), notes)


def _shift(card: ClassifierCard) -> Section:
    rule, title = card.shift, "Does it notice a strange flask?"
    if rule is None:
        return Section(title, notes=("It cannot tell: this card has no rule for whole flasks.",))
    return Section(title, (_rule(rule), _alarms(rule, card.per_group or ())))


def _rule(rule: ShiftRule) -> str:
    return (
        f"The mean novelty of the cells of a frame or flask is compared with that of "
        f"{plural(rule.n_groups, rule.group_kind)} left out of training: {rule.mean:.2f}, with an "
        f"SD of {rule.between_sd:.2f} between {rule.group_kind}s, {rule.frame_sd:.2f} between "
        f"frames and {rule.within_sd:.2f} between cells. More than {rule.threshold:.2f} SD above "
        f"counts as strange."
    )


def _alarms(rule: ShiftRule, groups: tuple[GroupFigures, ...]) -> str:
    seen, named = rule.observed_false_alarms, [one.group for one in groups if one.flagged]
    names = f": {', '.join(named[:5])}{' and others' if len(named) > 5 else ''}" if named else ""
    return (
        f"The limit is set so that {percent(rule.false_alarm)} of ordinary {rule.group_kind}s are "
        f"called strange, which holds where their means are spread normally. Of the "
        f"{rule.n_groups} left out the rule of the others calls "
        f"{round(seen.value * rule.n_groups)} strange ({percent(seen.value)}, "
        f"{interval(seen.low, seen.high)}){names}. How many strange ones it notices is not known."
    )


def _phenotypes(known: Phenotypes | None) -> Section:
    title = "What shapes of cell does it tell apart?"
    if known is None:
        return Section(title, ("None: this card has no phenotypes.",))
    rows = tuple((name, str(n)) for name, n in zip(known.names, known.cells, strict=True))
    said = (_clusters(known), _named(known), _strange(known), _stable(known))
    return Section(title, said, ("phenotype", "cells it was made from"), rows)


def _clusters(known: Phenotypes) -> str:
    made = f" ({known.how})" if known.how else ""
    return (
        f"{len(known.names)} morphological phenotypes, clusters of {sum(known.cells)} cells by the "
        f"activations of the last convolution{made}. They say how a cell looks, not what it is."
    )


def _named(known: Phenotypes) -> str:
    plain = default_names(len(known.names))
    given = [name for name, was in zip(known.names, plain, strict=True) if name != was]
    by = f": {known.named_by}" if known.named_by else "; who that was is not recorded"
    if not given:
        return "Nobody has looked at them and named them yet: their names say nothing."
    if len(given) == len(plain):
        return f"A person who looked at cells of each gave them their names{by}."
    return (
        f"A person who looked at cells of {', '.join(given)} gave these names{by}. The others have "
        "not been named yet: their names say nothing."
    )


def _strange(known: Phenotypes) -> str:
    found = known.unlike_any
    return (
        f"A cell too far from the nearest of them is '{UNLIKE_ANY}'. So are "
        f"{_with_interval(percent(found.value), interval(found.low, found.high))} of the cells of "
        f"{known.group_kind}s left out of the clustering{_how(found)}."
    )


def _stable(known: Phenotypes) -> str:
    found = known.stability
    span = "-" if found.low is None else f"{found.low:.2f} to {found.high:.2f}"
    return (
        "Clustered again, cells fall into the same clusters with an adjusted Rand index of "
        f"{_with_interval(f'{found.value:.2f}', span)}, where 1 is always and 0 as often as by "
        f"chance{_how(found)}."
    )


def _with_interval(value: str, span: str) -> str:
    return f"{value} (no interval is known)" if span == "-" else f"{value} ({span})"


def _how(metric: Metric) -> str:
    return f" ({metric.how})" if metric.how else ""


def _file(bundle: Bundle) -> Section:
    card = bundle.card
    facts = {
        "file": f"{bundle.path.name} ({len(bundle.data) / 1e6:.1f} MB)",
        "sha256": bundle.sha256,
        "licence": card.licence,
        "attribution": card.attribution,
        "made": card.created_at,
        "crops centred by": card.prepare.detector.name,
        "fingerprint": card.prepare.fingerprint,
    }
    rows = tuple((name, text) for name, text in facts.items() if text)
    return Section("The file", (), ("", ""), rows)
