"""`medtl adapt`: a saved classifier and a few labelled cases become a new hospital's own, on its own machine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from medtl_core.cli import console
from medtl_core.cli.plan import name_data
from medtl_core.config import Settings, settings
from medtl_core.data.leak import check_leaks
from medtl_core.data.source import Source, open_source
from medtl_core.errors import ConfigError, DataError, WeightsError, did_you_mean, positive
from medtl_core.evaluation.scores import plain
from medtl_core.features.extract import extract, feature_spec
from medtl_core.features.spec import stated_settings
from medtl_core.methods.adaptation import Support, adapt_head, adapt_metric
from medtl_core.methods.episodes import draw_shots
from medtl_core.methods.fusion_adapted import adapt_fused, known_classes
from medtl_core.methods.models.fused import Fused
from medtl_core.methods.models.metric import Metric
from medtl_core.predict.predictor import check_fingerprint, stated_features
from medtl_core.predict.saved import is_model, load_head, load_packed, save_head, save_model
from medtl_core.predict.usual import Usual
from medtl_core.report.numerals import figure
from medtl_core.rng import stream
from medtl_core.runtime import one_thread
from medtl_core.store import file_of, stem_of
from medtl_core.values import ABSENT, Examples, Head, Scores

#: What a few cases can move.
Adaptable = Metric | Head | Fused
#: Facts of the federation's head that hold of it alone, and of these classes in this order.
_ITS_OWN = ("conformal", "operating", "kinds")
#: AUROC of a head that tells nothing.
_CHANCE = 0.5


def adapt(
    head: Path, data: str, shots: int = 5, seed: int = 0, *, out: Path | None = None, weights: str = ""
) -> dict[str, Any]:
    """Adapts, judges and saves; nothing is written before everything else has succeeded. Returns what `--json` shows.

    Raises:
        ConfigError: `shots` is not positive, or the saved model is not one that adapts.
        WeightsError: the saved files are damaged, or say not how features are made, or others than are made here.
        DataError: the hospital's data cannot be used, a new class has no labelled case, or a head shares no class.
        RunError: the files to write exist already.
    """
    positive(shots=shots)
    one_thread()
    classifier = _load(head)
    stem = _free_stem(out or Path(f"{stem_of(head).name}-{Path(data).stem}"))
    chosen, views = _settings(classifier, head, data, weights)
    source = open_source(chosen)
    source.examples.task.tell_classes("medtl adapt")
    spec, classes = feature_spec(chosen, views, source.columns), source.examples.task.classes
    _check_columns(classifier, source.columns)
    check_fingerprint(spec.fingerprint, classifier.fingerprint)
    drawn, judged, judged_on = _rows(source.examples, shots, seed)
    support = Support(extract(drawn, spec, chosen).values, drawn["label"], drawn["patient"], classes)
    adapted = _adapted(classifier, support)
    values = extract(judged, spec, chosen).values
    known, logits = _answers(classifier, classes, values)
    kept, before = _is_kept(adapted), _figures(logits, judged) if known & {*classes} else {}
    after = _figures(adapted.logits(values), judged)
    return {
        "saved": _save(adapted, classifier, stem, same=kept and classes == classifier.classes),
        "kind": adapted.kind,
        "kept": kept,
        "doubts": [*_doubts(classifier, source), *_judged(before, after)],
        "classes": classes,
        "new": tuple(name for name in classes if name not in known),
        "cases": dict(zip(classes, map(int, support.counts), strict=True)),
        "before": before,
        "after": after,
        "judged": len(judged),
        "judged_on": judged_on,
    }


def _adapted(classifier: Adaptable, support: Support) -> Adaptable:
    if isinstance(classifier, Metric):
        return adapt_metric(classifier, support)
    return adapt_fused(classifier, support) if isinstance(classifier, Fused) else adapt_head(classifier, support)


def _answers(
    classifier: Adaptable, classes: Sequence[str], values: NDArray[np.float32]
) -> tuple[set[str], NDArray[np.float64]]:
    """The classes that the federation's classifier knows, and what it answers [n, C] with the hospital's classes."""
    columns = dict(zip(classifier.classes, classifier.logits(values).T, strict=True))
    logits = np.stack([columns.get(name, np.full(len(values), ABSENT)) for name in classes], axis=1)
    if isinstance(classifier, Fused):
        return {*known_classes(classifier)}, logits
    seen = classifier.counts > 0 if isinstance(classifier, Metric) else classifier.seen
    return {name for name, here in zip(classifier.classes, seen, strict=True) if here}, logits


def _load(path: Path) -> Adaptable:
    if not is_model(path):
        return load_head(path)
    kind, packed = load_packed(path)
    for model in (Metric, Fused):
        if kind == model.kind:
            return model.unpack(packed)
    raise ConfigError(
        f"{path} is a model of kind {kind!r}; give a `metric`, an affine head or `fusion`, which do adapt"
    )


def _free_stem(path: Path) -> Path:
    for place in (file_of(stem_of(path), suffix) for suffix in ("safetensors", "json")):
        console.refuse_written(place)
    return stem_of(path)


def _settings(classifier: Adaptable, head: Path, data: str, weights: str) -> tuple[Settings, tuple[str, ...]]:
    """The settings under which the hospital's features are the federation's, and the views of the federation's data."""
    facts = stated_features(classifier, head)
    try:
        read = {name.replace("_", "-"): value for name, value in stated_settings(facts).items()}
        # `test-path` says that cases to judge on are found here, so that none is held out of the labelled ones
        chosen = settings({**name_data(data), **read, "weights": weights, "test-path": data})
    except ConfigError as error:
        raise WeightsError(f"the manifest of {head} asks for features that cannot be made: {error}") from error
    return chosen, tuple(str(view) for view in facts["entry_views"])


def _check_columns(classifier: Adaptable, columns: Sequence[str]) -> None:
    there = classifier.facts["features"].get("columns", ())
    if lacking := [name for name in there if name not in columns]:
        raise DataError(f"column {lacking[0]!r}, which the head reads, is missing; {did_you_mean(lacking[0], columns)}")
    if more := [name for name in columns if name not in there]:
        raise DataError(f"column {more[0]!r} is none that the head reads; take it out of the table")


def _doubts(classifier: Adaptable, source: Source) -> list[str]:
    """What speaks against the hospital's table: values far from those that the head learnt from."""
    usual, apart = Usual.of_facts(classifier.facts, source.columns), isinstance(classifier, Fused)
    found = usual.doubts(source.examples["table"], apart=apart) if usual else []
    return [*dict.fromkeys(filter(None, found))]


def _judged(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> Iterator[str]:
    """What figures say against the adapted head."""
    if (after.get("balanced_accuracy") or 1.0) < (before.get("balanced_accuracy") or 0.0):
        yield "it is judged worse than the federation's head was"
    if (after.get("auroc") or 1.0) <= _CHANCE:
        yield "it tells the classes no better than chance: are labels exchanged, or is a column in another unit?"


def _is_kept(adapted: Adaptable) -> bool:
    """Whether the cases do not move the federation's head."""
    if isinstance(adapted, Fused):
        return not any(adapted.facts["pulls"].values())
    return isinstance(adapted, Head) and adapted.facts["pull"] is None


def _rows(examples: Examples, shots: int, seed: int) -> tuple[Examples, Examples, str]:
    """The cases to learn from, the cases to judge on, and what the latter are."""
    held = examples["split"] == "test"
    train = np.flatnonzero(~held)
    rng = stream(seed, "adapt")
    drawn = train[draw_shots(examples["label"][train], examples["patient"][train], shots, rng=rng)]
    used = np.isin(examples["patient"], examples["patient"][drawn])
    judged = np.flatnonzero(held if held.any() else ~used)
    check_leaks(examples, {"the labelled cases": drawn, "the cases to judge on": judged})
    words = "its test split" if held.any() else "its labelled cases that were not used"
    shown = np.unique(examples["label"][judged]).tolist()
    if 0 < len(shown) < len(examples.task.classes):
        words += f", of {', '.join(examples.task.classes[label] for label in shown)} only"
    return examples.take(drawn), examples.take(judged), words if len(judged) else "nothing: no labelled case was left"


def _figures(logits: NDArray[np.float64], judged: Examples) -> dict[str, float | None]:
    if not len(judged):
        return {}
    group = np.unique(judged["patient"], return_inverse=True)[1].astype(np.int64)
    scores = Scores(logits, judged["label"], judged["site"], group)
    return plain(scores, ["balanced_accuracy", "auroc"])


def _save(adapted: Adaptable, origin: Adaptable, stem: Path, *, same: bool) -> Path:
    """Saves a classifier; unless it answers as the federation's, without what that one's judges said of its answers."""
    told = {name: fact for name, fact in adapted.facts.items() if same or name not in _ITS_OWN}
    adapted, place = replace(adapted, facts={**told, "from": origin.kind}), (stem.parent, stem.name)
    if not isinstance(adapted, Head):
        return save_model(adapted.pack(), adapted.kind, *place)
    return save_head(adapted, *place)


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
    adapted = adapt(head, data, shots, seed, out=out, weights=weights)
    if as_json:
        console.show_json(adapted)
        return
    shown = console.table_of("", right=("before", "after"))
    for key, name in (("balanced_accuracy", "balanced accuracy"), ("auroc", "AUROC")):
        shown.add_row(name, *(figure(adapted[side].get(key)) for side in ("before", "after")))
    new, judged_on = ", ".join(adapted["new"]) or "none", adapted["judged_on"]
    cases = ", ".join(f"{name} {count}" for name, count in adapted["cases"].items())
    words = [f"learnt from  {cases}", f"new classes  {new}", f"judged on    {judged_on}"]
    words += ["kept         these cases do not clearly speak for another head"] if adapted["kept"] else []
    words += [f"doubt        {doubt}" for doubt in adapted["doubts"]]
    console.show(*words, shown, f"saved        {adapted['saved']}")


COMMANDS = {"adapt": console.command(adapt_command)}
