"""Two ways to part points into clusters: k-means, as in the paper, and a Gaussian mixture.

k-means takes clusters for round and alike. The components of a mixture have shapes of their own,
so that a wide phenotype is not split for the sake of its width (Fraley and Raftery 2002).
"""

from typing import Literal

import numpy as np
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from parfocal.phenotypes import Clusters
from parfocal_training.phenotypes.space import Floats, Ints

Method = Literal["k-means", "mixture"]
CALLED: dict[Method, str] = {"k-means": "k-means", "mixture": "Gaussian mixture"}
"""What a text calls them."""

FLOOR = 1e-3
"""Least variance of a component along any axis, in mean variances of all points."""


def clustered(points: Floats, k: int, method: Method, seed: int) -> tuple[Ints, float]:
    """Cluster (n,) of points (n, q) from one random start, and its cost.

    The cost is the sum of squares of k-means, or the Bayesian information criterion (BIC) of a
    mixture. A mixture may leave a component without any point: its number does not occur.
    """
    if method == "k-means":
        made = KMeans(k, n_init=1, random_state=seed).fit(points)
        return made.labels_.astype(np.int64), float(made.inertia_)
    mixture = GaussianMixture(k, reg_covar=floor_of(points), random_state=seed).fit(points)
    return mixture.predict(points).astype(np.int64), float(mixture.bic(points))


def clustered_from(points: Floats, labels: Ints, method: Method) -> Ints:
    """Cluster (n,) of points (n, q), beginning at clusters (n,), which keep their numbers."""
    names, of = np.unique(labels, return_inverse=True)
    begin = clusters_of(points, of, method)
    if begin.precisions is None or begin.weights is None:
        made = KMeans(len(names), init=begin.centroids, n_init=1).fit(points)
        return np.asarray(names[made.labels_], np.int64)
    mixture = GaussianMixture(
        len(names),
        reg_covar=floor_of(points),
        means_init=begin.centroids,
        weights_init=begin.weights,
        precisions_init=begin.precisions @ begin.precisions.transpose(0, 2, 1),
    )
    return np.asarray(names[mixture.fit_predict(points)], np.int64)


def clusters_of(points: Floats, labels: Ints, method: Method) -> Clusters:
    """Where points (n, q) of clusters 0 to k - 1 lie and, for a mixture, how wide.

    A cluster's covariance is shrunk towards that within all clusters as if by one more cell, so
    that few cells have one too.
    """
    sizes = np.bincount(labels)  # (k,)
    centroids = np.stack([points[labels == j].mean(0) for j in range(len(sizes))])
    if method == "k-means":
        return Clusters(centroids)
    q, off = points.shape[1], points - centroids[labels]  # (n, q)
    pooled = off.T @ off / len(points) + floor_of(points) * np.eye(q)
    factors = np.empty((len(sizes), q, q))
    for j, size in enumerate(sizes):
        mine = off[labels == j]
        covariance = (mine.T @ mine + pooled) / (size + 1)
        # upper triangular, as scikit-learn's: covariance = (L L^T)^-1
        factors[j] = np.triu(np.linalg.inv(np.linalg.cholesky(covariance)).T)
    return Clusters(centroids, factors, sizes / len(points))


def floor_of(points: Floats) -> float:
    """What is added to the variances of a component."""
    return FLOOR * float(points.var(0).mean())
