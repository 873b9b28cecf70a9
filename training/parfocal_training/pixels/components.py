"""Principal components of pixels.

Crops are compared pixel by pixel, so two cells of one shape that lie at different angles are
different; Yao, Rochman and Sun (2019, Fig. S4) saw that the clusters then sort cells by their
orientation in the camera's frame. Here that is a number, with controls.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from parfocal_training.errors import DataError

Floats = NDArray[np.float64]
Images = NDArray[np.float32]


def area_averaged(crops: Images, factor: int) -> Images:
    """Crops (n, s, s) as means of factor x factor pixels: (n, s // factor, s // factor)."""
    if factor == 1:
        return crops
    side = crops.shape[1] // factor
    small = [cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in crops]
    return np.stack(small).astype(np.float32)


def pixel_components(crops_float: Images, n: int) -> tuple[Floats, Images, Floats]:
    """The first principal components of pixels.

    Parameters
    ----------
    crops_float : ndarray of shape (m, h, w), float32
    n : int
        Components wanted; at most m - 1 and at most h * w are there.

    Returns
    -------
    scores : ndarray of shape (m, n)
    components : ndarray of shape (n, h, w)
        Of unit length; the pixel of largest weight is positive, so that signs are repeatable.
    explained : ndarray of shape (n,)
        Share of the variance of all pixels, descending.
    """
    m = len(crops_float)
    centred = (crops_float - crops_float.mean(0)).reshape(m, -1)  # (m, h * w)
    find = of_pixels if m > centred.shape[1] else of_crops
    total = float(np.einsum("ij,ij->", centred, centred, dtype=np.float64))
    if total <= 0:
        raise DataError(f"the {m} crops are all the same: they have no components")
    scores, components, values = find(centred, min(n, m - 1))
    largest = np.abs(components).argmax(1)
    sign = np.sign(components[np.arange(len(values)), largest])
    components = (components * sign[:, None]).reshape(-1, *crops_float.shape[1:])
    return scores * sign, components.astype(np.float32), values / total


def of_crops(centred: Images, n: int) -> tuple[Floats, Images, Floats]:
    """Components of m centred crops (m, p), by the m x m products of crops: for few crops.

    Scores (m, n), components (n, p) of unit length and either sign, and sums of squares (n,).
    """
    values, vectors = largest_eigenvectors(centred @ centred.T, n)
    scale = np.sqrt(np.maximum(values, 1e-12 * values.sum()))
    return vectors * np.sqrt(values), (vectors / scale).T.astype(np.float32) @ centred, values


def of_pixels(centred: Images, n: int) -> tuple[Floats, Images, Floats]:
    """The same by the p x p products of pixels: for more crops than pixels."""
    values, vectors = largest_eigenvectors(centred.T @ centred, n)
    components = vectors.T.astype(np.float32)  # (n, p)
    return (centred @ components.T).astype(np.float64), components, values


def largest_eigenvectors(products: Images, n: int) -> tuple[Floats, Floats]:
    """The n largest eigenvalues of a symmetric matrix, descending, and their columns."""
    values, vectors = np.linalg.eigh(products.astype(np.float64))
    return np.maximum(values[::-1][:n], 0), vectors[:, ::-1][:, :n]
