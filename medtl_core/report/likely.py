"""Sets of likely classes at each hospital: how often they hold the right one, and how many classes they name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medtl_core.errors import RunError
from medtl_core.evaluation.federated import log_odds
from medtl_core.report.classes import FEW, wilson
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell
from medtl_core.values import Array


def likely_table(saved: Mapping[str, Array], facts: Mapping[str, Any], method: str) -> PageTable | None:
    """Returns coverage and mean size of a head's sets of likely classes, over all cases and by hospital.

    A class is in a case's set where its log-odds reach the head's floor; see `medtl_core.predict.conformal`.

    Args:
        saved: scores of the test cases, as `scores.npz` has them; may be empty.
        facts: what the head's manifest says of its floors; may be empty.
        method: whose scores.

    Returns:
        None where scores or floors are missing.

    Raises:
        RunError: the floors are not those of the classes that were scored.
    """
    logits = saved.get(f"logits {method}")
    if logits is None or not facts:
        return None
    try:
        floors = np.asarray([-np.inf if floor is None else floor for floor in facts["floors"]], np.float64)
        level = float(facts["level"])
    except (LookupError, TypeError, ValueError) as error:
        raise RunError(f"the floors of {method}'s likely classes are damaged ({error}); run the study again") from error
    if floors.shape != logits.shape[1:]:
        raise RunError(f"{method} was scored for other classes than its head has floors for; run the study again")
    inside, label, site = log_odds(logits) >= floors, saved["label"], saved["site"]
    held, size = inside[np.arange(len(label)), label], inside.sum(axis=1)
    sites, rows = np.unique(site), [_row("all cases", held, size, "focus")]
    rows += [_row(str(name), held[site == name], size[site == name]) for name in sites if len(sites) > 1]
    caption = f"Sets of likely classes at {level:.0%}: coverage and mean size"
    return PageTable(caption, ["Hospital", "Cases", "Right class in the set", "Classes in a set"], rows)


def _row(name: str, held: Array, size: Array, style: str = "") -> TableRow:
    cases, right = len(held), int(held.sum())
    told = TableCell(f"{right} of {cases}", "too few for an interval")
    shown = estimate_cell(wilson(right, cases)) if cases >= FEW else told
    return TableRow(name, [TableCell(f"{cases}"), shown, TableCell(f"{size.mean():.2f}")], style)
