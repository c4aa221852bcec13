"""Cutting one pool of cases into simulated hospitals, always by patient.

Dirichlet label skew follows Hsu, Qi, Brown (2019, arXiv:1909.06335): every hospital draws its own class mix.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.names import hospital_name
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.rng import stream
from medtl_core.values import Array, Examples, site_name

Index = NDArray[np.int64]


@dataclass(frozen=True)
class SitePart:
    """One hospital's rows: its labelled training cases (int64 [n]), and its own held-out ones (int64 [m])."""

    name: str
    train: Index
    test: Index


@dataclass(frozen=True)
class Parts:
    """Who holds which rows.

    Attributes:
        server_test: int64 [t], all rows of split "test", of which the hospitals' `test` rows are cut; or the rows of
            the site that was left out.
    """

    sites: tuple[SitePart, ...]
    server_test: Index

    def sides(self) -> dict[str, Index]:
        """Returns the sets that must not share a patient: each hospital's training cases, and the test."""
        return {**{site.name: site.train for site in self.sites}, "test": self.server_test}


def partition(examples: Examples, settings: Settings) -> Parts:
    """Returns the hospitals of a simulation; a pure function of the cases and the settings.

    "natural" cuts `settings.sites` hospitals out of the natural sites in proportion to their training cases (fewer
    hospitals than sites: the largest sites); "dirichlet" gives each hospital a class mix ~ Dir(alpha), but held-out
    cases of everybody's mix; "skewed" does the same and gives it held-out cases of its own mix; "size" draws
    log-normal shares of sites x shots cases; "even" deals at random. Cases of split "train" and "val" train. All of a
    patient's cases stay in one hospital, which is then trimmed to exactly `shots` cases. A hospital may hold no case,
    one case or one class: what then happens is the run's policy.

    With `leave_out`, no hospital holds a case of that site, neither to train on nor to judge on.

    Raises:
        ConfigError: there are too few cases; the message says how many there are. Or there is no site to leave out.
    """
    left, judged = _left_out(examples, settings.leave_out)
    held_out = examples["split"] == "test"
    test, pool = np.flatnonzero(held_out & ~left), np.flatnonzero(~held_out & ~left)
    if len(pool) < settings.sites or len(pool) < settings.sites * settings.shots:
        _refuse(settings, "the data", settings.sites, len(pool), len(pool) // settings.sites)
    if settings.partition == "natural":
        return Parts(tuple(_natural(examples, pool, test, settings)), judged)
    if settings.partition == "even":
        trains = _equal(examples["patient"], pool, settings.sites, settings, "the data", "even")
    else:
        trains = (_size if settings.partition == "size" else _dirichlet)(examples, pool, settings)
    rng = stream(settings.seed, "partition", "test")
    if settings.partition == "skewed":
        tests = _alike(examples, test, trains, rng)
    else:
        tests = _share(examples["patient"], test, settings.sites, rng)
    names = _numbered("hospital", settings.sites)
    return Parts(tuple(SitePart(*part) for part in zip(names, trains, tests, strict=True)), judged)


def _left_out(examples: Examples, name: str) -> tuple[NDArray[np.bool_], Index]:
    """Returns which rows belong to the site left out [n], and the rows the server judges on."""
    name = hospital_name(name)
    site, held_out = examples["site"], examples["split"] == "test"
    if not name:
        return np.zeros(len(site), dtype=bool), np.flatnonzero(held_out)
    whole = np.asarray(site == name)
    if whole.any():
        return whole, np.flatnonzero(whole)
    left = np.asarray(site == name.removesuffix(":test"))
    if not left.any():
        raise ConfigError(
            f"leave-out={name!r}: no case is of that site; {did_you_mean(name, np.unique(site).tolist())}"
        )
    return left, np.flatnonzero(left & held_out)


def apportion(sizes: Mapping[str, float], seats: int) -> dict[str, int]:
    """Returns how many of `seats` each name gets: largest remainder, at least one each (fewer seats: the largest).

    Example:
        >>> apportion({"rosendahl": 728, "vidir_modern": 588, "vidir_molemax": 310}, 10)
        {'rosendahl': 4, 'vidir_modern': 4, 'vidir_molemax': 2}
        >>> apportion({"a": 5, "b": 9}, 1)
        {'a': 0, 'b': 1}
    """
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    if seats <= len(order):
        return {name: int(name in order[:seats]) for name in sizes}
    total = sum(sizes.values())
    quota = {name: sizes[name] * seats / total for name in sizes}
    given = {name: max(int(quota[name]), 1) for name in sizes}
    owed = sorted(order, key=lambda name: given[name] - quota[name])
    for name in owed[: max(seats - sum(given.values()), 0)]:
        given[name] += 1
    while sum(given.values()) > seats:
        given[max((name for name in order if given[name] > 1), key=lambda name: given[name] - quota[name])] -= 1
    return given


def _natural(examples: Examples, pool: Index, test: Index, settings: Settings) -> list[SitePart]:
    site, patient = examples["site"], examples["patient"]
    names, sizes = np.unique(site[pool], return_counts=True)
    seats = apportion(dict(zip(names.tolist(), sizes.tolist(), strict=True)), settings.sites)
    parts: list[SitePart] = []
    for name, count in seats.items():
        if not count:
            continue
        rows = pool[site[pool] == name]
        trains = _equal(patient, rows, count, settings, f"site {name!r}", name)
        held = test[site[test] == name]
        tests = _share(patient, held, count, stream(settings.seed, "partition", name, "test"))
        labels = [name] if count == 1 else _numbered(name, count)
        for label, train, own in zip(labels, trains, tests, strict=True):
            parts.append(SitePart(site_name(label), train, own))
    if len({part.name for part in parts}) < len(parts):
        raise ConfigError("two hospitals would have one name: rename the sites that end in a number like '-1'")
    return parts


def _equal(patient: Array, rows: Index, count: int, settings: Settings, where: str, word: str) -> list[Index]:
    """Deals rows to `count` hospitals alike, each trimmed to `shots`; `where` and `word` name them."""
    shares = _share(patient, rows, count, stream(settings.seed, "partition", word))
    smallest = min(len(share) for share in shares)
    if smallest < max(settings.shots, 1):
        _refuse(settings, where, count, len(rows), smallest)
    return [share[: settings.shots or None] for share in shares]


def _size(examples: Examples, pool: Index, settings: Settings) -> list[Index]:
    rng = stream(settings.seed, "partition", "size")
    weights = dict(zip(map(str, range(settings.sites)), rng.lognormal(0.0, 1.0, settings.sites).tolist(), strict=True))
    total, trim = settings.sites * settings.shots or len(pool), settings.shots > 0
    sampler = PatientSampler(examples["patient"], pool, rng)
    trains: list[Index] = []
    for cases in apportion(weights, total).values():
        # With shots=0 whole patients are dealt, so the last hospitals may find less than their share, never nothing.
        train = sampler.take(cases, trim=trim, leave=0 if trim else settings.sites - 1 - len(trains))
        if not len(train) or (settings.shots and len(train) < cases):
            _refuse(settings, "the data", settings.sites, len(pool), len(train))
        trains.append(train)
    return trains


def _dirichlet(examples: Examples, pool: Index, settings: Settings) -> list[Index]:
    rng = stream(settings.seed, "partition", "dirichlet")
    patient = examples["patient"]
    samplers = [PatientSampler(patient, rows, rng) for rows in _by_class(examples, pool)]
    trains = []
    for index in range(settings.sites):
        # shots=0: an equal share of what is left, in whole patients.
        left = sum(sampler.left for sampler in samplers)
        cases = settings.shots or -(-left // (settings.sites - index))
        train = _mixed(samplers, cases, rng.dirichlet([settings.alpha] * len(samplers)), rng, trim=settings.shots > 0)
        if len(train) < max(settings.shots, 1):
            _refuse(settings, "the data", settings.sites, len(pool), len(train))
        trains.append(train)
    return trains


def _by_class(examples: Examples, rows: Index) -> list[Index]:
    """The rows of each class; a patient of several classes has that of its first case."""
    _, first, code = np.unique(examples["patient"][rows], return_index=True, return_inverse=True)
    stratum = examples["label"][rows][first][code]
    return [rows[stratum == number] for number in range(len(examples.task.classes))]


class PatientSampler:
    """Patients in random order, drawn without replacement; one drawn in part is never drawn again."""

    def __init__(self, patient: Array, rows: Index, rng: np.random.Generator) -> None:
        _, code, counts = np.unique(patient[rows], return_inverse=True, return_counts=True)
        order = rng.permutation(len(counts))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self._rows = rows[np.argsort(place[code], kind="stable")]
        self._stops = np.cumsum(counts[order])
        self._start = 0

    @property
    def left(self) -> int:
        """Cases not drawn yet."""
        return len(self._rows) - self._start

    def take(self, cases: int, *, trim: bool, leave: int = 0) -> Index:
        """Returns the next rows: with `trim` exactly `cases` while they last, without it whole patients.

        Args:
            cases: wanted.
            trim: whether the last patient may be drawn in part.
            leave: patients that stay for others, if there are as many.
        """
        if cases <= 0 or not self.left:
            return self._rows[:0]
        end = min(self._start + cases, len(self._rows))
        last = min(int(np.searchsorted(self._stops, end)), max(len(self._stops) - 1 - leave, 0))
        stop = max(int(self._stops[last]), self._start)
        taken = self._rows[self._start : end if trim else stop]
        self._start = stop
        return taken


def _mixed(
    samplers: Sequence[PatientSampler], cases: int, mix: NDArray[np.float64], rng: np.random.Generator, *, trim: bool
) -> Index:
    """Draws `cases` rows with the class mix; a class that has run out leaves its share to the others."""
    taken: list[Index] = []
    missing = cases
    while missing > 0 and any(sampler.left for sampler in samplers):
        room = np.array([sampler.left for sampler in samplers])
        odds = np.where(room > 0, mix, 0.0)
        odds = odds if odds.sum() > 1e-12 else (room > 0).astype(float)
        wanted = np.minimum(rng.multinomial(missing, odds / odds.sum()), room)
        drawn = [samplers[number].take(int(wanted[number]), trim=trim) for number in np.flatnonzero(wanted).tolist()]
        taken.extend(drawn)
        missing -= sum(len(rows) for rows in drawn)
    return np.concatenate(taken) if taken else np.empty(0, dtype=np.int64)


def _share(patient: Array, rows: Index, hospitals: int, rng: np.random.Generator) -> list[Index]:
    """Deals all rows by patient so that hospitals hold nearly equal numbers of cases.

    A hospital's first n rows do not depend on how many it keeps: runs with more shots contain those with fewer.
    """
    _, code, counts = np.unique(patient[rows], return_inverse=True, return_counts=True)
    load = [(0, hospital) for hospital in range(hospitals)]
    owner = np.empty(len(counts), dtype=np.int64)
    turn = np.empty(len(counts), dtype=np.int64)
    for position, one in enumerate(rng.permutation(len(counts)).tolist()):
        cases, hospital = load[0]
        owner[one], turn[one] = hospital, position
        heapq.heapreplace(load, (cases + int(counts[one]), hospital))
    order = np.lexsort((turn[code], owner[code]))
    return list(np.split(rows[order], np.searchsorted(owner[code][order], np.arange(1, hospitals))))


def _alike(examples: Examples, rows: Index, trains: Sequence[Index], rng: np.random.Generator) -> list[Index]:
    """Deals each class's patients in proportion to the hospitals' training cases of that class.

    Cases of a class that no hospital trains on are dealt to nobody.
    """
    own: list[list[Index]] = [[rows[:0]] for _ in trains]
    for number, same in enumerate(_by_class(examples, rows)):
        sampler, dealt = PatientSampler(examples["patient"], same, rng), 0
        held = np.cumsum([(examples["label"][train] == number).sum() for train in trains])
        for hospital, due in enumerate(np.rint(held / max(held[-1], 1) * sampler.left).tolist()):
            taken = sampler.take(int(due) - dealt, trim=False)
            own[hospital].append(taken)
            dealt += len(taken)
    return [np.concatenate(parts) for parts in own]


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}-{number:0{len(str(count))}d}" for number in range(1, count + 1)]


def _refuse(settings: Settings, where: str, hospitals: int, cases: int, smallest: int) -> NoReturn:
    asked = f"{hospitals} hospital{'s' if hospitals > 1 else ''} x {settings.shots or 'all'} cases"
    raise ConfigError(
        f"{where}: {asked} asked (sites={settings.sites}, partition={settings.partition}), but only {cases} training "
        f"cases are available: cut by whole patients, one hospital would hold {smallest}. Lower shots or sites"
    )
