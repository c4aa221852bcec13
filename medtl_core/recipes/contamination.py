"""Whether a backbone has seen a run's data before: then its figures say less than they seem to."""

from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings, kind_of
from medtl_core.data.catalog import Entry


def contamination(settings: Settings, entry: Entry) -> str:
    """Returns a sentence for whoever reads the figures; "" where no backbone is known to have learnt from the data.

    A backbone states the public sets it was trained on (`Backbone.trained_on`); the catalog's name or title of the
    run's data, or another name of the same pictures, among them is a match, whatever the capitals and signs.

    Args:
        settings: of the run.
        entry: of its data.
    """
    data = {_letters(name) for name in (entry.name.partition(":")[0], entry.title, *entry.same)}
    names = [name for name in settings.backbone.split("+") if kind_of(name) == "image"]
    seen = [name for name in names if data & {_letters(public) for public in find_backbone(name).trained_on}]
    if not seen:
        return ""
    return (
        f"Contaminated: {' and '.join(seen)} learnt from {entry.name}, the data of this run; on data that a backbone "
        "has not seen, expect less."
    )


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
