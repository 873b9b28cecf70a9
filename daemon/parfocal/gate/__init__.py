"""Decides which frames of a live camera are taken: sharp, at rest, well lit, and no place twice."""

from parfocal.gate.decision import Decision, Gate
from parfocal.gate.places import Overlap, already_counted
from parfocal.gate.rest import GateState, RestGate
from parfocal.gate.settings import GateSettings
from parfocal.reasons import GateReason

__all__ = [
    "Decision",
    "Gate",
    "GateReason",
    "GateSettings",
    "GateState",
    "Overlap",
    "RestGate",
    "already_counted",
]
