"""The four closed sets of reason codes: why a file, find or cell has no answer, a view no frame.

Codes are part of the public contract: stable, lower case, one word or two. Each has one sentence
that a person can act on. A code may be added in a minor release, never renamed.
"""

from enum import StrEnum


class FileReason(StrEnum):
    """Why an image file was not scored."""

    EMPTY = "empty"
    INCOMPLETE = "incomplete"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    CORRUPT = "corrupt"
    NOT_A_FILE = "not_a_file"
    UNREADABLE = "unreadable"
    VANISHED = "vanished"
    RESOURCE_LIMIT = "resource_limit"
    NO_SCALE = "no_scale"
    DUPLICATE = "duplicate"
    INFERENCE_FAILED = "inference_failed"


class ObjectReason(StrEnum):
    """Why something that was found in a frame was not classified."""

    EDGE = "edge"
    DEBRIS = "debris"
    CLUMP = "clump"
    BLUR = "blur"
    ROUNDED = "rounded"
    UNSURE = "unsure"
    OVER_LIMIT = "over_limit"
    ALREADY_COUNTED = "already_counted"


class CellReason(StrEnum):
    """Why the model abstained on a cell that it did classify."""

    LOW_CONFIDENCE = "low_confidence"
    UNLIKE_TRAINING = "unlike_training"


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


SENTENCES: dict[FileReason | ObjectReason | CellReason | GateReason, str] = {
    FileReason.EMPTY: "the file holds no bytes; save the image again",
    FileReason.INCOMPLETE: "the file ends before the data it declares; save or copy it again",
    FileReason.NOT_AN_IMAGE: "the content is no TIFF, BMP, PNG or JPEG, whatever its name says",
    FileReason.UNSUPPORTED: "the image is of a kind parfocal does not read; "
    "save it as 8 or 16 bit gray or RGB",
    FileReason.TOO_LARGE: "the image has more pixels or bytes than the configured limit",
    FileReason.CORRUPT: "the file is complete but cannot be decoded; save it again",
    FileReason.NOT_A_FILE: "it has an image's name but is a folder, link, pipe or device",
    FileReason.UNREADABLE: "the system refused to read it; check permissions and the disk",
    FileReason.VANISHED: "the file was removed before it could be read",
    FileReason.RESOURCE_LIMIT: "reading it took more memory or time than allowed",
    FileReason.NO_SCALE: "nothing says how large a pixel is; set um_per_px in the configuration, "
    "in parfocal-folder.toml or in a sidecar, then reload parfocal",
    FileReason.DUPLICATE: "the same image was already scored in this flask session",
    FileReason.INFERENCE_FAILED: "the model failed on this image again and again; see the log",
    ObjectReason.EDGE: "the crop around it would leave the frame",
    ObjectReason.DEBRIS: "dirt, or smaller than any cell",
    ObjectReason.CLUMP: "touching cells that could not be told apart",
    ObjectReason.BLUR: "out of focus",
    ObjectReason.ROUNDED: "a round cell that floats, is dying or divides",
    ObjectReason.UNSURE: "the detector is not sure that it is a cell",
    ObjectReason.OVER_LIMIT: "the frame holds more cells than the configured limit",
    ObjectReason.ALREADY_COUNTED: "it lies where an earlier field of the flask was counted",
    CellReason.LOW_CONFIDENCE: "no class is probable enough",
    CellReason.UNLIKE_TRAINING: "unlike the cells the model was trained on",
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
