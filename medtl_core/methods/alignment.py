"""Alignment of hospitals: features are shifted and scaled where they are made, before anything is summed.

Per-hospital standardisation is the analogue of adaptive batch normalisation on frozen features (Li et al., "AdaBN",
Pattern Recognition 80, 2018). A hospital that did not train brings only unlabelled cases: its batch is standardised by
its own moments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Discriminant
from medtl_core.heads.crossval import TEMPERATURES, Choice, choose, fold_of, held_out
from medtl_core.heads.statistics import Float, Statistics, collect, pack, unpack
from medtl_core.methods.standardised import Alignment, Standardised, of_batch
from medtl_core.values import Array, Released, Update

_FAMILY = Discriminant()


def own_moments(site: SiteData, arrays: Arrays) -> Alignment:
    """A training hospital's standardisation by its own moments; `mean` and `scale` are the pooled ones.

    All its training cases count, without their labels, so a fold's held-out cases took part: cross-validated losses
    are a little too good by that.
    """
    return of_batch(site.values, Alignment(arrays["mean"], arrays["scale"]))


def standardised_statistics(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Counts, class sums and Gram matrix of the aligned features, each fold."""
    folds = int(config["folds"])
    fold = fold_of(site.patients, site.label, folds, site.seed)
    values = own_moments(site, arrays).apply(site.values)
    return Released(pack([collect(values[fold == f], site.label[fold == f], site.classes) for f in range(folds)]))


def standardised_validate(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Log-loss and hits of fold heads on the aligned features of the cases their fold left out."""
    fold = fold_of(site.patients, site.label, int(config["folds"]), site.seed)
    return Released(held_out(arrays["heads"], own_moments(site, arrays).apply(site.values), site.label, fold))


def standardised_moments(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """The alignment itself: unlike sums, it tells the server about one hospital; only `-inductive` asks for it."""
    own = own_moments(site, arrays)
    return Released(Update({"location": own.location, "scale": own.scale}))


@final
@dataclass(frozen=True)
class StandardisedDiscriminant(Method):
    """The cross-validated discriminant on features that every hospital standardises by its own moments.

    Attributes:
        inductive: whether the model remembers the alignments of the training hospitals for their later cases. The
            server then sees each hospital's alignment, not only sums.
    """

    syntax: ClassVar[str] = "discriminant-standardised(?P<inductive>-inductive)?"
    example: ClassVar[str] = "discriminant-standardised"
    summary: ClassVar[str] = "the discriminant on features each hospital, also an unseen one, standardises by itself"

    inductive: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved = study.once("aligned/standardised", lambda: self._solved(study))
        moments, everything, choice = study.moments, solved.everything, solved.choice
        bill = dict.fromkeys(("moments", "standardised_statistics", "standardised_validate"), Share())
        sites: dict[str, Alignment] = {}
        if self.inductive:
            sites, bill["standardised_moments"] = _sites(study), Share()
        facts = {
            "strength": _FAMILY.strengths[choice.index], "temperature": choice.temperature, "cv_loss": choice.loss,
            "cv_balanced_accuracy": choice.balanced_accuracy, "alignment": "standardised",
            "unseen_site": "moments of its own unlabelled batch", "alignments_shown_to_server": self.inductive,
        }  # fmt: skip
        model = Standardised(
            solved.head, Alignment(moments.mean, moments.scale), Alignment(everything.mean, everything.scale),
            study.problem.classes, study.problem.fingerprint, tuple(sites),
            np.array([one.location for one in sites.values()]).reshape(-1, study.problem.width),
            np.array([one.scale for one in sites.values()]).reshape(-1, study.problem.width),
            np.array([study.hospitals.weights[name] for name in sites], np.int64), facts,
        )  # fmt: skip
        return Outcome({"": model}, bill, solved.server_cpu, facts)

    def _solved(self, study: Study) -> "_Solved":
        sent = _pooled(study)
        folds, width, classes = study.settings.folds, study.problem.width, len(study.problem.classes)
        expect = {
            "counts": ArraySpec((folds, classes)), "sums": ArraySpec((folds, classes, width)),
            "gram": ArraySpec((folds, width * (width + 1) // 2)),
        }  # fmt: skip
        config = {"folds": folds}
        request = Request("standardised_statistics", sent, config, expect)
        parts = unpack(Update(total(reply.arrays for reply in study.hospitals.ask(request))))
        with study.clock(self.name) as spent:
            first, *others = parts
            everything = sum(others, start=first)
            heads = np.stack([_FAMILY.heads(everything - part) for part in parts])
        strengths = len(_FAMILY.strengths)
        expect = {
            "losses": ArraySpec((strengths, len(TEMPERATURES), classes)), "hits": ArraySpec((strengths, classes)),
        }  # fmt: skip
        request = Request("standardised_validate", {**sent, "heads": heads.astype(np.float32)}, config, expect)
        answers = Update(total(reply.arrays for reply in study.hospitals.ask(request)))
        choice = choose(answers, everything.counts)
        head = _FAMILY.heads(everything)[choice.index] * choice.temperature
        return _Solved(head, everything, choice, spent[0])


@dataclass(frozen=True)
class _Solved:
    head: Float
    everything: Statistics
    choice: Choice
    server_cpu: float


def _pooled(study: Study) -> dict[str, Array]:
    """The pooled moments, float64, that few cases lean on."""
    return {"mean": study.moments.mean, "scale": study.moments.scale}


def _sites(study: Study) -> dict[str, Alignment]:
    """Every hospital's alignment, by its name."""
    width = study.problem.width
    expect = {"location": ArraySpec((width,)), "scale": ArraySpec((width,))}
    replies = study.hospitals.ask(Request("standardised_moments", _pooled(study), expect=expect))
    return {reply.site: Alignment(reply.arrays["location"], reply.arrays["scale"]) for reply in replies}


METHODS: tuple[type[Method], ...] = (StandardisedDiscriminant,)
TASKS: Mapping[str, Task] = {
    task.__name__: task for task in (standardised_statistics, standardised_validate, standardised_moments)
}
