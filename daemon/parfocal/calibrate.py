"""From logits and last-convolution activations to how sure, how strange, accepted or not."""

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parfocal.card import ClassifierCard, Novelty
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


def _check_size(name: str, values: bytes | Array, size: int) -> None:
    if len(values) != size:
        raise ValueError(f"{name} has {len(values)} values, not {size}")


def to_base64(array: NDArray[np.generic]) -> str:
    """Little-endian bytes of an array as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def from_base64(text: str) -> Array:
    """float32 values of a text made by `to_base64`; shape (size,)."""
    return np.frombuffer(base64.b64decode(text), "<f4")
