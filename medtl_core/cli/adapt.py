"""`medtl adapt`: a saved classifier and a few labelled cases become a new hospital's own, on its own machine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

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
Logits = NDArray[np.float64]


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
    classifier, out = _load(order.head), _free_stem(order)
    settings, views = _settings(classifier, order)
    source = open_source(settings)
    spec = feature_spec(settings, views, source.columns)
    _check_fingerprint(classifier, spec)
    drawn, judged, judged_on = _rows(source.examples, order)
    support, classes = _support(source, drawn, spec, settings), source.examples.task.classes
    adapted = adapt_metric(classifier, support) if isinstance(classifier, Metric) else adapt_head(classifier, support)
    values = extract(judged, spec, settings).values if len(judged) else support.values[:0]
    answers = (_federated_logits(classifier, classes, values), adapted.logits(values))
    before, after = (_figures(logits, judged) for logits in answers)
    known = _known(classifier)
    return Adapted(
        saved=_save(adapted, classifier, out),
        kind=adapted.kind,
        classes=classes,
        new=tuple(name for name in classes if name not in known),
        cases={name: int(count) for name, count in zip(classes, support.counts, strict=True)},
        before=before,
        after=after,
        judged=len(judged),
        judged_on=judged_on,
        seconds=time.perf_counter() - started,
    )


def lines(adapted: Adapted) -> list[str]:
    """Returns the result as lines for a person."""
    cases = ", ".join(f"{name} {count}" for name, count in adapted.cases.items())
    judged_on = adapted.judged_on + (f", {adapted.judged} cases" if adapted.judged else "")
    figures = []
    if adapted.after:
        figures.append(f"{'':<18}{'before':>8}{'after':>8}")
        for key, name in (("balanced_accuracy", "balanced accuracy"), ("auroc", "AUROC")):
            sides = [_percent(side.get(key)) for side in (adapted.before, adapted.after)]
            figures.append(f"{name:<18}{sides[0]:>8}{sides[1]:>8}")
    return [
        f"learnt from  {cases}",
        *([f"new classes  {', '.join(adapted.new)}"] if adapted.new else []),
        f"judged on    {judged_on}",
        *figures,
        f"seconds      {adapted.seconds:.1f}",
        f"saved        {adapted.saved}",
    ]


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


def _free_stem(order: AdaptOrder) -> Path:
    """The common name of the two files to write."""
    stem = stem_of(order.out or Path(f"{stem_of(order.head).name}-{Path(order.data).stem}"))
    for place in (file_of(stem, "safetensors"), file_of(stem, "json")):
        if place.exists():
            raise RunError(f"{place} exists already; choose another name with --out")
    return stem


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


def _rows(examples: Examples, order: AdaptOrder) -> tuple[Index, Examples, str]:
    """Rows to learn from, the cases to judge on, and what the latter are."""
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
    return drawn, examples.take(judged), words if len(judged) else "nothing: no labelled case was left"


def _support(source: Source, rows: Index, spec: Spec, settings: Settings) -> Support:
    part, classes = source.examples.take(rows), source.examples.task.classes
    if not len(part):  # before any network is loaded
        check_support(Support(np.zeros((0, 0), np.float32), part["label"], part["patient"], classes), classes)
    return Support(extract(part, spec, settings).values, part["label"], part["patient"], classes)


def _known(classifier: Metric | Head) -> set[str]:
    seen = classifier.counts > 0 if isinstance(classifier, Metric) else classifier.bias > ABSENT / 2
    return {name for name, here in zip(classifier.classes, seen, strict=True) if here}


def _federated_logits(
    classifier: Metric | Head, classes: tuple[str, ...], values: NDArray[np.float32]
) -> Logits | None:
    """What the federation's classifier answers with the hospital's classes; None where it knows none of them."""
    if not _known(classifier) & set(classes):
        return None
    columns = dict(zip(classifier.classes, classifier.logits(values).T, strict=True))
    return np.stack([columns.get(name, np.full(len(values), ABSENT)) for name in classes], axis=1)


def _figures(logits: Logits | None, judged: Examples) -> dict[str, float | None]:
    if not len(judged) or logits is None:
        return {}
    group = np.unique(judged["patient"], return_inverse=True)[1].astype(np.int64)
    scores = Scores(logits, judged["label"], judged["site"], group)
    return {"balanced_accuracy": balanced_accuracy(scores), "auroc": auroc(scores)}


def _save(adapted: Metric | Head, classifier: Metric | Head, stem: Path) -> Path:
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
    as_json: console.AsJson = False,
) -> None:
    """Give a new hospital its own head in seconds, on its own machine, even with classes nobody has seen."""
    adapted = adapt(AdaptOrder(head, data, shots, seed, out, weights))
    if as_json:
        console.show_json(vars(adapted))
    else:
        console.show(*lines(adapted))


COMMANDS = {"adapt": console.command(adapt_command)}
