"""The skeleton of a mask: its ends, forks and branches.

The skeleton is that of CellProfiler's MorphologicalSkeleton (Zhang and Suen 1984, scikit-image).
Its MeasureObjectSkeleton counts differently: there a seed object, such as a nucleus, is put on the
skeleton and branches are those that leave it; a brightfield crop has no seed, so all ends count.
"""

import cv2
import numpy as np
from skimage.morphology import skeletonize

from parfocal_training.morphology.patch import Patch

Features = dict[str, float]

AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)


def skeleton(patch: Patch) -> Features:
    """`ObjectSkeleton_NumberEndpoints`, `..._NumberForks`, `..._NumberBranches`, `..._Length`.

    An end has one neighbour. A fork is a cluster of pixels with three and more; a branch is what
    is left between forks. The length counts pixels.
    """
    bones = skeletonize(patch.mask).astype(np.uint8)  # (h, w)
    neighbours = cv2.filter2D(bones, -1, AROUND, borderType=cv2.BORDER_CONSTANT)
    fork = ((neighbours >= 3) & (bones > 0)).astype(np.uint8)
    branch = bones - fork
    return {
        "ObjectSkeleton_NumberEndpoints": float(((neighbours == 1) & (bones > 0)).sum()),
        "ObjectSkeleton_NumberForks": float(cv2.connectedComponents(fork)[0] - 1),
        "ObjectSkeleton_NumberBranches": float(cv2.connectedComponents(branch)[0] - 1),
        "ObjectSkeleton_Length": float(bones.sum()),
    }
