"""The skeleton of a mask: its ends, forks and branches, under names of our own.

Skeleton and ends are those of centrosome, CellProfiler's library: pixels are taken off in the order
of their distance to the outline as long as nothing falls apart, corners last, and an end has one
neighbour at most, so a round cell has two. scikit-image's `medial_axis` is that algorithm; it
breaks ties in another order, which moves the count by one in one cell of eighty. centrosome itself
cannot be installed beside the Pillow that parfocal needs.

MeasureObjectSkeleton counts differently: there a seed object, such as a nucleus, is put on the
skeleton and branches are those that leave it; a brightfield crop has no seed, so all ends count.
"""

import cv2
import numpy as np
from skimage.morphology import medial_axis

from parfocal_training.morphology.patch import Patch

Features = dict[str, float]

AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)


def skeleton(patch: Patch) -> Features:
    """`Skeleton_NumberEndpoints`, `..._NumberForks`, `..._NumberBranches` and `..._Length`.

    An end has one neighbour or none. A fork is a cluster of pixels with three and more; a branch
    is what is left between forks. The length counts pixels.
    """
    bones = medial_axis(patch.mask, rng=0).astype(np.uint8)  # (h, w)
    neighbours = cv2.filter2D(bones, -1, AROUND, borderType=cv2.BORDER_CONSTANT)
    fork = ((neighbours >= 3) & (bones > 0)).astype(np.uint8)
    branch = bones - fork
    return {
        "Skeleton_NumberEndpoints": float(((neighbours <= 1) & (bones > 0)).sum()),
        "Skeleton_NumberForks": float(cv2.connectedComponents(fork)[0] - 1),
        "Skeleton_NumberBranches": float(cv2.connectedComponents(branch)[0] - 1),
        "Skeleton_Length": float(bones.sum()),
    }
