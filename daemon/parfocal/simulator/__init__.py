"""A synthetic IX50: flasks of cells in colour brightfield, with truth beside every frame."""

from parfocal.simulator.flask import Flask, SimulatedFrame, draw_flask
from parfocal.simulator.lines import HEK293A, HT1080
from parfocal.simulator.parameters import Camera, CellType, Fluorescence, Optics, Rig
from parfocal.simulator.traits import FlaskTraits
from parfocal.simulator.truth import CellTruth, Truth

__all__ = [
    "HEK293A",
    "HT1080",
    "Camera",
    "CellTruth",
    "CellType",
    "Flask",
    "FlaskTraits",
    "Fluorescence",
    "Optics",
    "Rig",
    "SimulatedFrame",
    "Truth",
    "draw_flask",
]
