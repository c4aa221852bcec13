"""A saved head with the features it reads, ready to answer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, final

import numpy as np

from medtl_core.config import Settings, settings
from medtl_core.data.faults import Faults
from medtl_core.data.synthetic.built_in import BUILT_IN
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.features.dataset import Material
from medtl_core.features.encoders import encoder_of
from medtl_core.features.spec import FEATURE_SETTINGS, feature_spec, stated_settings
from medtl_core.federation.model import Classifier
from medtl_core.federation.registry import unpack
from medtl_core.predict.alike import OwnCases
from medtl_core.predict.answer import Answer, answers_of, findings_of, log_prevalence, placed
from medtl_core.predict.attribution import Attributor
from medtl_core.predict.cases import NewCases, drawn_cases, encoded_cases, image_cases, table_cases
from medtl_core.predict.colour import oddity
from medtl_core.predict.conformal import Conformal
from medtl_core.predict.gradcam import GradCam, Mapped
from medtl_core.predict.joint import joint_cases
from medtl_core.predict.outliers import Outliers
from medtl_core.predict.reasons import Fusing, Occluder, check_explained, lacking, parts_of_case, spans_of
from medtl_core.predict.rows import rows_of
from medtl_core.predict.saved import is_model, load_packed, load_whole
from medtl_core.predict.tap_maps import TapMaps
from medtl_core.predict.thresholds import Thresholds
from medtl_core.predict.usual import Usual
from medtl_core.runtime import one_thread, processor
from medtl_core.store import file_of, read_json, stem_of
from medtl_core.values import ABSENT, Array, Head

#: NewCases whose features are made together.
_TOGETHER = 256
#: Kind of the models of multi-label tasks.
_FINDINGS = "multi-label"


@final
@dataclass(frozen=True)
class Predictor:
    """A head, and how the features are made that it reads.

    Attributes:
        classifier: what answers.
        settings: under which features are made here.
        views: whose features are averaged.
        columns: names of the table's columns, in order; none for images.
        modality: what the federation's images show.
        sha256: of the head's arrays, which names this very head.
        conformal: what the sets of likely classes promise; None = nothing.
        outliers: what tells cases unlike the training cases; None = nothing does.
        thresholds: from which a class is answered; None = none was set.
        usual: between which limits the columns of its table were; None = it does not say.
        neighbours: the hospital's own cases, of which each answer names the most similar; None = it names none.
        explains: whether an answer says what each kind of a case, and each column of a table, adds to it.
    """

    classifier: Classifier
    settings: Settings
    views: tuple[str, ...]
    columns: tuple[str, ...] = ()
    modality: str = "not stated"
    sha256: str = ""
    conformal: Conformal | None = None
    outliers: Outliers | None = None
    thresholds: Thresholds | None = None
    usual: Usual | None = None
    neighbours: OwnCases | None = None
    explains: bool = False

    def __post_init__(self) -> None:
        if self.explains:
            check_explained(self.classifier, self.settings)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.classifier.classes

    @property
    def version(self) -> str:
        """What tells this head from others: the method and the first digits of two hashes."""
        return f"{self.classifier.kind} {self.sha256[:12]} on features {self.classifier.fingerprint[:12]}"

    def answers(
        self,
        inputs: Iterable[Path | str] | NewCases,
        *,
        prevalence: Mapping[str, float] | None = None,
        least: float = 0.0,
        workers: int = 1,
    ) -> Iterator[Answer]:
        """Yields an answer for every case, in order; a case that cannot be read costs that case only.

        Args:
            inputs: image files, scans and folders of them, or one CSV file where the head reads a table or several
                kinds; "phantom"
                or "tissue" stands for a few built-in pictures; or what `cases` returned of them.
            prevalence: share of each class where the head is used; None = all are taken as equally common.
            least: probability below which the likeliest class is in doubt.
            workers: images that are worked on at the same time.

        Raises:
            ConfigError: see `answer.log_prevalence`.
            DataError: a place is not there, or a table lacks a column.
        """
        shift = self.shift(prevalence or {}, least)
        whole = inputs if isinstance(inputs, NewCases) else self.cases(list(inputs))
        found = chain.from_iterable(self._answered(cases, shift, least, workers) for cases in _parts(whole))
        return self.usual.told(whole, found, apart=isinstance(self.classifier, Fusing)) if self.usual else found

    def shift(self, prevalence: Mapping[str, float], least: float = 0.0) -> Array:
        """Returns what a prevalence adds to the logits, float64 [C]; see `answers`.

        Raises:
            ConfigError: the head cannot be asked on these terms.
        """
        if self.tells_findings and (prevalence or least):
            raise ConfigError("each finding has a probability of its own here; leave prevalence and least out")
        if not 0 <= least <= 1:
            raise ConfigError(f"the least probability must be from 0 to 1, not {least:g}")
        return log_prevalence(prevalence, self.classes)

    def attributor(self) -> Attributor | GradCam:
        """Returns what shows where in a picture an answer comes from: exactly, beyond what the hospital's own
        cases show where it named some; or of a tuned backbone by Grad-CAM.

        Raises:
            ConfigError: the head is neither affine on pooled maps of images nor a model that draws maps.
        """
        if isinstance(self.classifier, Mapped) and not self.columns:
            return GradCam(self.classifier, self.settings, self.views)
        if not isinstance(self.classifier, Head) or self.columns:
            raise ConfigError(
                f"maps are made of affine heads on images and of tuned backbones; this is a model of kind "
                f"{self.classifier.kind}, whose answers --occlusion explains"
            )
        spec = feature_spec(self.settings, self.views, self.columns)
        maps = TapMaps(spec, self.settings)
        exact = Attributor(self.classifier, maps.records, maps)
        return exact.against(self.neighbours.examples) if self.neighbours else exact

    def occluder(self) -> Occluder:
        """Returns what shows, of any head on images, where an answer is lost when a place is covered.

        Raises:
            ConfigError: the head reads a table.
        """
        if self.columns or len(self.settings.kinds) > 1:
            raise ConfigError("a table has no places to cover; --explain tells what its columns, or several kinds, add")
        size = max(record.size for record, _ in feature_spec(self.settings, self.views).parts(self.settings))
        return Occluder(self.classifier, self.settings, self.views, size)

    def cases(self, inputs: Sequence[Path | str]) -> NewCases:
        """Returns the cases that inputs name; see `answers`."""
        if len(self.settings.kinds) > 1:
            if len(inputs) != 1:
                raise DataError(f"the head reads {self.settings.backbone}; name one CSV file with a case a row")
            lacking = isinstance(self.classifier, Fusing)
            return joint_cases(Path(inputs[0]), self.settings, self.columns, lacking=lacking)
        built_in = len(inputs) == 1 and str(inputs[0]) in BUILT_IN and not Path(inputs[0]).exists()
        if not self.settings.kinds & {"image", "table"}:
            encoder = encoder_of(self.settings.backbone)
            drawn = drawn_cases(str(inputs[0]), 0, encoder.column) if built_in else None
            return drawn or encoded_cases(encoder, inputs, self.columns)
        if not self.columns and built_in:
            return drawn_cases(str(inputs[0]), max(self.settings.sizes, default=0))
        if not self.columns:
            return image_cases(inputs)
        if len(inputs) != 1:
            raise DataError("the head reads a table; name one CSV file")
        return table_cases(Path(inputs[0]), self.columns)

    def _answered(self, cases: NewCases, shift: Array, least: float, workers: int) -> Iterator[Answer]:
        wrong, faults, paths = dict[str, str](), Faults(), cases.paths
        yield from (Answer(name, fault=fault) for name, fault in cases.faults)
        if not cases.names:
            return
        entry = (self.settings, self.views, self.columns, self.modality)
        material, values = rows_of(Material(cases.examples, *entry), faults, workers)
        for fault in faults.causes:  # a row of a table is at fault for what its image is
            wrong |= {name: fault.cause for name, path in zip(cases.names, paths, strict=True) if path in fault.places}
        told = [name for name in cases.names if name not in wrong]
        logits = self.classifier.logits(values, material) if told else np.zeros((0, len(shift)))
        if self.tells_findings:
            answered = iter(findings_of(told, logits, self.classes))
        else:
            seen = self._seen(logits)
            inside = self.conformal.inside(logits)[:, seen] if self.conformal and told else None
            named = [self.classes[column] for column in seen.tolist()]
            answers = answers_of(told, (logits + shift)[:, seen], named, least, inside)
            if self.thresholds and told:
                answers = self.thresholds.applied(answers, logits, self.classes)
            if self.outliers and told:
                answers = placed(answers, self.outliers.far(values))
            answered = iter(self._explained(answers, values))
        for name, path in zip(cases.names, paths, strict=True):
            answer = Answer(name, fault=wrong[name]) if name in wrong else next(answered)
            odd = "" if answer.fault else oddity(Path(path), self.modality)
            yield replace(answer, doubt=odd) if odd else answer

    def _explained(self, answers: Sequence[Answer], values: Array) -> Iterator[Answer]:
        """Answers with what was asked beside them, from the features [n, d] that they came from."""
        near = self.neighbours.nearest(values) if self.neighbours and len(answers) else [()] * len(answers)
        joint = self.explains and len(self.settings.kinds) > 1
        spans = spans_of(feature_spec(self.settings, self.views, self.columns), self.settings) if joint else {}
        columns = self.columns if self.settings.backbone == "table" else ()
        for answer, row, alike in zip(answers, values, near, strict=True):
            parts = parts_of_case(self.classifier, row, answer.largest, self.columns, spans) if self.explains else {}
            doubt = answer.doubt or lacking(self.classifier, row, columns)
            yield replace(answer, parts=parts, alike=alike, doubt=doubt)

    def _seen(self, logits: Array) -> Array:
        """Columns of the classes that some hospital has shown; where no head says so, by the mark in the logits."""
        shown = self.classifier.seen if isinstance(self.classifier, Head) else (logits > ABSENT / 2).any(axis=0)
        return np.flatnonzero(shown)

    @property
    def tells_findings(self) -> bool:
        """Whether a case may have several of the classes, each with a probability of its own."""
        return self.classifier.kind == _FINDINGS


def load(path: Path | str, *, weights: str = "", device: str = "auto", cache: str = "off") -> Predictor:
    """Returns the predictor of a saved head, checked against the network that is here.

    Args:
        path: of the head: its manifest `NAME.json`, its `NAME.safetensors`, or their common name.
        weights: file or folder with the backbone's weights; "" = where the backbone's record says.
        device: "auto", "cpu" or "cuda"; see the setting.
        cache: folder in which features are kept; "off" = none.

    Raises:
        WeightsError: the files are damaged, do not say how their features are made, or the features that are made here
            are others than the head reads: another network, other weights, another version.
        ConfigError: the head asks the hospital's own cases for something; it cannot be used alone.
    """
    one_thread()
    classifier, outliers = _classifier(Path(path))
    # Looked for once, not for every answer; a word that names none is the person's and not the manifest's.
    device = processor(device).place if device == "auto" else settings({"device": device}).device
    facts = stated_features(classifier, Path(path))
    columns, views = _columns(facts, Path(path)), tuple(map(str, facts["entry_views"]))
    try:
        read = {name.replace("_", "-"): value for name, value in stated_settings(facts).items()}
        chosen = settings({**read, "weights": weights, "device": device, "cache": cache})
        here = feature_spec(chosen, views, columns).fingerprint
    except ConfigError as error:
        raise WeightsError(f"the manifest of {path} asks for features that cannot be made: {error}") from error
    check_fingerprint(here, classifier.fingerprint)
    sha256 = str(read_json(file_of(stem_of(Path(path)), "json"))["sha256"])
    conformal = Conformal.of_facts(classifier.facts.get("conformal", {}), len(classifier.classes))
    thresholds = Thresholds.of_facts(classifier.facts.get("operating", {}), classifier.classes)
    about = str(facts.get("modality", "not stated")), sha256
    usual = Usual.of_facts(classifier.facts, columns)
    return Predictor(classifier, chosen, views, columns, *about, conformal, outliers, thresholds, usual)


def _parts(whole: NewCases) -> Iterator[NewCases]:
    """The same cases, so many at a time."""
    for first in range(0, max(len(whole.names), 1), _TOGETHER):
        rows = np.arange(first, min(first + _TOGETHER, len(whole.names)))
        names = whole.names[first : first + _TOGETHER]
        yield NewCases(names, whole.examples.take(rows), whole.faults if not first else ())


def _classifier(path: Path) -> tuple[Classifier, Outliers | None]:
    return (unpack(*load_packed(path)), None) if is_model(path) else load_whole(path)


def stated_features(classifier: Classifier, path: Path) -> Mapping[str, Any]:
    """Returns what a head's manifest says of its features, their views among it; see `features.spec.feature_facts`.

    Raises:
        WeightsError: it does not say how they are made.
    """
    facts: Any = classifier.facts.get("features")
    told = isinstance(facts, Mapping) and {*FEATURE_SETTINGS, "entry_views"} <= facts.keys()
    if not told or not isinstance(facts["entry_views"], list | tuple):
        raise _untold(path)
    return dict(facts)


def check_fingerprint(here: str, federation: str) -> None:
    """Refuses a head that reads other features than are made here.

    Raises:
        WeightsError: it does.
    """
    if here != federation:
        raise WeightsError(
            f"the features made here ({here[:12]}) are not those the head reads ({federation[:12]}): other backbone "
            "weights, another network, another version, or other table columns. Install the weights the federation "
            "used (--weights)"
        )


def _untold(path: Path) -> WeightsError:
    why = "does not say how its features are made; train and save it with this version of medtl"
    return WeightsError(f"the manifest of {path} {why}")


def _columns(facts: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names of the table's columns; a head that reads a table must say them."""
    columns = facts.get("columns", ())
    if not isinstance(columns, list | tuple) or ("table" in str(facts["backbone"]).split("+") and not columns):
        raise _untold(path)
    return tuple(map(str, columns))
