"""Test cases for a run's report, rightly answered and missed, with maps of where the answers come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from medtl_core.cli.maps import MEANINGLESS
from medtl_core.cli.plan import cores
from medtl_core.config import Settings, settings
from medtl_core.data.shared import judged_rows, shared_parts, shared_source
from medtl_core.data.views import Pixels, square
from medtl_core.deploy.overview import STARTED
from medtl_core.errors import ConfigError, RunError
from medtl_core.evaluation.result import Result
from medtl_core.predict.answer import Answer
from medtl_core.predict.attribution import Attributor, ClassMap, png_of
from medtl_core.predict.cases import NewCases
from medtl_core.predict.gradcam import GradCam, Mapped
from medtl_core.predict.predictor import Predictor, load
from medtl_core.report.classes import confusion_of
from medtl_core.report.examples import Example, Gallery
from medtl_core.report.folder import read_results
from medtl_core.report.summary import summarise
from medtl_core.rng import stream
from medtl_core.store import file_names
from medtl_core.values import Array, Examples, Head

#: Pictures on a page, so that it still prints on few sheets.
MOST = 8
#: Share of the cases that may be answered otherwise than in the run: the last bits of a feature depend on the machine.
_ROUNDED = 0.01
_EXACT = (
    "The map is exact: every place's part of the answer, beyond what training cases of the other classes show there."
)
_TUNED = "The map is Grad-CAM's, of what the tuned network saw; its parts are no shares of the answer."
_MEANINGLESS = "Do not read these maps: they correlate with those of shuffled heads by {:.2f}."


@dataclass(frozen=True)
class _Answered:
    """The test cases of a run that can be read, and what its head answers."""

    cases: Examples
    answers: Sequence[Answer]

    def maps(self, explainer: Attributor | GradCam, row: int) -> ClassMap:
        """The map of a case's answer; of a case of several pictures the one that speaks for it most."""
        every = explainer.explain(self._picture(row), self.answers[row].largest)
        return max(every, key=lambda one: float(one.parts.sum()))

    def likeness(self, explainer: Attributor | GradCam, row: int) -> float:
        """See `Attributor.likeness`."""
        dice = stream(0, "maps", str(row))
        return explainer.likeness(self._picture(row), self.answers[row].largest, rng=dice)

    def check_same(self, then: Array | None) -> None:
        """Refuses cases that are not those a run was judged on, by its cases by class and answer [C, C]."""
        classes = self.cases.task.classes
        now = np.zeros((len(classes), len(classes)))
        for number, answer in zip(self.cases["label"].tolist(), self.answers, strict=True):
            now[number, classes.index(answer.largest)] += 1
        if then is None or then.shape != now.shape or (then.sum(axis=1) != now.sum(axis=1)).any():
            raise RunError("no example can be shown: the test cases are not those of the run; the data have changed")
        if np.abs(then - now).sum() / 2 > _ROUNDED * now.sum():
            raise RunError("no example can be shown: the head answers otherwise than in the run; the data have changed")

    def _picture(self, row: int) -> object:
        return self.cases["path" if "path" in self.cases.columns else "image"][row]


def gallery_of(run: Path, most: int) -> Gallery:
    """Returns a missed and a found test case of each class, the class that is missed most first.

    Of several cases it is the middle one by the probability of its own class, neither the best nor the worst.

    Args:
        run: folder of a simulation; of several seeds the first one's head answers.
        most: cases, at most.

    Raises:
        ConfigError: the run's cases are no pictures, or not the server's, or private.
        DataError: the data are no longer where they were.
        RunError: the run holds no head for all hospitals, or its test cases are others today.
        WeightsError: the head's files are damaged, or its features cannot be made here.
    """
    if not 1 <= most <= MOST:
        raise ConfigError(f"--maps {most} must be from 1 to {MOST} pictures")
    results = sorted(read_results(run), key=lambda result: result.seed)
    first, focus = results[0], summarise(results).focus
    chosen = _checked(run, first)
    predictor = _loaded(run / f"seed-{first.seed}" / "heads" / file_names([focus])[focus], chosen)
    test, known = _opened(chosen)
    judged, explainer = _answered(predictor, test), predictor.attributor()
    judged.check_same(confusion_of([first], focus))
    drawing = explainer.against(known) if isinstance(explainer, Attributor) else explainer
    shown = picked(judged.cases["label"], judged.answers, test.task.classes)[:most]
    names = [test.task.classes[number] for number in judged.cases["label"][shown].tolist()]
    cases = [
        Example(
            _png(judged.maps(drawing, row)), name, judged.answers[row].probabilities, str(judged.cases["site"][row])
        )
        for row, name in zip(shown, names, strict=True)
    ]
    alike = fmean(judged.likeness(explainer, row) for row in shown)
    doubt = _MEANINGLESS.format(alike) if alike > MEANINGLESS else ""
    return Gallery(cases, first.seed, _TUNED if isinstance(explainer, GradCam) else _EXACT, first.data.synthetic, doubt)


def picked(label: Array, answers: Sequence[Answer], classes: Sequence[str]) -> list[int]:
    """Returns rows of a missed and a found case of each class, as far as there are such, the most missed class first.

    Args:
        label: int64 [n], of the cases.
        answers: n, none without probabilities.
        classes: names of the labels.
    """
    own = [answer.probabilities.get(classes[number], 0.0) for number, answer in zip(label, answers, strict=True)]
    found = np.asarray([answer.largest == classes[number] for number, answer in zip(label, answers, strict=True)])
    there = [number for number in range(len(classes)) if (label == number).any()]
    rows = list[int]()
    for number in sorted(there, key=lambda number: found[label == number].mean()):
        for right in (False, True):
            same = np.flatnonzero((label == number) & (found == right)).tolist()
            rows += sorted(same, key=lambda row: own[row])[(len(same) - 1) // 2 :][:1]
    return rows


def _checked(run: Path, result: Result) -> Settings:
    """The settings of a run whose test cases this machine may open again and show."""
    chosen, seed = settings(result.settings), run / f"seed-{result.seed}"
    for refused, why in (
        (not seed.is_dir() or (run / STARTED).exists(), "its hospitals were real and keep their cases"),
        (chosen.privacy != "none", "it is private, and a picture would tell what it promised not to"),
        (chosen.test != "server", "its hospitals judged on cases of their own"),
        (chosen.kinds != {"image"}, f"it reads {chosen.backbone}, and has no maps on pictures"),
    ):
        if refused:
            raise ConfigError(f"no example of {run} can be shown: {why}; leave --maps out")
    return chosen


def _loaded(head: Path, chosen: Settings) -> Predictor:
    if not head.with_name(f"{head.name}.json").is_file():
        raise RunError(f"no example can be shown: {head.name} has no head that answers for all hospitals")
    predictor = load(head, weights=chosen.weights, device=chosen.device, cache=chosen.cache)
    if predictor.tells_findings or not isinstance(predictor.classifier, Head | Mapped):
        kind = predictor.classifier.kind
        raise ConfigError(f"no example can be shown: a model of kind {kind} has no maps; leave --maps out")
    return predictor


def _opened(chosen: Settings) -> tuple[Examples, Examples]:
    """The cases that the run was judged on, and those that its hospitals trained on."""
    source, parts = shared_source(chosen), shared_parts(chosen)
    known = source.examples.take(np.concatenate([site.train for site in parts.sites]))
    if not chosen.test_path:
        return source.examples.take(parts.server_test), known
    test = shared_source(chosen.replace(data_path=chosen.test_path)).examples
    return test.take(judged_rows(test)), known


def _answered(predictor: Predictor, cases: Examples) -> _Answered:
    new = NewCases(tuple(map(str, range(len(cases)))), cases)
    answers = list(predictor.answers(new, workers=cores()))
    rows = np.flatnonzero([not answer.fault for answer in answers])
    return _Answered(cases.take(rows), [answers[row] for row in rows.tolist()])


def _png(found: ClassMap) -> bytes:
    """A PNG file of a picture and, right of it, its map."""
    shown = found.shown()
    side = len(shown)
    between: Pixels = np.full((side, max(side // 32, 1), 3), 255, np.uint8)
    return png_of(np.concatenate([square(found.picture, side), between, shown], axis=1))
