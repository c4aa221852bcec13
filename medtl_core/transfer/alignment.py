"""Alignment of hospitals: features are shifted and scaled where they are made, before anything is summed.

The plain way is per-hospital standardisation, the analogue of adaptive batch normalisation on frozen features (Li et
al., "AdaBN", Pattern Recognition 80, 2018; METHODS section 4a). A hospital that did not train brings only unlabelled
cases: its batch is standardised by its own moments. Label-aware alignment is in `combat`.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import numpy as np

from medtl_core.aggregate.folds import total
from medtl_core.heads.closed import Discriminant
from medtl_core.heads.crossval import TEMPERATURES, Choice, choose, fold_of, held_out
from medtl_core.heads.statistics import Float, Statistics, collect, pack, unpack
from medtl_core.methods.hospitals import ArraySpec, Request
from medtl_core.methods.method import Method
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData, Task
from medtl_core.transfer.standardised import Alignment, Standardised, of_batch
from medtl_core.values import Array, Released, Update

_FAMILY = Discriminant()

#: A hospital's alignment from its own cases and what the server sent.
Aligner = Callable[[SiteData, Arrays], Alignment]


def own_moments(site: SiteData, arrays: Arrays) -> Alignment:
    """A training hospital's standardisation by its own moments; `mean` and `scale` are the pooled ones."""
    return of_batch(site.values, Alignment(arrays["mean"], arrays["scale"]))


def aligned_tasks(name: str, aligner: Aligner) -> dict[str, Task]:
    """Returns what a hospital can be asked under an alignment: NAME_statistics, NAME_validate, NAME_moments.

    The alignment is worked out from all its training cases, so a fold's held-out cases took part in it: without their
    labels in `standardised`, with them in `combat`. Cross-validated losses are a little too good by that.
    """
    return {
        f"{name}_statistics": partial(_statistics, aligner),
        f"{name}_validate": partial(_validate, aligner),
        f"{name}_moments": partial(_moments, aligner),
    }


def _statistics(aligner: Aligner, site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Counts, class sums and Gram matrix of the aligned features, each fold."""
    folds = int(config["folds"])
    fold = fold_of(site.patients, site.label, folds, site.seed)
    values = aligner(site, arrays).apply(site.values)
    return Released(pack([collect(values[fold == f], site.label[fold == f], site.classes) for f in range(folds)]))


def _validate(aligner: Aligner, site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Log-loss and hits of fold heads on the aligned features of the cases their fold left out."""
    fold = fold_of(site.patients, site.label, int(config["folds"]), site.seed)
    return Released(held_out(arrays["heads"], aligner(site, arrays).apply(site.values), site.label, fold))


def _moments(aligner: Aligner, site: SiteData, arrays: Arrays, config: Config) -> Released:
    """The alignment itself: unlike sums, it tells the server about one hospital; only `-inductive` asks for it."""
    own = aligner(site, arrays)
    return Released(Update({"location": own.location, "scale": own.scale}))


@dataclass(frozen=True)
class AlignedDiscriminant(Method):
    """The cross-validated discriminant on aligned features; what differs is how a hospital finds its alignment.

    Attributes:
        inductive: whether the model remembers the alignments of the training hospitals for their later cases. The
            server then sees each hospital's alignment, not only sums.
    """

    #: Begins the names of the hospital's tasks, see `aligned_tasks`.
    aligner: ClassVar[str]

    inductive: bool

    @abstractmethod
    def prepare(self, study: Study) -> tuple[dict[str, Array], dict[str, Share]]:
        """Returns what hospitals need to align themselves, and the bill of finding it out."""

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved = study.once(f"aligned/{self.aligner}", lambda: self._solved(study))
        moments, everything = study.moments, solved.everything
        bill = {**solved.bill, f"{self.aligner}_statistics": Share(), f"{self.aligner}_validate": Share()}
        sites: dict[str, Alignment] = {}
        if self.inductive:
            sites, phase = self._sites(study, solved.sent), f"{self.aligner}_moments"
            bill[phase] = Share()
        choice = solved.choice
        facts = {
            "strength": _FAMILY.strengths[choice.index], "temperature": choice.temperature, "cv_loss": choice.loss,
            "cv_balanced_accuracy": choice.balanced_accuracy, "alignment": self.aligner,
            "unseen_site": "moments of its own unlabelled batch", "alignments_shown_to_server": self.inductive,
        }  # fmt: skip
        model = Standardised(
            solved.head, Alignment(moments.mean, moments.scale), Alignment(everything.mean, everything.scale),
            study.problem.classes, study.problem.fingerprint, tuple(sites), tuple(sites.values()),
            tuple(study.hospitals.weights[name] for name in sites), facts,
        )  # fmt: skip
        return Outcome({"": model}, bill, solved.server_cpu, facts)

    def _solved(self, study: Study) -> "_Solved":
        sent, bill = self.prepare(study)
        folds, width, classes = study.settings.folds, study.problem.width, len(study.problem.classes)
        expect = {
            "counts": ArraySpec((folds, classes)), "sums": ArraySpec((folds, classes, width)),
            "gram": ArraySpec((folds, width * (width + 1) // 2)),
        }  # fmt: skip
        config = {"folds": folds}
        request = Request(f"{self.aligner}_statistics", sent, config, expect)
        parts = unpack(Update(total(reply.arrays for reply in study.hospitals.ask(request))))
        with study.clock(self.name) as spent:
            first, *others = parts
            everything = sum(others, start=first)
            heads = np.stack([_FAMILY.heads(everything - part) for part in parts])
        strengths = len(_FAMILY.strengths)
        expect = {
            "losses": ArraySpec((strengths, len(TEMPERATURES), classes)), "hits": ArraySpec((strengths, classes)),
        }  # fmt: skip
        request = Request(f"{self.aligner}_validate", {**sent, "heads": heads.astype(np.float32)}, config, expect)
        answers = Update(total(reply.arrays for reply in study.hospitals.ask(request)))
        choice = choose(answers, everything.counts)
        head = _FAMILY.heads(everything)[choice.index] * choice.temperature
        return _Solved(head, everything, choice, sent, bill, spent[0])

    def _sites(self, study: Study, sent: Arrays) -> dict[str, Alignment]:
        width = study.problem.width
        expect = {"location": ArraySpec((width,)), "scale": ArraySpec((width,))}
        replies = study.hospitals.ask(Request(f"{self.aligner}_moments", sent, expect=expect))
        return {reply.site: Alignment(reply.arrays["location"], reply.arrays["scale"]) for reply in replies}


@dataclass(frozen=True)
class _Solved:
    head: Float
    everything: Statistics
    choice: Choice
    sent: Mapping[str, Array]
    bill: Mapping[str, Share]
    server_cpu: float


@final
@dataclass(frozen=True)
class StandardisedDiscriminant(AlignedDiscriminant):
    """Every hospital standardises by its own moments (METHODS section 4a)."""

    syntax: ClassVar[str] = "discriminant-standardised(?P<inductive>-inductive)?"
    example: ClassVar[str] = "discriminant-standardised"
    summary: ClassVar[str] = "the discriminant on features each hospital, also an unseen one, standardises by itself"
    aligner: ClassVar[str] = "standardised"

    def prepare(self, study: Study) -> tuple[dict[str, Array], dict[str, Share]]:
        """See AlignedDiscriminant."""
        return {"mean": study.moments.mean, "scale": study.moments.scale}, {"moments": Share()}


METHODS: tuple[type[Method], ...] = (StandardisedDiscriminant,)
TASKS: Mapping[str, Task] = aligned_tasks("standardised", own_moments)
