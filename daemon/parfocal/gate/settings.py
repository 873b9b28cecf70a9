"""What can be set about the gate, with units."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GateSettings:
    """When a rest counts as one, and how like an earlier field is too like.

    `still_px_s`: slower than this is still; a hand's tremor is a few pixels per second.
    `rest_s`: still for so long is a rest, and focus must have stood for as long.
    `steady`: the focus stands while it changes by less than this share of itself.
    `patience_s`: from then on a rest is taken even if it was sharper for a moment before.
    `wander_px`: farther than this from where a rest began, another rest begins.
    `least_focus`: below this nothing is sharp, on the scale of a frame's quality; real frames of
    4x to 20x gave 0.33 and more, blurred by 4 px 0.26 and less.
    `focus_share`: least focus as a share of the session's median, once there is one.
    `frozen_s`: the same picture for so long means that the camera hangs.
    `seen_share`: a frame of which earlier fields cover more is not taken again; smaller
    overlaps are taken and their points masked.
    `margin_px`: border in which a field counts no cell, half a crop.
    `most_fields`: only so many of the latest fields are compared, about 0.3 MB each; a place taken
    before them is known as long as it lies on one of them.
    `compared_per_frame`: with so many earlier fields a frame is compared, the next frames of the
    rest with the others, so that none of them takes long.
    `gamma_ratio`, `scale_ratio`: a change by more than this factor is another gamma, another
    objective.
    `bent_light`: largest change of the background's level against the session's, as a share.
    `reference_fields`: how many fields make the session's reference; before, what needs one is
    not judged.
    """

    still_px_s: float = 40.0
    rest_s: float = 0.3
    steady: float = 0.06
    patience_s: float = 1.0
    wander_px: float = 60.0
    least_focus: float = 0.25
    focus_share: float = 0.5
    frozen_s: float = 0.5
    seen_share: float = 0.5
    margin_px: float = 112.0
    most_fields: int = 500
    compared_per_frame: int = 12
    gamma_ratio: float = 1.35
    scale_ratio: float = 1.4
    bent_light: float = 0.25
    reference_fields: int = 3
