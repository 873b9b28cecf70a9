"""Whether the cells of a frame or a flask are, taken together, unlike what the model has seen."""

import math
from collections.abc import Sequence

from parfocal.card import ShiftRule
from parfocal.types import Shift


def shift(frames: Sequence[tuple[int, float]], rule: ShiftRule | None) -> Shift | None:
    """How much stranger the cells of these frames are than those of groups of known kind.

    One-sided: cells less strange than usual score below 0. None without a rule or without cells.

    Parameters
    ----------
    frames : sequence of (n, sum)
        Number of classified cells of each frame, and the sum of their novelty.
    rule : ShiftRule or None
    """
    n = sum(n for n, _ in frames)
    if rule is None or n == 0:
        return None
    mean = math.fsum(total for _, total in frames) / n
    frame_share = sum((m / n) ** 2 for m, _ in frames)  # 1 / number of frames when all are equal
    score = (mean - rule.mean) / math.sqrt(rule.mean_se**2 + variance(rule, n, frame_share))
    return Shift(
        score=score,
        threshold=rule.threshold,
        flagged=score > rule.threshold,
        n_cells=n,
        group_kind=rule.group_kind,
        false_alarm=rule.false_alarm,
    )


def variance(rule: ShiftRule, n: int, frame_share: float) -> float:
    """Variance of the mean novelty of n cells of one group.

    Never below that of a left-out group's mean: nothing larger has been seen, and a between-group
    SD that a few small groups cannot show must not make large flasks look strange.
    """
    modelled = rule.between_sd**2 + rule.frame_sd**2 * frame_share + rule.within_sd**2 / n
    return max(rule.group_mean_sd**2, modelled)


def shift_text(shift: Shift | None) -> str:
    """What a person is told of cells that were flagged; empty when they were not."""
    if shift is None or not shift.flagged:
        return ""
    return (
        f"unlike the {shift.group_kind}s the model was trained on (shift {shift.score:.1f}, "
        f"limit {shift.threshold:.1f})"
    )
