"""`medtl features`: fills the feature cache, on any machine; another that is given the cache reads it without torch."""

from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from medtl_core.cli import console
from medtl_core.cli.plan import absolute, cores, name_data
from medtl_core.config import Settings, read_assignments, settings
from medtl_core.data.source import Source, open_source
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.cache import FILE
from medtl_core.features.extract import Spec, extract, feature_spec
from medtl_core.federation.registry import check_effect, chosen_methods
from medtl_core.store import cache_folder
from medtl_core.values import Examples

#: Cases between two words of progress.
_STEP = 256
#: Settings on which features hang, and those by which built-in data are drawn; a run's other settings change none.
_READ = {
    "data", "data-path", "modality", "backbone", "weights", "features", "image-size", "views", "methods", "cache",
    "device",
}  # fmt: skip
_DRAWN = {"sites", "shots", "seed", "leave-out"}


def fill(source: Source, chosen: Settings, listener: console.Listener = lambda event: None) -> list[str]:
    """Computes the features that the cache lacks, and returns what is wrong with each case that has none.

    Stopped, it goes on where it was: what was computed is in the cache.

    Raises:
        ConfigError, WeightsError: see `features.extract.extract`.
        DataError: the cases hold no images.
    """
    examples, faults = source.examples, list[str]()
    spec = feature_spec(chosen, source.entry.views, source.columns)
    extract(examples.take(np.arange(0)), spec, chosen)  # what is wrong with all cases is no fault of one
    for first in range(0, len(examples), _STEP):
        last = min(first + _STEP, len(examples))
        faults += _faults(examples, np.arange(first, last), spec, chosen)
        listener({"kind": "phase", "phase": "features", "round": last, "of": len(examples)})
    return faults


def _faults(examples: Examples, rows: NDArray[np.int64], spec: Spec, chosen: Settings) -> list[str]:
    """What is wrong with cases that have no features now; a half that fails is halved again."""
    try:
        extract(examples.take(rows), spec, chosen, workers=cores())
    except DataError as error:
        if len(rows) == 1:
            return [f"case {int(rows[0]) + 1}, {error}"]
        return [fault for half in np.array_split(rows, 2) for fault in _faults(examples, half, spec, chosen)]
    return []


def features(
    data: Annotated[str, typer.Argument(metavar="DIR", help="Folder or file of the data, or a built-in set.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, e.g. device=cuda image-size=224.")
    ] = None,
    assignments: console.Assignments = None,
    quiet: console.Quiet = False,
) -> None:
    """Compute the features of all cases and keep them: a run on this cache opens no network and needs no GPU.

    What is in the cache already is not computed again, so a command that was stopped goes on. Images that
    cannot be read are named at the end (exit code 1); the others have their features.
    """
    typed = read_assignments([*(assignments or ()), *(words or ())])
    named = {**name_data(data, str(typed.get("data", ""))), **typed}
    chosen = settings({key: absolute(key, value) for key, value in named.items()})
    chosen_methods(chosen)  # on which the sizes may hang
    for word in sorted(typed.keys() - _READ - (set() if chosen.data_path else _DRAWN)):
        raise ConfigError(f"{word} has no effect on the features of cases; leave it out here, and give it to the run")
    check_effect(typed.keys() - {"methods"}, chosen)
    folder = cache_folder(chosen.cache)
    if folder is None or chosen.kinds == {"table"}:
        raise ConfigError("there is nothing to keep: set cache to a folder, and backbone to more than a table")
    source = open_source(chosen)
    log = console.console_of(stderr=True, quiet=quiet)
    with console.progress_shown(log, quiet or not log.is_terminal) as bars:

        def progress(event: console.Event) -> None:
            bars(event)
            if not log.is_terminal:
                console.say(log, f"{event['round']} of {event['of']} cases")

        faults = fill(source, chosen, progress)
    count = len(source.examples)
    kept = f"{count - len(faults)} of {count} cases have their features in {folder / FILE}"
    console.show(*(f"fault: {fault}" for fault in faults), kept)
    if faults:
        raise typer.Exit(1)


COMMANDS = {"features": console.command(features)}
