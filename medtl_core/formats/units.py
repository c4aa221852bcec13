"""Units of measurements: what a hospital wrote becomes what was agreed, by the factors in `units.toml`."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError, did_you_mean

#: The kinds between which an analyte's molar mass converts.
_MASS, _AMOUNT = "g/L", "mol/L"


@dataclass(frozen=True)
class Conversion:
    """What was written becomes (written - less) * times + plus."""

    times: float = 1.0
    less: float = 0.0
    plus: float = 0.0

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns converted values; those in the right unit already keep every digit."""
        return values if self == Conversion() else (values - self.less) * self.times + self.plus


def conversion(written: str, agreed: str, analyte: str = "") -> Conversion:
    """Returns how values of one unit become values of another.

    Between mass and amount of substance (mg/dL and mmol/L) the analyte must be named.

    Raises:
        DataError: a unit or the analyte is not known, or the units measure different things.

    Example:
        >>> round(float(conversion("mg/dL", "mmol/L", "glucose")(np.array(90.0))), 2)
        5.0
    """
    one, other = unit_name(written), unit_name(agreed)
    if one == other:
        return Conversion()
    kinds = _table()["unit"]
    (from_kind, source), (to_kind, target) = (_known(name, kinds) for name in (one, other))
    factor = 1.0
    if {from_kind, to_kind} == {_MASS, _AMOUNT}:
        masses = _table()["analyte"]
        if analyte not in masses:
            hint = did_you_mean(analyte, masses) if analyte else f"known: {', '.join(masses)}"
            raise DataError(f"{written} becomes {agreed} by the molar mass of what is measured: set analyte; {hint}")
        factor = 1.0 / masses[analyte] if to_kind == _AMOUNT else masses[analyte]
    elif from_kind != to_kind:
        raise DataError(f"{written} and {agreed} do not measure the same; state a factor, or mend a unit")
    times = source["times"] * factor / target["times"]
    return Conversion(times, source.get("less", 0.0), target.get("less", 0.0))


def alternatives(agreed: str, analyte: str = "") -> Mapping[str, Conversion]:
    """Returns every other unit in which the same may have been written, with its conversion."""
    units = [name for kind in _table()["unit"].values() for name in kind]
    found = {}
    for name in units:
        try:
            found[name] = conversion(name, agreed, analyte)
        except DataError:
            continue
    return {name: how for name, how in found.items() if how != Conversion()}


def unit_name(text: str) -> str:
    """Returns a unit in the one form in which it is known and compared.

    Example:
        >>> unit_name("µmol / l"), unit_name("°F"), unit_name("years")
        ('umol/L', 'degF', 'a')
    """
    name = text.replace("\u00b5", "u").replace("\u03bc", "u").replace("°", "").replace(" ", "")
    name = name.removesuffix("/l") + "/L" if name.endswith("/l") else name.replace("/dl", "/dL").replace("/ml", "/mL")
    aliases: Mapping[str, str] = _table()["aliases"]
    return aliases.get(name, aliases.get(name.lower(), name))


def are_units(words: Collection[str]) -> bool:
    """Returns whether all of these are known units in which one thing may be written.

    Example:
        >>> are_units(["mg/dl", "mmol/l"]), are_units(["m", "f"]), are_units([])
        (True, False, False)
    """
    kinds = _table()["unit"]
    found = {next((kind for kind, units in kinds.items() if unit_name(word) in units), "") for word in words}
    return bool(found) and "" not in found and (len(found) == 1 or found == {_MASS, _AMOUNT})


def _known(name: str, kinds: Mapping[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, float]]:
    for kind, units in kinds.items():
        if name in units:
            return kind, units[name]
    names = [unit for units in kinds.values() for unit in units]
    raise DataError(f"unit {name!r} is not known; {did_you_mean(name, names)}, or state a factor")


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads((files("medtl_core.formats") / "units.toml").read_text(encoding="utf-8"))
