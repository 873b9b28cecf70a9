"""Sentences that follow from the figures of a card: what the model cannot do, and is not for.

They are made from the finished card alone. So a model that is measured anew gets those of its new
figures, and what else stands in the old card is what a person wrote there.
"""

from collections.abc import Iterator

import msgspec

from parfocal.card import ClassifierCard, Seen
from parfocal_training.seen import number
from parfocal_training.shiftrule import LEAST_GROUPS

ONE_SOURCE = 3
"""Wrong answers from which on a group that holds a third of all is named."""

STATES = ("densities", "passages", "days")
"""Tables of what was seen that say in which state the cells were."""


def completed(card: ClassifierCard) -> ClassifierCard:
    """The card with the sentences of its figures after those that it has."""
    return with_sentences(card, (*card.caveats, *caveats(card)),
                          (*(card.not_for or ()), *not_for(card)))  # fmt: skip


def as_written(card: ClassifierCard) -> ClassifierCard:
    """The card with only those sentences that a person wrote: its figures do not give them."""
    made, unfit = caveats(card), not_for(card)
    return with_sentences(
        card,
        tuple(one for one in card.caveats if one not in made),
        tuple(one for one in card.not_for or () if one not in unfit),
    )


def with_sentences(
    card: ClassifierCard, caveats: tuple[str, ...], not_for: tuple[str, ...]
) -> ClassifierCard:
    """The card with these sentences, each once."""
    return msgspec.structs.replace(
        card, caveats=tuple(dict.fromkeys(caveats)), not_for=tuple(dict.fromkeys(not_for)) or None
    )


def caveats(card: ClassifierCard) -> tuple[str, ...]:
    """What the way of testing and the figures show, a sentence each."""
    return (*_tested(card), *_trained(card.seen), *_neighbours(card), *_one_source(card),
            *_refused(card), *_unnoticed(card))  # fmt: skip


def not_for(card: ClassifierCard) -> tuple[str, ...]:
    """What training and test do not allow; nothing where nobody recorded what was seen."""
    known = card.seen
    if known is None:
        return ()
    names = " and ".join(known.cell_lines) if len(known.cell_lines) < 3 else "those listed"
    return (
        f"Cell lines other than {names}: each cell gets one of the known names, and a stranger is "
        "not always noticed.",
        *(("Real cells: every training cell was simulated.",) if known.simulated else ()),
        *_described(known),
        "Images from another microscope, objective, illumination or camera, or whose pixel size "
        f"is not known (crops are seen at {known.um_per_px:g} um/px), before cells of known kind "
        "were tried on them.",
        *_untested(card),
        *_single(known),
        "Diagnosis, or any decision about a patient or a product for people.",
    )


def _tested(card: ClassifierCard) -> Iterator[str]:
    if card.confusion is None:
        yield "Trained without cross-validation: accuracy, calibration and novelty unmeasured."
    elif card.confusion.group_kind != "flask":
        yield (
            f"Tested on left-out {card.confusion.group_kind}s, not on left-out flasks: how it does "
            "on another flask is not shown."
        )


def _trained(known: Seen | None) -> Iterator[str]:
    if known is not None:
        n = sum(known.cell_lines.values())
        yield f"Trained on {n} crops from {known.groups} groups ({known.group_kind})."


def _neighbours(card: ClassifierCard) -> Iterator[str]:
    alone = card.training.metrics.get("accuracy")
    placed = card.training.metrics.get("accuracy_among_others")
    if alone and placed and (placed.high or 1) < (alone.low or 0):
        yield (
            f"It goes by neighbours too: {placed.value:.0%} of the cells are right when placed "
            f"among other classes, not {alone.value:.0%}. It errs more where lines are mixed."
        )


def _one_source(card: ClassifierCard) -> Iterator[str]:
    """That one group gave many of the wrong answers."""
    if card.confusion is None or not card.per_group:
        return
    counts, kind = card.confusion.counts, card.confusion.group_kind
    wrong = sum(map(sum, counts)) - sum(row[i] for i, row in enumerate(counts))
    worst = max(card.per_group, key=lambda one: round(one.n * (1 - one.accuracy)))
    its = round(worst.n * (1 - worst.accuracy))
    if its >= max(ONE_SOURCE, wrong / 3) and len(card.confusion.groups) > ONE_SOURCE:
        yield (
            f"Of the {wrong} wrong answers {its} come from one {kind} ({worst.group}): {kind}s "
            "differ more than the average says."
        )


def _refused(card: ClassifierCard) -> Iterator[str]:
    rule, taken = card.abstention, card.abstention.accepted_share
    if card.confusion is not None and not rule.guaranteed:
        n = len(card.confusion.groups)
        yield f"Abstention keeps no guaranteed error rate ({n} groups)."
    if taken is not None and taken.value < 0.5 and rule.error_rate is not None:
        yield (
            f"More than half of all cells are refused ({1 - taken.value:.0%}): the error rate of "
            f"{rule.error_rate:.1%} asks more than this model can give."
        )


def _unnoticed(card: ClassifierCard) -> Iterator[str]:
    if card.confusion is not None and card.shift is None:
        yield (
            "Whole flasks unlike the training are not noticed: "
            f"{len(card.confusion.groups)} groups, {LEAST_GROUPS} with different novelties are "
            "needed."
        )


def _described(known: Seen) -> Iterator[str]:
    """The ranges that were seen, and what nobody recorded."""
    missing = []
    for plural in STATES:
        values = getattr(known, plural)
        if values:
            yield f"Cells at {plural} that were not seen ({_ranged(list(values))} were)."
        else:
            missing.append(plural)
    if missing:
        what = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
        yield f"Claims about how {what} matter: those of the training cells were not recorded."


def _ranged(values: list[str]) -> str:
    """`5 to 9` of numbers, in order; other values one by one, at most six."""
    numbers = [number(value) for value in values]
    if len(values) > 2 and None not in numbers:
        return f"{values[0]} to {values[-1]}"
    return ", ".join(values[:6]) + (f" and {len(values) - 6} more" if len(values) > 6 else "")


def _untested(card: ClassifierCard) -> Iterator[str]:
    if card.confusion is None:
        yield "Anything that needs a known error rate: nothing was left out to measure it."
    elif card.confusion.group_kind != "flask":
        yield (
            f"Claims about another flask: only {card.confusion.group_kind}s were left out for "
            "testing."
        )


def _single(known: Seen) -> Iterator[str]:
    single = [line for line, n in known.groups_of_lines.items() if n < 2]
    if single:
        kind = known.group_kind
        yield f"Claims about {', '.join(single)} beyond the one {kind} it was trained on."
