"""Settings that suit own data where nobody says otherwise, and what a run will do with the data, in words."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from medtl_core.config import Settings, Value
from medtl_core.errors import ConfigError, DataError
from medtl_core.values import MULTI_LABEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medtl_core.data.source import Source
    from medtl_core.values import Examples

#: Reader -> the backbone of what it reads, where that is no image.
_BACKBONES = {"table": "table", "signals": "signal:spectrum", "notes": "text:words"}
#: Column of cases -> the backbone that reads it; the first that is there counts.
_COLUMNS = {"signal": "signal:spectrum", "table": "table", "note": "text:words"}
#: Hospitals that data of one are cut into, if each then has so many patients of every class; else fewer, at least two.
_CUT, _EACH = 5, 3
#: Training cases of a hospital, if it has as many.
_SHOTS = 30
#: Methods of a multi-label task.
_OF_FINDINGS = "local,discriminant,logistic-5,fedavg-20,auto"


def fit(chosen: Settings, said: Collection[str]) -> Settings:
    """Returns settings for data in a folder with what nobody said taken from the data.

    Hospitals are those that the data name, or two to five cut out of one; each has 30 training cases, or as many as the
    smallest has; tables, signals and notes are read as such. A multi-label task is answered by all methods that can.

    Args:
        chosen: with a `data_path`.
        said: keys that a person or a scenario set.

    Raises:
        MedtlError: the data cannot be read, are too few to be cut into hospitals, or their modality is known.
    """
    import numpy as np

    from medtl_core.data.names import hospital_name
    from medtl_core.data.partition import partition
    from medtl_core.data.readers import reader_of
    from medtl_core.data.shared import shared_source

    if "backbone" not in said and not chosen.data:  # before it is read, for data are not read twice
        usual = _BACKBONES.get(reader_of(Path(chosen.data_path)).name, chosen.backbone)
        chosen = chosen.replace(backbone=usual)
    source, changes = shared_source(chosen), dict[str, Value]()
    if chosen.modality and source.entry.files:
        raise ConfigError(f"modality has no effect on {source.entry.name!r}, whose modality is known; leave it out")
    examples = source.examples
    if "methods" not in said and examples.task.kind == MULTI_LABEL:
        changes["methods"] = _OF_FINDINGS
    if "backbone" not in said and not {"path", "image"} & examples.columns.keys():
        changes["backbone"] = next(name for column, name in _COLUMNS.items() if column in examples.columns)
        changes["image_size"] = chosen.image_size if "image-size" in said else 0
    pool = (examples["split"] != "test") & (examples["site"] != hospital_name(chosen.leave_out.removesuffix(":test")))
    names = len(np.unique(examples["site"][pool]))
    if "sites" not in said:
        natural = chosen.partition == "natural" and names > 1
        changes["sites"] = names if natural else _cut(examples, pool)
    if "shots" not in said and chosen.partition in ("natural", "even"):
        parts = partition(examples, chosen.without_promise().replace(**{**changes, "shots": 0}))
        changes["shots"] = min(_SHOTS, *(len(site.train) for site in parts.sites))
    chosen = chosen.replace(**changes)
    if chosen.test == "sites" and not any(len(site.test) for site in partition(examples, chosen).sites):
        raise DataError("test=sites: no hospital that trains has a test case; leave it out, or mend the column 'split'")
    return chosen


def _cut(examples: "Examples", pool: "NDArray[np.bool_]") -> int:
    """How many hospitals the training cases of one are cut into.

    Raises:
        DataError: two would not have a patient of every class each, nor others to learn from.
    """
    import numpy as np

    whose, classes = examples["patient"][pool], examples.task.classes
    patients = len(np.unique(whose))
    if not patients:
        raise DataError("there is no case to train on: all are 'test', or of the hospital that is left out")
    if examples.task.kind == MULTI_LABEL:
        return max(min(_CUT, patients), 1)
    label = examples["label"][pool]
    counts = {name: len(np.unique(whose[label == k])) for k, name in enumerate(classes) if (label == k).any()}
    rarest = min(counts, key=counts.__getitem__, default="")
    if patients < 2 * len(classes):
        raise DataError(
            f"{patients} patients to train on, of {len(classes)} classes, are too few for two hospitals with a patient "
            f"of each class ({rarest!r} has {counts.get(rarest, 0)}): add cases, or say how many: --set sites=N"
        )
    return min(max(counts[rarest] // _EACH, 2), _CUT)


def outlook(chosen: Settings) -> list[str]:
    """Returns what a run under these settings does with the cases: hospitals, training cases, test cases, views.

    Raises:
        MedtlError: the data cannot be read or cut.
    """
    if not chosen.data_path:
        return [f"hospitals   {chosen.sites} of {chosen.data}, {_cases(chosen)}"]
    from medtl_core.data.partition import partition
    from medtl_core.data.shared import shared_source

    source = shared_source(chosen)
    parts = partition(source.examples, chosen)
    names = [site.name for site in parts.sites]
    listed = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    count = len(parts.server_test) if chosen.test == "server" else sum(len(site.test) for site in parts.sites)
    judged = f"the cases of {chosen.test_path}" if chosen.test_path else f"{count} cases"
    lines = [f"hospitals   {len(names)}: {listed}; {_cases(chosen)}", f"test        {judged}"]
    lines += [f"note        {note}" for note in source.notes]
    if "path" in source.examples.columns or "image" in source.examples.columns:
        lines.append(f"views       {views_words(source, chosen)}")
    if len(chosen.sizes) > 1:
        lines.append(f"pixels      {chosen.image_size}, side by side; image-size={chosen.sizes[0]} reads one size")
    return lines


def views_words(source: "Source", chosen: Settings) -> str:
    """Returns the views of each image, which are its augmentation too, and what chose them."""
    entry = source.entry
    if entry.modality == "not stated" and entry.views == ("identity",):
        return "the image as it is, nothing augmented; modality=WORD or task.json says what the images show"
    return f"{', '.join(('identity',) if chosen.views == 'one' else entry.views)} (modality: {entry.modality})"


def _cases(chosen: Settings) -> str:
    return f"{chosen.shots} training cases each (shots=0: all)" if chosen.shots else "all their training cases"
