"""Why the gate did not take a frame: a closed set of stable codes, one sentence each."""

from enum import StrEnum


class GateReason(StrEnum):
    """Why a frame of the camera was not taken."""

    MOVING = "moving"
    SETTLING = "settling"
    OUT_OF_FOCUS = "out_of_focus"
    FROZEN = "frozen"
    DARK = "dark"
    OVEREXPOSED = "overexposed"
    WRONG_OBJECTIVE = "wrong_objective"
    CHANGED_GAMMA = "changed_gamma"
    BUBBLE_OR_MENISCUS = "bubble_or_meniscus"
    ALREADY_SEEN = "already_seen"


SENTENCES: dict[GateReason, str] = {
    GateReason.MOVING: "the flask moves; stop to let it look",
    GateReason.SETTLING: "the flask has just stopped; hold it still for a moment",
    GateReason.OUT_OF_FOCUS: "nothing sharp is seen; focus on the cells, or move to some",
    GateReason.FROZEN: "the camera sends one and the same picture; restart its live view",
    GateReason.DARK: "hardly any light; switch the lamp on or expose longer",
    GateReason.OVEREXPOSED: "the picture is too bright and has lost detail; dim the lamp or expose "
    "shorter",
    GateReason.WRONG_OBJECTIVE: "cells look much larger or smaller than before; put the first "
    "objective back, or open a new flask session",
    GateReason.CHANGED_GAMMA: "the camera now draws bright and dark differently; put its gamma or "
    "contrast back, or open a new flask session",
    GateReason.BUBBLE_OR_MENISCUS: "a bubble or the medium's edge bends the light; move away from "
    "it",
    GateReason.ALREADY_SEEN: "this place was taken before; push on to another",
}
