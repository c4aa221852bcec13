"""Differences between the methods of a run, with p-values after Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass

from medtl_core.clinical.record import Clinical
from medtl_core.clinical.significance import holm, paired
from medtl_core.report import numerals
from medtl_core.report.tables import PageTable, TableCell, TableRow


def against_table(records: Sequence[Clinical], focus: str) -> PageTable | None:
    """Returns how much the mean AUROC of a method differs from each other's, with p-values after Holm's correction.

    On one seed by DeLong's paired test of the same test cases; on several by a paired t-test over the seeds.
    """
    told = records[0].against(focus) if len(records) == 1 else _over_seeds(records, focus)
    rows = [
        TableRow(
            name,
            [
                TableCell(numerals.signed(test.gain), f"{numerals.signed(test.low)} to {numerals.signed(test.high)}"),
                TableCell("< 0.001" if p < 0.001 else f"{p:.3f}"),
            ],
        )
        for name, (test, p) in told.items()
    ]
    how = "DeLong's paired test on the same cases" if len(records) == 1 else "paired t-test over the seeds"
    caption = f"Mean AUROC of {focus} less that of each other method: {how}"
    return PageTable(caption, ["Against", "Difference", "p, after Holm"], rows) if rows else None


@dataclass(frozen=True)
class _Gain:
    gain: float
    low: float
    high: float


def _over_seeds(records: Sequence[Clinical], focus: str) -> dict[str, tuple[_Gain, float]]:
    shared = set.intersection(*(set(record.methods) for record in records)) if records else set()
    if focus not in shared:
        return {}
    ours, tests = [record.methods[focus].area for record in records], {}
    for name in (name for name in records[0].methods if name in shared and name != focus):
        pairs = [(a, b) for a, b in zip(ours, (r.methods[name].area for r in records), strict=True) if a and b]
        if len(pairs) > 1:
            tests[name] = paired([a for a, _ in pairs], [b for _, b in pairs])
    adjusted = holm([test.p for test in tests.values()]) if tests else []
    return {
        name: (_Gain(test.mean, max(test.low, -1.0), min(test.high, 1.0)), p)
        for (name, test), p in zip(tests.items(), adjusted, strict=True)
    }
