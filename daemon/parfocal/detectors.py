"""Which detector a name means: `auto`, `classical`, a shipped detector or a bundle file."""

import importlib.util
from dataclasses import dataclass

from parfocal.bundle import BundleError, DetectorBundle, load_detector
from parfocal.detect import ClassicalDetector
from parfocal.onnxdetector import OnnxDetector, detector_name
from parfocal.types import Detector

SHIPPED = "cells"
CLASSICAL = "classical"


@dataclass(frozen=True, slots=True)
class ChosenDetector:
    """A detector that was found and verified, not yet started; `bundle` None is the classical."""

    name: str
    fingerprint: str
    bundle: DetectorBundle | None


def choose(name: str, sha256: str | None = None) -> ChosenDetector:
    """The detector that a name means.

    `auto` is the shipped network where onnxruntime is installed, else the classical detector; the
    name of the one that was taken stands in every result.

    Raises
    ------
    BundleError
        No such bundle, or one that must not be used.
    """
    if name == "auto":
        name = SHIPPED if importlib.util.find_spec("onnxruntime") else CLASSICAL
    if name == CLASSICAL and sha256 is not None:
        raise BundleError(
            "a sha256 is pinned, but the detector is the classical one, which has no file: name "
            "the bundle that is meant, or remove detector.sha256"
        )
    if name == CLASSICAL:
        classical = ClassicalDetector()
        return ChosenDetector(classical.name, classical.fingerprint, None)
    bundle = load_detector(name, sha256)
    return ChosenDetector(detector_name(bundle), bundle.sha256, bundle)


def started(choice: ChosenDetector) -> Detector:
    """The detector, ready; a network has answered its golden frame.

    Raises
    ------
    DeviceError, InferenceError
        onnxruntime is missing, or the network cannot be trusted.
    """
    if choice.bundle is None:
        return ClassicalDetector()
    made = OnnxDetector(choice.bundle)
    made.check_golden()
    return made
