"""Model bundles: found by name or path, verified from their bytes before the first frame."""

import hashlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec

from parfocal.calibrate import check_numbers
from parfocal.card import ClassifierCard
from parfocal.onnxfile import NotOnnxError, OnnxSummary, summarize

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
    """The verified bundle.

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
        schema or with numbers that do not fit each other, or a preparation that this version
        cannot reproduce.
    """
    path = locate(name_or_path)
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise BundleError(
            f"{path.name} has sha256 {digest}, the configuration pins {sha256}: "
            "install the pinned file or change model.sha256"
        )
    return Bundle(path, data, digest, _card(path, _trusted(path, data)))


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


def _card(path: Path, summary: OnnxSummary) -> ClassifierCard:
    text = summary.metadata.get(METADATA_KEY)
    if text is None:
        raise BundleError(f"{path.name} carries no parfocal card: make it with parfocal-export")
    try:
        card = msgspec.json.decode(text, type=ClassifierCard)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BundleError(
            f"the card of {path.name} does not follow parfocal.model/1: {error}"
        ) from error
    if card.prepare.fingerprint != card.prepare.pixels.fingerprint:
        raise BundleError(
            f"{path.name} was trained on crops prepared in another way than this version of "
            "parfocal prepares them: export it again with this version"
        )
    if len(card.classes) < 2 or len(set(card.classes)) != len(card.classes):
        raise BundleError(f"the card of {path.name} names no two different classes")
    try:
        check_numbers(card)
    except ValueError as error:
        raise BundleError(
            f"the card of {path.name} contradicts itself: {error}; export it again"
        ) from error
    return card
