"""The clipped gradients of a backbone's last blocks and a head, patient by patient, and how far descent on them steps.

Every patient's gradient over blocks and head is one vector, computed by Opacus, clipped, summed, and noised at the gate
(Abadi et al., CCS 2016, with all patients in every step). The blocks hold 10^5 numbers, and each of them gets as much
noise as each of the head's.
"""

import math
from collections.abc import Mapping

import numpy as np

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import log_prior
from medtl_core.features.dataset import Material
from medtl_core.federation.private import MAP, PrivateTask
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.finetune.activations import Inputs
from medtl_core.methods.finetune.split_backbone import SplitBackbone
from medtl_core.methods.private.block import Seen, network_of, open_blocks, start_of
from medtl_core.methods.private.clipped_gradient import CLIP
from medtl_core.methods.private.samplegrad import Cases, clipped_sum
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan
from medtl_core.values import Update

#: In which the blocks' numbers are counted: as they are, their part of a gradient would leave the head's little of the
#: clipped length, and the less the more noise the head has. Their largest step in these units; and how far noise may
#: move a number over all rounds (one standard deviation), which makes the step smaller. All three were chosen on blood
#: cells and synthetic radiographs, even and imbalanced, 360 to 600 patients, mostly at epsilon 8.
UNIT, BLOCK_RATE, DRIFT = 0.3, 8.0, 0.01
#: Public directions the head reads.
SIZE = 32
#: Numbers that the gradients of the cases of one batch may have together.
ROOM = 1 << 22

#: What the server sends beside blocks and head.
_FIXED = ("mean", "scale", "basis", "weights")


def private_block(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Summed clipped gradient [D] of all patients, over blocks and head in the message.

    A round looks at one agreed view of every case, the next round at the next. Memory: about ten arrays of `ROOM`
    numbers (300 MB), or of one case's gradient where that is longer, however many patients there are.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity `CLIP`, see `samplegrad.clipped_sum`: a case passes the frozen
        prefix, blocks and head alone, and norms are constants or within the case. Public: map, blocks and head, the
        latter two made of earlier private releases.

    Raises:
        DataError: the hospital has no images.
        ConfigError, WeightsError: the blocks do not fit the backbone, or the arrays not the blocks and classes.
    """
    backbone, material = _opened(site, config)
    trained = {name: array for name, array in arrays.items() if name not in _FIXED}
    units = units_of({name: array.shape for name, array in trained.items() if name != "head.bias"})
    if not len(site.label):
        return Bounded(Update({"gradient": np.zeros(len(units))}), {"gradient": CLIP})
    seen = Seen(Inputs(backbone, material), (int(config["round"]) - 1) % len(backbone.spec.views))
    network = network_of(backbone, PublicMap.received(arrays), trained, seen.shape)
    weight = arrays["weights"].astype(np.float64)[site.label]
    batch = max(1, min(ROOM // len(units), len(site.label)))
    return clipped_sum(network, Cases(seen, site.label, site.patients, weight), CLIP, units, batch=batch)


def _opened(site: SiteData, config: Config) -> tuple[SplitBackbone, Material]:
    if site.material is None:
        raise DataError(f"hospital {site.name!r} holds features only; training blocks of its backbone needs the images")
    return open_blocks(site.material.settings, site.material.views, str(config["scope"])), site.material


def units_of(shapes: Mapping[str, tuple[int, ...]]) -> Float:
    """Returns in which units blocks and head are trained, one behind the other, float64 [D]."""
    return np.concatenate(
        [np.full(math.prod(shape), 1.0 if name == "head.weight" else UNIT) for name, shape in shapes.items()]
    )


def balanced(noisy: Float, plan: Plan) -> tuple[float, dict[str, Float]]:
    """Returns the weighted number of patients, and "weights" [C] and "head.bias" [C] by which all classes count alike.

    Half of the imbalance is met by weights of at most one (above one, clipping would take what they give), half by an
    offset of the logits that is there in training only (Menon et al., ICLR 2021). A bias that is trained spends the
    first rounds, and half of a clipped gradient, on learning the prior.
    No class has less than a fifth of its fair share of the public number of patients.
    """
    counts = np.maximum(noisy, 0.2 * plan.terms.patients / len(noisy))
    weights = np.sqrt(counts.min() / counts)
    return float(weights @ counts), {"weights": weights, "head.bias": log_prior(weights * counts)}


def block_rate(plan: Plan, cases: float) -> float:
    """Returns the step of descent of the blocks, from public facts and the noised, weighted number of patients."""
    step = plan.steps[1]
    walk = UNIT * step.noise["gradient"] * CLIP * plan.terms.dilution * math.sqrt(step.count) / cases
    return min(BLOCK_RATE, DRIFT / walk)


PRIVATE_TASKS: Mapping[str, PrivateTask] = {
    "private_block": PrivateTask(
        private_block,
        {"gradient": "n"},
        {**MAP, "weights": "c", "head.weight": "ck", "head.bias": "c"},
        words=lambda method, step: {"scope": getattr(method, "scope", "")},
        blocks=lambda site, config: start_of(_opened(site, config)[0]),
    )
}
