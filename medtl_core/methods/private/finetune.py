"""Private fine-tuning: a backbone's last blocks together with a head, patient by patient, through Opacus.

`private-finetune-last2-5` trains the two blocks that feed the deepest agreed tap, and a head, for five rounds of
full-batch descent of all hospitals' patients together: every patient's gradient over blocks and head is one vector,
computed by Opacus, clipped, summed, and noised at the gate (Abadi et al., CCS 2016, with all patients in every step).
The blocks hold 10^5 numbers, and each of them gets as much noise as each of the head's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError, PrivacyError, WeightsError
from medtl_core.evaluation.calibration import log_prior
from medtl_core.features.dataset import Material
from medtl_core.federation.method import Method
from medtl_core.federation.model import Model, Packed
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import PrivateMethod, PrivateTask, bill_of, noised_sum, plan_of
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.finetune.activations import Inputs, tuned_features
from medtl_core.methods.finetune.model import checked
from medtl_core.methods.private.block import Seen, network_of, open_blocks, placed, start_of
from medtl_core.methods.private.gradient import CLIP, RATE, counted_descent
from medtl_core.methods.private.public_pca import public_map
from medtl_core.methods.private.samplegrad import Cases, clipped_sum, enough, parted
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.values import Array

#: In which the blocks' numbers are counted: as they are, their part of a gradient would leave the head's little of the
#: clipped length, and the less the more noise the head has. Their largest step in these units; and how far noise may
#: move a number over all rounds (one standard deviation), which makes the step smaller. All three were chosen on blood
#: cells and synthetic radiographs, even and imbalanced, 360 to 600 patients, mostly at epsilon 8.
UNIT, BLOCK_RATE, DRIFT = 0.3, 8.0, 0.01
#: Public directions the head reads.
SIZE = 32
#: Numbers that the gradients of the cases of one batch may have together.
ROOM = 1 << 22

_MAP = ("mean", "scale", "basis")
#: What the server sends beside blocks and head.
_FIXED = (*_MAP, "weights")


def private_block(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Summed clipped gradient [D] of all patients, over blocks and head in the message.

    A round looks at one agreed view of every case, the next round at the next: augmentation without a choice that
    could depend on patients. Memory: about ten arrays of `ROOM` numbers (300 MB), or of one case's gradient where
    that is longer, however many patients there are.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity `CLIP`, see `samplegrad.clipped_sum`: a case passes the frozen
        prefix, blocks and head alone, and norms are constants or within the case. Public: map, blocks and head, the
        latter two made of earlier private releases.

    Raises:
        DataError: the hospital holds no images.
        PrivacyError: it has fewer than two patients, or a case's features or gradient are not finite.
        ConfigError: the blocks do not fit the backbone.
        WeightsError: the arrays are not those of the blocks, or there is not one weight a class.
    """
    enough(site.patients)
    if site.material is None:
        raise DataError(f"hospital {site.name!r} holds features only; training blocks of its backbone needs the images")
    if not np.isfinite(site.values).all():
        raise PrivacyError("a case's features are not finite; mend or remove the case")
    chosen, views = site.material.settings, site.material.views
    backbone = open_blocks(chosen, views, str(config["scope"]))
    seen = Seen(Inputs(backbone, site.material), (int(config["round"]) - 1) % len(backbone.spec.views))
    own = {name: array for name, array in arrays.items() if name not in _FIXED}
    network = network_of(backbone, PublicMap.received(arrays), own, seen.shape)
    if arrays["weights"].shape != (site.classes,):
        raise WeightsError(f"the loss needs one weight for each of {site.classes} classes")
    weight = arrays["weights"].astype(np.float64)[site.label]
    units = units_of({name: array.shape for name, array in own.items() if name != "head.bias"})
    batch = max(1, min(ROOM // len(units), len(site.label)))
    return clipped_sum(network, Cases(seen, site.label, site.patients, weight), CLIP, batch=batch, units=units)


def units_of(shapes: Mapping[str, tuple[int, ...]]) -> Float:
    """Returns in which units blocks and head are trained, one behind the other, float64 [D]."""
    return np.concatenate(
        [np.full(math.prod(shape), 1.0 if name == "head.weight" else UNIT) for name, shape in shapes.items()]
    )


@final
@dataclass(frozen=True)
class Blocked(Model):
    """A backbone with trained last blocks, and a head on rows of length one (see `methods.private.public_pca`).

    Attributes:
        map: from features to rows.
        arrays: of the blocks ("units...") and "head.weight" [C, k], float64.
        scope: which blocks; see `split_backbone.Scope`.
    """

    kind: ClassVar[str] = "blocked"
    AXES: ClassVar[Mapping[str, str]] = {"mean": "d", "scale": "d", "basis": "dk", "head.weight": "ck", "*": ""}

    map: PublicMap
    arrays: Mapping[str, Array]
    scope: str
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model.

        Raises:
            DataError: there are no images.
            WeightsError: the images' features are not those the blocks were trained in, or the arrays do not fit.
        """
        images = checked(material, self.fingerprint)
        backbone = open_blocks(images.settings, images.views, self.scope)
        tensors = placed(backbone, {name: array for name, array in self.arrays.items() if name != "head.weight"})
        return np.asarray(self.map.rows(tuned_features(backbone, images, tensors)) @ self.arrays["head.weight"].T)

    def flaw(self) -> str:
        """See Model."""
        return "" if self.scope else "they do not say which blocks were trained"

    @classmethod
    def unpack(cls, packed: Packed) -> "Blocked":
        """See Model; what `private-block-R` saved is read, too, but for its GroupNorm."""
        return super().unpack(replace(packed, config={"scope": _scope(packed.config)}))


def _scope(config: Mapping[str, Any]) -> str:
    """The scope a saved model names, or the number of blocks it did until `private-finetune`; "" = neither."""
    if config.get("group"):
        raise WeightsError("the blocks were trained with GroupNorm, which is retired; commit 8906598 reads them")
    blocks = int(config.get("blocks", 0))
    return str(config.get("scope", "")) or (f"last{blocks}" if blocks > 1 else "last" * blocks)


@final
@dataclass(frozen=True)
class PrivateFineTune(PrivateMethod):
    """Federated private descent on the last blocks and a head without a bias, every class counting alike in the end.

    Half of the imbalance that the noisy counts tell is met by weights of at most one (above one, clipping would take
    what they give), half by an offset of the logits that is there in training only (Menon et al., ICLR 2021). A bias
    that is trained spends the first rounds, and half of a clipped gradient, on learning the prior.

    Guarantee:
        See PrivateMethod. One release of class counts, then `rounds` releases of a clipped gradient sum.

    Attributes:
        scope: which blocks are trained; see `split_backbone.Scope`.
        rounds: of descent.
    """

    syntax: ClassVar[str] = r"private-finetune-(?P<scope>last(?:[1-9][0-9]?)?)-(?P<rounds>[1-9][0-9]{0,2})"
    example: ClassVar[str] = "private-finetune-last-2"
    summary: ClassVar[str] = "private: fine-tuning of the last blocks and a head, clipped patient by patient (Opacus)"
    test: ClassVar[str] = "server"

    scope: str
    rounds: int

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        return counted_descent(self.name, terms, "private_block", self.rounds)

    def outcome(self, study: Study) -> Outcome:
        """See Method.

        Raises:
            ConfigError: the backbone has no such blocks.
        """
        backbone = open_blocks(study.settings, study.problem.views, self.scope)
        map_, classes, terms = public_map(study, SIZE), len(study.problem.classes), plan_of(self, study).terms
        counts = noised_sum(study, self, 0, map_.arrays, {"counts": (classes,)})["counts"]
        counts = np.maximum(counts, 0.2 * terms.patients / classes)
        weights = np.sqrt(counts.min() / counts)
        cases = float(weights @ counts)
        fixed = {**map_.arrays, "weights": weights, "head.bias": log_prior(weights * counts)}
        arrays = {**start_of(backbone), "head.weight": np.zeros((classes, map_.basis.shape[1]))}
        shapes = {name: array.shape for name, array in arrays.items()}
        units, rate = units_of(shapes), self.block_rate(terms, cases)
        for number in range(1, self.rounds + 1):
            sent, expect = {**fixed, **arrays}, {"gradient": units.shape}
            slope = noised_sum(study, self, 1, sent, expect, number=number, config={"scope": self.scope})["gradient"]
            steps = parted(units * slope / cases, shapes)
            arrays = {
                name: array - (RATE if name == "head.weight" else rate) * steps[name] for name, array in arrays.items()
            }
        facts: dict[str, Any] = {"epsilon": terms.epsilon, "delta": terms.delta, "parameters": len(units), "rate": rate}
        problem = study.problem
        model = Blocked(map_, arrays, self.scope, problem.classes, problem.fingerprint, facts)
        return Outcome({"": model}, bill_of(self, study), 0.0, facts)

    def block_rate(self, terms: Terms, cases: float) -> float:
        """Returns the step of descent of the blocks, from public facts and the noised, weighted number of patients."""
        (noise,) = self.plan(terms).steps[1].noise.values()
        walk = UNIT * noise * CLIP * terms.dilution * math.sqrt(self.rounds) / cases
        return min(BLOCK_RATE, DRIFT / walk)


METHODS: tuple[type[Method], ...] = (PrivateFineTune,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {"private_block": private_block}
MODELS: tuple[type[Model], ...] = (Blocked,)
