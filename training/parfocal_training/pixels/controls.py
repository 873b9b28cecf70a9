"""The same clustering of crops that were turned: what clusters follow must turn too."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from parfocal_training.pixels.clusters import METHODS, Floats, Ints
from parfocal_training.pixels.components import Images
from parfocal_training.pixels.following import Following, following
from parfocal_training.pixels.orientation import Axes, disc, turned


@dataclass(frozen=True, slots=True)
class Control:
    """What clusters of crops that were turned in one way follow.

    `camera` is on the orientation in the camera's frame, `crop` on that in the turned crop; None
    where all cells lie the same way there.
    """

    variant: str
    method: str
    camera: Following
    crop: Following | None


def controls(
    crops: Images,
    axes: Axes,
    groups: Ints,
    k: int,
    prepare: Callable[[Images], Floats],
    rng: np.random.Generator,
) -> list[Control]:
    """The same clustering of crops as imaged, with all long axes level, and turned at random.

    The turned ones and one of those as imaged are cut to the inscribed disc, so that no filled
    corner tells how a crop was turned.
    """
    at = np.nan_to_num(axes.angle_rad)
    turns = rng.uniform(0, 2 * np.pi, len(crops))
    made: list[tuple[str, Images, Floats | None]] = [
        ("as imaged, square", crops, at),
        ("as imaged, disc", disc(crops), at),
        ("long axis level, disc", disc(turned(crops, -at)), None),
        ("turned at random, disc", disc(turned(crops, turns)), at + turns),
    ]
    out = []
    for variant, images, inside in made:
        scores = prepare(images)
        for method, cluster in METHODS.items():
            labels = cluster(scores, k, 0)
            camera = following(labels, at, axes.elongated, groups, rng)
            crop = camera if inside is at else None
            if inside is not None and inside is not at:
                crop = following(labels, inside, axes.elongated, groups, rng)
            out.append(Control(variant, method, camera, crop))
    return out
