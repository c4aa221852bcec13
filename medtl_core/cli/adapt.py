"""`medtl adapt`: a saved classifier and a few labelled cases become a new hospital's own, on its own machine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from medtl_core.cli import console
from medtl_core.cli.plan import name_data
from medtl_core.config import Settings, Value
from medtl_core.data.leak import check_leaks
from medtl_core.data.source import Source, open_source
from medtl_core.errors import ConfigError, RunError, WeightsError, positive
from medtl_core.evaluation.scores import auroc, balanced_accuracy
from medtl_core.features.extract import extract, feature_spec
from medtl_core.features.spec import FEATURE_SETTINGS, Spec
from medtl_core.federation.model import Classifier
from medtl_core.federation.saved import is_model, load_head, load_packed, save_head, save_model
from medtl_core.methods.adaptation import Support, adapt_head, adapt_metric, check_support
from medtl_core.methods.episodes import draw_shots
from medtl_core.methods.models.metric import Metric
from medtl_core.rng import stream
from medtl_core.runtime import one_thread
from medtl_core.store import file_of, stem_of
from medtl_core.values import ABSENT, Examples, Head, Scores

Index = NDArray[np.int64]


@dataclass(frozen=True)
class AdaptOrder:
    """What was typed.

    Attributes:
        head: a saved metric or head: its manifest, its weights, or their common name.
        data: the hospital's folder or file.
        shots: labelled cases a class, at most.
        seed: of the draw.
        out: name of the files to write; None = "HEAD-DATA" in the current directory.
        weights: file or folder with the backbone's weights; "" = where the backbone's record says.
    """

    head: Path
    data: str
    shots: int = 5
    seed: int = 0
    out: Path | None = None
    weights: str = ""


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        saved: the manifest written.
        kind: "metric", or the head's.
        classes: of the hospital, in order.
        new: those the federation never saw.
        cases: labelled cases of each class that were used.
        before, after: balanced accuracy and AUROC, None where undefined; empty without cases to judge on.
        judged: number of cases judged on.
        judged_on: which these are, in words.
        seconds: from opening the data to the file.
    """

    saved: Path
    kind: str
    classes: tuple[str, ...]
    new: tuple[str, ...]
    cases: Mapping[str, int]
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    judged: int
    judged_on: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the result as JSON-able values."""
        return {
            **vars(self), "saved": str(self.saved), "classes": list(self.classes), "new": list(self.new),
            "cases": dict(self.cases), "before": dict(self.before), "after": dict(self.after),
        }  # fmt: skip


def adapt(order: AdaptOrder) -> Adapted:
    """Adapts, judges and saves; nothing is written before everything else has succeeded.

    Raises:
        ConfigError: `shots` is not positive, or the saved model is not one that adapts.
        WeightsError: the saved files are damaged, do not say how their features are made, or the features made here
            are others.
        DataError: the hospital's data cannot be used, a new class has no labelled case, or a head shares no class.
        RunError: the files to write exist already.
    """
    positive(shots=order.shots)
    one_thread()
    started = time.perf_counter()
    classifier = _load(order.head)
    out = order.out or Path(f"{stem_of(order.head).name}-{Path(order.data).stem}")
    _check_free(out)
    settings, views = _settings(classifier, order)
    source = open_source(settings)
    spec = feature_spec(settings, views, source.columns)
    _check_fingerprint(classifier, spec)
    support_rows, judged_rows, judged_on = _rows(source.examples, order)
    support = _support(source, support_rows, spec, settings)
    adapted = _adapted(classifier, support)
    judged = source.examples.take(judged_rows)
    values = extract(judged, spec, settings).values if len(judged) else support.values[:0]
    before, after = (_figures(one, values, judged) for one in (_seen_by(classifier, support.classes), adapted))
    saved = _save(adapted, classifier, out)
    known = _known(classifier)
    return Adapted(
        saved, adapted.kind, support.classes, tuple(name for name in support.classes if name not in known),
        {name: int(count) for name, count in zip(support.classes, support.counts, strict=True)},
        before, after, len(judged), judged_on, time.perf_counter() - started,
    )  # fmt: skip


def lines(adapted: Adapted) -> list[str]:
    """Returns the result as lines for a person."""
    cases = ", ".join(f"{name} {count}" for name, count in adapted.cases.items())
    text = [f"learnt from  {cases}"]
    if adapted.new:
        text.append(f"new classes  {', '.join(adapted.new)}")
    text.append(f"judged on    {adapted.judged_on}" + (f", {adapted.judged} cases" if adapted.judged else ""))
    if adapted.after:
        text.append(f"{'':<18}{'before':>8}{'after':>8}")
        names = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}
        for key, name in names.items():
            text.append(
                f"{name:<18}" + "".join(f"{_percent(side.get(key)):>8}" for side in (adapted.before, adapted.after))
            )
    return [*text, f"seconds      {adapted.seconds:.1f}", f"saved        {adapted.saved}"]


def _percent(figure: float | None) -> str:
    return "-" if figure is None else f"{100 * figure:.1f}"


def _load(path: Path) -> Metric | Head:
    if not is_model(path):
        return load_head(path)
    kind, packed = load_packed(path)
    if kind == Metric.kind:
        return Metric.unpack(packed)
    raise ConfigError(
        f"{path} is a model of kind {kind!r}, which does not adapt; give a saved `metric` or an affine head, "
        "e.g. run `medtl simulate` with methods=metric"
    )


def _check_free(out: Path) -> None:
    for suffix in ("safetensors", "json"):
        place = file_of(stem_of(out), suffix)
        if place.exists():
            raise RunError(f"{place} exists already; choose another name with --out")


def _settings(classifier: Metric | Head, order: AdaptOrder) -> tuple[Settings, tuple[str, ...]]:
    """The settings under which the hospital's features are the federation's, and the views of the federation's data."""
    told = classifier.facts.get("features")
    if not isinstance(told, Mapping) or not {*FEATURE_SETTINGS, "entry_views"} <= told.keys():
        raise WeightsError(
            f"the manifest of {order.head} does not say how its features are made (facts: features); "
            "train and save it with this version of medtl"
        )
    named = {key.replace("-", "_"): value for key, value in name_data(order.data).items()}
    read: dict[str, Value] = {name: told[name] for name in FEATURE_SETTINGS}
    # `test_path` says that cases to judge on are found here, so that none is held out of the labelled ones
    chosen = Settings().replace(**{**named, **read, "weights": order.weights, "test_path": str(order.data)})
    return chosen, tuple(str(view) for view in told["entry_views"])


def _check_fingerprint(classifier: Classifier, spec: Spec) -> None:
    if spec.fingerprint != classifier.fingerprint:
        raise WeightsError(
            f"the features made here ({spec.fingerprint[:12]}) are not those the head reads "
            f"({classifier.fingerprint[:12]}): other backbone weights, another version, or other table columns. "
            "Install the weights the federation used (--weights)"
        )


def _rows(examples: Examples, order: AdaptOrder) -> tuple[Index, Index, str]:
    """Rows to learn from, rows to judge on, and what the latter are."""
    held = examples["split"] == "test"
    train = np.flatnonzero(~held)
    rng = stream(order.seed, "adapt")
    drawn = train[draw_shots(examples["label"][train], examples["patient"][train], order.shots, rng=rng)]
    if held.any():
        judged, words = np.flatnonzero(held), "its test split"
    else:
        mine = np.isin(examples["patient"][train], examples["patient"][drawn])
        judged, words = train[~mine], "its labelled cases that were not used"
    check_leaks(examples, {"the labelled cases": drawn, "the cases to judge on": judged})
    return drawn, judged, words if len(judged) else "nothing: no labelled case was left"


def _support(source: Source, rows: Index, spec: Spec, settings: Settings) -> Support:
    part, classes = source.examples.take(rows), source.examples.task.classes
    if not len(part):  # before any network is loaded
        check_support(Support(np.zeros((0, 0), np.float32), part["label"], part["patient"], classes), classes)
    return Support(extract(part, spec, settings).values, part["label"], part["patient"], classes)


def _adapted(classifier: Metric | Head, support: Support) -> Metric | Head:
    return adapt_metric(classifier, support) if isinstance(classifier, Metric) else adapt_head(classifier, support)


def _known(classifier: Metric | Head) -> set[str]:
    seen = classifier.counts > 0 if isinstance(classifier, Metric) else classifier.bias > ABSENT / 2
    return {name for name, here in zip(classifier.classes, seen, strict=True) if here}


@dataclass(frozen=True)
class _SeenBy:
    """The federation's classifier, answering with the hospital's classes."""

    federated: Metric | Head
    classes: tuple[str, ...]

    def logits(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        found = self.federated.logits(values)
        where = {name: row for row, name in enumerate(self.federated.classes)}
        columns = [
            found[:, where[name]] if name in where else np.full(len(values), ABSENT) for name in self.classes
        ]  # fmt: skip
        return np.stack(columns, axis=1)


def _seen_by(classifier: Metric | Head, classes: tuple[str, ...]) -> _SeenBy | None:
    """None where the federation knows none of the hospital's classes: then nothing was there before."""
    return _SeenBy(classifier, classes) if _known(classifier) & set(classes) else None


def _figures(
    classifier: Metric | Head | _SeenBy | None, values: NDArray[np.float32], judged: Examples
) -> dict[str, float | None]:
    if not len(judged) or classifier is None:
        return {}
    group = np.unique(judged["patient"], return_inverse=True)[1].astype(np.int64)
    scores = Scores(classifier.logits(values), judged["label"], judged["site"], group)
    return {"balanced_accuracy": balanced_accuracy(scores), "auroc": auroc(scores)}


def _save(adapted: Metric | Head, classifier: Metric | Head, out: Path) -> Path:
    stem = stem_of(out)
    adapted = replace(adapted, facts={**adapted.facts, "from": classifier.kind})
    if isinstance(adapted, Metric):
        return save_model(adapted.pack(), adapted.kind, stem.parent, stem.name)
    return save_head(adapted, stem.parent, stem.name)


def adapt_command(
    head: Annotated[
        Path, typer.Argument(metavar="HEAD", help="A saved metric (best) or head, in a run's heads folder.")
    ],
    data: Annotated[str, typer.Option(metavar="DIR", help="The new hospital's labelled cases.")],
    shots: Annotated[int, typer.Option(help="Labelled cases of each class to learn from, at most.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the draw of these cases.")] = 0,
    weights: Annotated[str, typer.Option(metavar="PATH", help="File or folder with the backbone's weights.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="New file; HEAD-DIR here if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Give a new hospital its own head in seconds, on its own machine, even with classes nobody has seen."""
    adapted = adapt(AdaptOrder(head, data, shots, seed, out, weights))
    if as_json:
        console.say_json(adapted.as_dict())
        return
    screen = console.console_of()
    for line in lines(adapted):
        console.say(screen, line)


COMMANDS = {"adapt": console.command(adapt_command)}
