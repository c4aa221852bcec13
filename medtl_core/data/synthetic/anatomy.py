"""Drawing synthetic frontal chest radiographs: a cartoon of the anatomy and of two findings, all drawn at random.

Nothing here is taken from a patient, an atlas or a data set. Coordinates run over [-1, 1], y downwards, and the
patient's right is on the left of the picture, as radiographs are hung.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
Traits = Mapping[str, Image]

#: Centres of the lobes' typical consolidations (x, y) in body coordinates: upper, middle and lower, right then left.
_LOBES = ((-0.40, -0.32), (-0.38, 0.08), (-0.42, 0.30), (0.40, -0.30), (0.40, 0.02), (0.46, 0.28))


@dataclass(frozen=True)
class Canvas:
    """The pixel grid of one image size, with coordinates float32 [1, s, s]."""

    size: int
    x: Image
    y: Image

    def noise(self, rng: np.random.Generator, images: int, cells: int) -> Image:
        """Returns smooth random fields of variance about 1, float32 [images, s, s], with `cells` bumps a side."""
        knots = rng.standard_normal((images, cells + 3, cells + 3), dtype=np.float32) * np.float32(2.1)
        place = (np.arange(self.size) + 0.5) * cells / self.size
        cell = place.astype(np.int64)
        t = place - cell
        pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        weights = np.asarray(np.stack(pieces) / 6, dtype=np.float32)  # of a pixel's four uniform cubic B-splines
        # Four taps an axis rather than a matrix product: the same bits whatever the number of BLAS threads.
        for _ in range(2):  # the second time rows lie as columns, so that whole ones are copied
            field = sum(weights[tap][:, None] * knots.take(cell + tap, axis=1) for tap in range(4))
            knots = np.ascontiguousarray(np.asarray(field).swapaxes(1, 2))
        return knots


def canvas(size: int) -> Canvas:
    """Returns the canvas of images with `size` pixels a side."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2.0 / size) - 1
    return Canvas(size, axis[None, None, :], axis[None, :, None])


def traits(rng: np.random.Generator, patients: int) -> dict[str, Image]:
    """Returns what stays with a patient from one image to the next, float32 [patients, 1, 1] each."""
    normal = partial(_normal, rng, patients)
    return {
        "width": normal(1.0, 0.06), "height": normal(1.0, 0.07), "fat": normal(0.0, 0.05),
        "heart": normal(1.0, 0.11), "heart_turn": normal(0.5, 0.15), "dome": normal(0.50, 0.06),
        "dome_gap": normal(0.05, 0.03), "ribs": normal(0.085, 0.02), "rib_gap": normal(0.175, 0.012),
        "rib_phase": normal(0.0, 0.06), "bend": normal(0.0, 0.02), "vessels": np.abs(normal(0.13, 0.045)),
        "lobe_x": normal(0.0, 0.05), "lobe_y": normal(0.0, 0.06), "spread": np.abs(normal(0.0, 1.0)),
        "lobe": np.asarray(rng.integers(0, len(_LOBES), (patients, 1, 1)), dtype=np.float32),
        "severity": np.asarray(rng.uniform(0, 1, (patients, 1, 1)), dtype=np.float32),
    }  # fmt: skip


def draw(page: Canvas, body: Traits, label: NDArray[np.int64], rng: np.random.Generator) -> Image:
    """Returns radiographs before they meet a scanner, float32 [n, s, s], about 0 (air) to 1 (dense).

    Labels (int64 [n]) are 0 normal, 1 consolidation (one opacity in one lobe), 2 interstitial (fine, both lungs). What
    stays with a patient is `body`; pose, breath, noise and vessels are drawn for each image.
    """
    images = len(label)
    jitter = partial(_normal, rng, images, 0.0)
    turn = jitter(0.03)
    u = ((page.x - jitter(0.03)) + turn * page.y) / body["width"]
    v = ((page.y - jitter(0.03)) - turn * page.x) / body["height"]
    side = np.abs(u - body["bend"] * v)
    lung, below = _lungs(u, v, side, body, jitter(0.035))
    dense = _dense(u, v, side, body)
    lung = lung * (1 - 0.85 * dense)
    picture = _tissue(v, side, body, dense, below) - 0.37 * lung
    picture += _skeleton(v, side, body)
    vessels = _strands(page, rng, images, 20) * np.exp(-np.square((side - 0.16) / 0.30)) * np.exp(-np.square(v / 0.42))
    picture += body["vessels"] * (1 + jitter(0.15)) * vessels * lung
    picture += 0.035 * page.noise(rng, images, 5)
    picture += _findings(page, u, v, lung, body, label, rng)
    return picture


def _normal(rng: np.random.Generator, count: int, centre: float, spread: float) -> Image:
    return np.asarray(rng.normal(centre, spread, (count, 1, 1)), dtype=np.float32)


def _lungs(u: Image, v: Image, side: Image, body: Traits, breath: Image) -> tuple[Image, Image]:
    """Returns where the lungs are and where it is below the diaphragm, both 0..1."""
    apex = (v + 0.06) / 0.70
    flank = (side - 0.40 - 0.055 * apex) / (0.275 + 0.085 * apex)
    inside = 1 - np.square(flank) - np.square(np.square(apex))
    dome = body["dome"] + breath + (u > 0) * body["dome_gap"] + 0.85 * np.square(side - 0.30)
    below = _step((v - dome) * 16)
    return _step(inside * 3) * (1 - below), below


def _dense(u: Image, v: Image, side: Image, body: Traits) -> Image:
    """Returns the mediastinum, the heart and the aortic knob, 0..1."""
    middle = _step((0.125 + 0.05 * np.square(v + 0.1) - side) * 11) * _step((v + 1.05) * 3)
    along, across = u - 0.11 + body["heart_turn"] * (v - 0.30), v - 0.29 - body["heart_turn"] * (u - 0.11)
    heart = _step((1 - np.square(along / (0.34 * body["heart"])) - np.square(across / (0.27 * body["heart"]))) * 1.6)
    knob = np.exp(-(np.square(u - 0.11) + np.square(v + 0.30)) / 0.008)
    return np.asarray(np.maximum(np.maximum(0.80 * middle, 0.92 * heart), 0.60 * knob), dtype=np.float32)


def _tissue(v: Image, side: Image, body: Traits, dense: Image, below: Image) -> Image:
    shoulder = v + 0.88 - 0.20 * np.square(side) - 0.28 * np.square(np.square(side))
    torso = _step((1.02 - 0.06 * v - side) * 5) * _step(shoulder * 6)
    neck = _step((0.26 - side) * 9) * _step((0.2 - v) * 8)
    flesh = np.maximum(torso, neck) * (1 - 0.16 * np.square(side))
    return np.asarray(flesh * (0.58 + body["fat"] + 0.12 * dense + 0.12 * below), dtype=np.float32)


def _skeleton(v: Image, side: Image, body: Traits) -> Image:
    cage = _step((0.80 - side) * 12) * _step((v + 0.80) * 6) * _step((0.75 - v) * 5)
    behind = (v + body["rib_phase"] - 0.28 * side + 0.62 * np.square(side)) / body["rib_gap"]
    front = (v + body["rib_phase"] + 0.55 * side) / (1.15 * body["rib_gap"])
    ribs = _band(behind, 0.27) * _step((side - 0.07) * 20) + 0.45 * _band(front, 0.30) * _step((side - 0.30) * 8)
    spine = _step((0.085 - side) * 25) * (0.75 + 0.25 * _band(v / 0.15, 0.36))
    clavicle = _step((0.035 - np.abs(v + 0.60 + 0.22 * (side - 0.1) - 0.25 * np.square(side))) * 40)
    clavicle = clavicle * _step((side - 0.10) * 25) * _step((0.72 - side) * 15)
    return body["ribs"] * (cage * ribs + 1.3 * spine + 1.3 * clavicle)


def _findings(
    page: Canvas, u: Image, v: Image, lung: Image, body: Traits, label: NDArray[np.int64], rng: np.random.Generator
) -> Image:
    """Draws the finding of every image; for the normal ones none."""
    added = np.zeros((len(label), page.size, page.size), dtype=np.float32)
    for number, finding in ((1, _consolidation), (2, _interstitial)):
        chosen = np.flatnonzero(label == number)
        if len(chosen):
            own = {name: values[chosen] for name, values in body.items()}
            added[chosen] = lung[chosen] * finding(page, u[chosen], v[chosen], own, rng)
    return added


def _consolidation(page: Canvas, u: Image, v: Image, body: Traits, rng: np.random.Generator) -> Image:
    centre = np.asarray(_LOBES, dtype=np.float32)[body["lobe"].astype(int)]
    x, y = centre[..., 0] + body["lobe_x"], centre[..., 1] + body["lobe_y"]
    radius = 0.15 + 0.05 * np.minimum(body["spread"], 2.0)
    far = (np.square(u - x) + np.square((v - y) / 0.85)) / np.square(radius)
    cloud = _step((1.1 - far + 0.35 * page.noise(rng, len(u), 9)) * 0.9)
    return (0.12 + 0.20 * body["severity"]) * cloud * (1 + 0.15 * page.noise(rng, len(u), 16))


def _interstitial(page: Canvas, u: Image, v: Image, body: Traits, rng: np.random.Generator) -> Image:
    """Fine strands and dots in both lungs, denser towards the bases and the rim."""
    where = 0.55 + 0.35 * _step((v + 0.1) * 1.2) + 0.25 * _step((np.abs(u) - 0.40) * 4)
    pattern = 0.7 * _strands(page, rng, len(u), 34) + 0.5 * np.maximum(page.noise(rng, len(u), 44), 0)
    return (0.07 + 0.12 * body["severity"]) * where * pattern


def _strands(page: Canvas, rng: np.random.Generator, images: int, cells: int) -> Image:
    """Returns thin branching lines, 0..1: where a smooth random field passes through zero."""
    return np.maximum(1 - 2.2 * np.abs(page.noise(rng, images, cells)), 0)


def _step(value: Image) -> Image:
    """A smooth step from 0 to 1 as `value` goes from -1/2 to 1/2."""
    rise = np.clip(value + np.float32(0.5), 0, 1)
    bend = 3 - 2 * rise
    rise *= rise
    return np.multiply(rise, bend, out=rise)


def _band(phase: Image, share: float) -> Image:
    """Soft bands, one a unit of `phase`, `share` of the period wide."""
    distance = np.abs(phase - np.rint(phase))
    return _step((np.float32(share / 2) - distance) * np.float32(8))
