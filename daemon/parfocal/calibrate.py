"""From logits and last-convolution activations to how sure, how strange, accepted or not."""

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from parfocal.card import Abstention, ClassifierCard, Metric, Novelty, Reliability, ShiftRule
from parfocal.prepare import CROP_PX
from parfocal.reasons import CellReason

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """n cells judged: calibrated probabilities (n, classes), novelty (n,), reason or None each."""

    probabilities: NDArray[np.float64]
    novelty: NDArray[np.float64]
    reasons: tuple[CellReason | None, ...]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    total: NDArray[np.float64] = shifted / shifted.sum(-1, keepdims=True)
    return total


class NoveltyScore:
    """Mahalanobis distance to the nearest class mean, as 1 minus a conformal p-value.

    With m calibration distances from groups left out of training, the p-value of a distance s is
    (1 + #{calibration >= s}) / (m + 1) (Vovk et al., conformal prediction; Lee et al. 2018 for the
    distance), so novelty lies in [0, m / (m + 1)].
    """

    def __init__(self, card: Novelty, n_classes: int) -> None:
        self.mean = from_base64(card.mean).reshape(n_classes, card.d).astype(np.float64)
        self.precision = from_base64(card.precision).reshape(card.d, card.d).astype(np.float64)
        self.scores = np.sort(np.array(card.scores, np.float64))

    def distance(self, lca: Array) -> NDArray[np.float64]:
        """Distance of each cell to its nearest class: shape (n,)."""
        apart = lca[:, None, :].astype(np.float64) - self.mean[None]  # (n, classes, d)
        squared = np.einsum("ncd,de,nce->nc", apart, self.precision, apart, optimize=True)
        nearest: NDArray[np.float64] = np.sqrt(np.maximum(squared, 0)).min(1)
        return nearest

    def __call__(self, lca: Array) -> NDArray[np.float64]:
        """Novelty of each cell in [0, 1): shape (n,)."""
        as_strange = len(self.scores) - np.searchsorted(self.scores, self.distance(lca), "left")
        novelty: NDArray[np.float64] = 1 - (1 + as_strange) / (len(self.scores) + 1)
        return novelty


class Judge:
    """Applies a card's calibration, novelty and abstention to what the network answered."""

    def __init__(self, card: ClassifierCard) -> None:
        self.temperature = card.calibration.temperature
        self.abstention = card.abstention
        self.novelty = NoveltyScore(card.novelty, len(card.classes))

    def __call__(self, logits: Array, lca: Array) -> Judged:
        """Judge n cells: logits (n, classes), lca (n, d)."""
        probabilities = softmax(logits.astype(np.float64) / self.temperature)
        novelty = self.novelty(lca)
        return Judged(
            probabilities,
            novelty,
            tuple(map(self._reason, probabilities.max(1, initial=0), novelty)),
        )

    def _reason(self, probability: float, novelty: float) -> CellReason | None:
        if novelty > self.abstention.max_novelty:
            return CellReason.UNLIKE_TRAINING
        if probability < self.abstention.min_probability:
            return CellReason.LOW_CONFIDENCE
        return None


def check_numbers(card: ClassifierCard) -> None:
    """Whether the card's numbers fit each other and can be computed with.

    Raises
    ------
    ValueError
        They do not; the message names the first that does not.
    """
    pixels, golden, novelty = card.prepare.pixels, card.golden, card.novelty
    n_classes, d = len(card.classes), novelty.d
    if pixels.crop_px != CROP_PX:
        raise ValueError(f"crops of {pixels.crop_px} px, this version cuts {CROP_PX} px")
    if not 0.01 <= pixels.um_per_px <= 100:
        raise ValueError(f"um_per_px is {pixels.um_per_px}, not between 0.01 and 100")
    if not card.calibration.temperature > 0:
        raise ValueError(f"the temperature is {card.calibration.temperature}, not above 0")
    if d < 1 or golden.n < 1 or not novelty.scores:
        raise ValueError("without activations, golden crops or novelty scores nothing is checked")
    if min(pixels.reference, default=0) < 0 or sum(pixels.reference) != CROP_PX**2:
        raise ValueError("the reference is not the distribution of one crop")
    pixels.reference_distribution()
    _check_size("golden.crops", base64.b64decode(golden.crops), golden.n * CROP_PX**2)
    for name, text, size in (
        ("golden.logits", golden.logits, golden.n * n_classes),
        ("golden.lca", golden.lca, golden.n * d),
        ("novelty.mean", novelty.mean, n_classes * d),
        ("novelty.precision", novelty.precision, d * d),
    ):
        values = from_base64(text)
        _check_size(name, values, size)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    _check_evidence(card)


def _check_evidence(card: ClassifierCard) -> None:
    """Whether what the card says of its tests can be, as far as it says anything."""
    for field in ("calibration", "abstention", "reliability", "per_group", "shift", "seen"):
        for place, number in _numbers(msgspec.to_builtins(getattr(card, field)), field):
            if not math.isfinite(number):
                raise ValueError(f"{place} is {number}, not finite")
    _check_abstention(card.abstention)
    if card.shift is not None:
        _check_shift(card.shift)
    if card.reliability is not None:
        _check_reliability(card.reliability)
    for group in card.per_group or ():
        _check_shares(f"group {group.group}", group.low, group.accuracy, group.high, group.novelty)
        _check_counts(f"group {group.group}", group.n)


def _numbers(value: object, place: str) -> Iterator[tuple[str, float]]:
    """Every float below a value, with where it stands."""
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, dict):
        for name, below in value.items():
            yield from _numbers(below, f"{place}.{name}")
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _numbers(below, place)


def _check_abstention(rule: Abstention) -> None:
    rate, loss = rule.error_rate, rule.expected_loss
    _check_shares("the abstention", rule.min_probability, rule.max_novelty)
    _check_shares(
        "the abstention", *_values(rule.accepted_share), *_values(rule.selective_accuracy)
    )
    if rate is not None and not 0 < rate < 1:
        raise ValueError(f"the error rate is {rate}, not between 0 and 1")
    if rule.guaranteed and (rate is None or loss is None or loss > rate):
        raise ValueError(f"an error rate of {rate} is guaranteed with an expected loss of {loss}")


def _check_shift(rule: ShiftRule) -> None:
    spreads = (rule.mean_se, rule.between_sd, rule.frame_sd, rule.within_sd)
    if min(spreads) < 0 or not rule.group_mean_sd > 0:
        raise ValueError("the shift rule has a standard deviation below 0, or none at all")
    if not (rule.threshold > 0 and 0 < rule.false_alarm < 0.5):
        raise ValueError("the shift rule has no threshold for a false-alarm rate")
    _check_shares("the shift rule", rule.mean, *_values(rule.observed_false_alarms))
    _check_counts("the shift rule", rule.n_groups - 1)


def _check_reliability(measured: Reliability) -> None:
    for one in measured.bins:
        _check_shares("a bin of the reliability", one.low, one.observed, one.high, one.predicted)
        _check_counts("a bin of the reliability", one.n)
    _check_shares("the calibration error", measured.ece_low, measured.ece, measured.ece_high)
    scores = (measured.brier, measured.brier_before, measured.log_loss, measured.log_loss_before)
    if min(scores) < 0:
        raise ValueError(f"a score of the reliability is {min(scores)}, below 0")


def _values(metric: Metric | None) -> tuple[float, ...]:
    """The figure and the ends of its interval, as far as they are known."""
    every = () if metric is None else (metric.value, metric.low, metric.high)
    return tuple(value for value in every if value is not None)


def _check_shares(what: str, *values: float) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise ValueError(f"{what} has a share of {value}, not between 0 and 1")


def _check_counts(what: str, n: int) -> None:
    if n < 1:
        raise ValueError(f"{what} stands on nothing")


def _check_size(name: str, values: bytes | Array, size: int) -> None:
    if len(values) != size:
        raise ValueError(f"{name} has {len(values)} values, not {size}")


def to_base64(array: NDArray[np.generic]) -> str:
    """Little-endian bytes of an array as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def from_base64(text: str) -> Array:
    """float32 values of a text made by `to_base64`; shape (size,)."""
    return np.frombuffer(base64.b64decode(text), "<f4")
