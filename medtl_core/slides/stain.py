"""Stain normalisation: a picture of two stains as it would look with those of an agreed reference."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Float = NDArray[np.float64]

#: Agreed: optical densities (red, green, blue) of haematoxylin and eosin, one a row, of length one, and how dense each
#: is in the densest pixels (99th percentile). The constants are those of Macenko's own implementation.
REFERENCE = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
DENSEST = np.array([1.9705, 1.0308])
#: Light that glass lets through; pixels whose optical density is shorter are glass; percentiles that bound the stains.
_LIGHT, _GLASS, _PERCENT = 240.0, 0.15, 1.0
#: Fewer stained pixels than this say nothing.
_FEWEST = 100


def stain_vectors(picture: Pixels) -> Float | None:
    """Returns the densities of haematoxylin and eosin in a picture, float64 [2, 3] of length one; None = unstained.

    Source: Macenko et al., A method for normalizing histology slides for quantitative analysis. ISBI 2009, section 2:
    optical densities lie near a plane, which is that of their two first principal directions; the stains are the
    extreme angles in it, the `_PERCENT`-th percentile and 100 less it. Haematoxylin is the one that takes more red.

    Args:
        picture: uint8 [h, w, 3].
    """
    density = _density(picture)
    stained = density[np.linalg.norm(density, axis=1) >= _GLASS]  # a channel that eosin hardly takes is no glass
    if len(stained) < _FEWEST:
        return None
    plane = np.linalg.eigh(np.cov(stained.T))[1][:, [2, 1]]
    plane *= np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    angle = np.arctan2(stained @ plane[:, 1], stained @ plane[:, 0])
    ends = np.percentile(angle, [_PERCENT, 100.0 - _PERCENT])
    vectors = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T
    return np.asarray(vectors[np.argsort(-vectors[:, 0])])


def concentrations(picture: Pixels, vectors: Float) -> Float:
    """Returns how much of each stain every pixel holds, float64 [2, h * w], by least squares."""
    return np.asarray(np.linalg.lstsq(vectors.T, _density(picture).T, rcond=None)[0])


def normalised_stain(picture: Pixels) -> Pixels:
    """Returns a picture, uint8 [h, w, 3], with the reference's stains at the reference's densities.

    The fit reads this picture alone. One without two stains stays as it is.
    """
    vectors = stain_vectors(picture)
    if vectors is None or np.linalg.cond(vectors) > 1e3:
        return picture
    held = concentrations(picture, vectors)
    densest = np.percentile(held, 99, axis=1)
    if (densest <= 0).any():
        return picture
    density = (held * (DENSEST / densest)[:, None]).T @ REFERENCE
    light = np.clip(np.rint(_LIGHT * np.exp(-density)), 0, 255)
    return np.asarray(light.reshape(picture.shape), np.uint8)


def _density(picture: Pixels) -> Float:
    """Optical densities, float64 [h * w, 3]."""
    return -np.log((picture.reshape(-1, 3).astype(np.float64) + 1.0) / _LIGHT)
