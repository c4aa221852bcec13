"""Second moments of rows as a vector to which noise is added, and back."""

import math

import numpy as np

from medtl_core.heads.statistics import Float


def packed(gram: Float) -> Float:
    """Returns the upper triangle of a symmetric matrix as a vector of the same Euclidean norm.

    Off-diagonals are multiplied by sqrt 2, so that the sensitivity of a sum of outer products v v' stays |v|^2.

    Example:
        >>> round(float(np.linalg.norm(packed(np.array([[1.0, 2.0], [2.0, 3.0]])))), 6) == round(18**0.5, 6)
        True
    """
    return np.asarray((gram * _weights(len(gram)))[np.triu_indices(len(gram))])


def unpacked(vector: Float, size: int) -> Float:
    """Returns the symmetric matrix [size, size] that `packed` took apart."""
    gram = np.zeros((size, size))
    gram[np.triu_indices(size)] = vector
    upper = gram / _weights(size)
    return np.asarray(upper + np.triu(upper, 1).T)


def positive(gram: Float) -> Float:
    """Returns the nearest symmetric matrix without negative eigenvalues: post-processing, free of cost."""
    values, vectors = np.linalg.eigh(gram)
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def ridge_of(gram: Float, noise: float, cases: float, share: float) -> float:
    """Returns the ridge of a noisy second moment [k, k] of `cases` rows: its noise's length, and a share of its trace.

    The eigenvalues of a symmetric matrix of Gaussian noise of deviation s lie within s sqrt(2 k), to first order.
    """
    size = len(gram)
    return noise * math.sqrt(2 * size) / cases + share * float(np.trace(gram)) / size


def _weights(size: int) -> Float:
    return np.where(np.eye(size) > 0, 1.0, math.sqrt(2.0))
