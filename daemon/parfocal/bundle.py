"""Model bundles: found by name or path, verified from their bytes before the first frame."""

import base64
import hashlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec

from parfocal.calibrate import check_numbers
from parfocal.card import ClassifierCard, DetectorCard
from parfocal.onnxfile import NotOnnxError, OnnxSummary, summarize
from parfocal.phenotypes import Phenotyper

MAX_BYTES = 512 * 1024 * 1024
TRUSTED_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
METADATA_KEY = "parfocal"


class BundleError(Exception):
    """A bundle that must not be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle: the very bytes that were hashed, and their card."""

    path: Path
    data: bytes
    sha256: str
    card: ClassifierCard


@dataclass(frozen=True, slots=True, eq=False)
class DetectorBundle:
    """A verified detector: the very bytes that were hashed, and their card."""

    path: Path
    data: bytes
    sha256: str
    card: DetectorCard


def shipped() -> dict[str, Path]:
    """Name to path of the models that come with parfocal."""
    folder = Path(str(resources.files("parfocal"))) / "models"
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def locate(name_or_path: str) -> Path:
    """The file of a shipped name, or the path itself.

    Raises
    ------
    BundleError
        Neither a shipped name nor an existing file.
    """
    models = shipped()
    if name_or_path in models:
        return models[name_or_path]
    path = Path(name_or_path)
    if os.path.isfile(path):
        return path
    names = ", ".join(models) or "none"
    raise BundleError(
        f"no model '{name_or_path}': it is neither an existing file nor a shipped name ({names})"
    )


def load(name_or_path: str, sha256: str | None = None) -> Bundle:
    """The verified classifier.

    Parameters
    ----------
    name_or_path : str
        A shipped name or the path of an ONNX file.
    sha256 : str, optional
        The hash the file must have; None accepts any.

    Raises
    ------
    BundleError
        Missing, too large, wrong hash, external data, custom operators, no card, a card of another
        schema or with numbers that do not fit each other, a preparation that this version cannot
        reproduce, or a detector.
    """
    bundle = load_any(name_or_path, sha256)
    if isinstance(bundle, DetectorBundle):
        raise BundleError(
            f"{bundle.path.name} is a detector, which finds cells and does not tell their type: "
            "give it as detector.name or --detector"
        )
    return bundle


def load_detector(name_or_path: str, sha256: str | None = None) -> DetectorBundle:
    """The verified detector.

    Raises
    ------
    BundleError
        As `load`, or a classifier.
    """
    bundle = load_any(name_or_path, sha256)
    if isinstance(bundle, Bundle):
        raise BundleError(
            f"{bundle.path.name} is a classifier, which does not find cells: give it as "
            "model.bundle or --model"
        )
    return bundle


def load_any(name_or_path: str, sha256: str | None = None) -> Bundle | DetectorBundle:
    """The verified bundle of either kind."""
    path = locate(name_or_path)
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise BundleError(
            f"{path.name} has sha256 {digest}, the configuration pins {sha256}: "
            "install the pinned file or change the pin"
        )
    card = _card(path, _trusted(path, data))
    if isinstance(card, DetectorCard):
        return DetectorBundle(path, data, digest, card)
    return Bundle(path, data, digest, card)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BundleError(f"{path.name} has {size} bytes, more than the {MAX_BYTES} allowed")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _trusted(path: Path, data: bytes) -> OnnxSummary:
    try:
        summary = summarize(data)
    except NotOnnxError as error:
        raise BundleError(f"{path.name} is not a complete ONNX file: {error}") from error
    if summary.external_data:
        raise BundleError(f"{path.name} keeps tensors in other files: export it as a single file")
    strange = sorted(summary.domains - TRUSTED_DOMAINS)
    if strange:
        raise BundleError(
            f"{path.name} uses operators outside the ONNX standard ({', '.join(strange)}): "
            "export it with standard operators only"
        )
    return summary


def _card(path: Path, summary: OnnxSummary) -> ClassifierCard | DetectorCard:
    text = summary.metadata.get(METADATA_KEY)
    if text is None:
        raise BundleError(f"{path.name} carries no parfocal card: make it with parfocal-export")
    try:
        card = msgspec.json.decode(text, type=ClassifierCard | DetectorCard)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(
            f"the card of {path.name} does not follow parfocal.model/1: {error}"
        ) from error
    if isinstance(card, DetectorCard):
        return _checked_detector(path, card)
    if card.prepare.fingerprint != card.prepare.pixels.fingerprint:
        raise BundleError(
            f"{path.name} was trained on crops prepared in another way than this version of "
            "parfocal prepares them: export it again with this version"
        )
    if len(card.classes) < 2 or len(set(card.classes)) != len(card.classes):
        raise BundleError(f"the card of {path.name} names no two different classes")
    try:
        check_numbers(card)
        if card.phenotypes is not None:
            Phenotyper(card.phenotypes, card.novelty.d)
    except ValueError as error:
        raise BundleError(
            f"the card of {path.name} contradicts itself: {error}; export it again"
        ) from error
    return card


def _checked_detector(path: Path, card: DetectorCard) -> DetectorCard:
    if card.fingerprint != card.view.fingerprint:
        raise BundleError(
            f"{path.name} was trained on frames shown in another way than this version of parfocal "
            "shows them: export it again with this version"
        )
    if card.maps[:4] != ("cell", "other", "dy", "dx"):
        raise BundleError(f"the maps of {path.name} are {', '.join(card.maps)}: export it again")
    try:
        check_detector(card)
    except ValueError as error:
        raise BundleError(
            f"the card of {path.name} contradicts itself: {error}; export it again"
        ) from error
    return card


def check_detector(card: DetectorCard) -> None:
    """Refuse numbers with which no frame could be looked at.

    Raises
    ------
    ValueError
        Which, and why.
    """
    view, votes, golden = card.view, card.votes, card.golden
    if not (0.05 <= view.um_per_px <= 20 and view.light_um > 0 and view.contrast_unit > 0):
        raise ValueError("its view has no size")
    if not 1 <= view.most_enlarged <= 16:
        raise ValueError(f"it enlarges frames {view.most_enlarged:g} times")
    if not (0 < votes.cell < 1 and votes.blur_px > 0 and 1 <= votes.apart_px <= 99):
        raise ValueError("its votes cannot be counted")
    sides = (golden.height_px, golden.width_px)
    if not all(16 <= side <= 1024 and side % 16 == 0 for side in sides):
        raise ValueError(f"its golden frame has {sides[1]}x{sides[0]} px")
    n_maps = len(card.maps) * sides[0] * sides[1] // 4
    for name, text, size in (
        ("frame", golden.frame, sides[0] * sides[1]),
        ("maps", golden.maps, 4 * n_maps),
    ):
        if len(base64.b64decode(text, validate=True)) != size:
            raise ValueError(f"its golden {name} has another size")
