"""A hospital's own side: where its cases are, and their features."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from threading import Lock

import numpy as np

from medtl_core.config import Settings, Value, settings
from medtl_core.data.faults import Fault, Faults
from medtl_core.data.leak import check_leaks
from medtl_core.data.shared import shared_parts, shared_source
from medtl_core.data.source import Source, private_source
from medtl_core.errors import ConfigError, DataError, PrivacyError
from medtl_core.features.dataset import DerivedStore, Material
from medtl_core.federation.registry import NOT_PRIVATE
from medtl_core.federation.tasks import SiteData
from medtl_core.fingerprint import agreement
from medtl_core.privacy.hospital import Hospital, read_hospital
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.requester import NOBODY, Requester
from medtl_core.store import file_names
from medtl_core.values import MULTI_LABEL, UNKNOWN, Array, Examples, Features

_agreement = lru_cache(maxsize=2)(agreement)  # simulated hospitals all have the same
_LOG = logging.getLogger("medtl")
#: Characters of a server's text that are logged.
_SHOWN = 200

_TEST_REMEDY = "give some of its patients split=test, or judge on the server's cases (test-path, without test=sites)"


class NoTestCasesError(DataError):
    """A run judges at the hospitals (test=sites), and this one has set no case aside for that."""

    public_text = f"the site has no test cases, and this run judges at the sites: {_TEST_REMEDY}"


@dataclass(frozen=True, slots=True)
class Site:
    """An opened hospital.

    Attributes:
        data: its cases as features.
        agreement: hash of what it understood of the run.
        settings: of the run, as far as a hospital's side depends on them.
        simulated: whether it is a part of shared data and not a hospital of its own.
        home: its own folder, for policy and ledger; None = it has none.
        hospital: what a deployed one decides by itself; None in a simulation.
        patients: str [m], whose ledger it is, where that is more than the patients a run can use; None = these.
        left_out: what cost cases whose features cannot be made; it stays here.
        asker: whose message is answered, by the server's own words.
    """

    data: SiteData
    agreement: str
    settings: Settings
    simulated: bool = True
    home: Path | None = None
    hospital: Hospital | None = None
    patients: Array | None = None
    left_out: tuple[Fault, ...] = ()
    asker: Requester = NOBODY

    def compare(self, columns: Sequence[str]) -> None:
        """Says in the hospital's own log which column of a table the server means otherwise."""
        own = self.data.material.columns if self.data.material else ()
        for there, here in zip_longest(columns, own if columns else (), fillvalue="no column"):
            if there != here:
                said = str(there)[:_SHOWN]
                _LOG.warning("the server's table has %r where this hospital's has %r; agree on schema.toml", said, here)
                return

    def keeping(self, folder: str) -> "Site":
        """Returns the site with a folder for what must survive between rounds.

        A deployed hospital has its own, with one ledger over all its runs; a simulated one's lies below `folder`. A
        folder belongs to one agreement: another run, with other settings or seed, never reads it.
        """
        if self.hospital is None and not folder:
            return self
        place = Path(folder) if self.hospital is None else self.hospital.folder
        state = place / self.agreement[:16] / file_names([self.data.name])[self.data.name]
        home = state if self.hospital is None else place
        return replace(self, data=replace(self.data, state=state), home=home)


@dataclass(frozen=True, slots=True)
class Node:
    """Where a hospital's cases come from: its own folder, or one part of shared data in a simulation.

    Attributes:
        name, data_path: of a hospital of its own.
        part: of shared data; -1 = a hospital of its own.
        hospital: what it decides by itself; None in a simulation.
    """

    name: str
    data_path: str
    part: int
    hospital: Hospital | None = None

    @classmethod
    def of(cls, node_config: Mapping[str, object]) -> "Node":
        """Reads Flower's node config: `hospital`, the folder of a deployed hospital, or `partition-id`.

        Raises:
            ConfigError: neither is there, or something beside the folder; or see `read_hospital`.
            PrivacyError: see `read_hospital`.
        """
        if "hospital" in node_config:
            if len(node_config) > 1:
                raise ConfigError("a node config with hospital=DIR holds nothing else; DIR/hospital.toml has the rest")
            hospital = read_hospital(Path(str(node_config["hospital"])))
            return cls(hospital.name, hospital.data, -1, hospital)
        if old := {"data-path", "site-name", "state-dir"} & node_config.keys():
            raise ConfigError(
                f"node config has {sorted(old)[0]}: a hospital's own words stand in its folder now; write it with "
                "medtl site init DIR, and start the node with medtl site run DIR"
            )
        if "partition-id" not in node_config:
            raise ConfigError("node config has neither hospital (deployed) nor partition-id (simulation)")
        return cls("", "", int(str(node_config["partition-id"])))

    def ordered(self, asked: Settings) -> Settings:
        """Returns the settings that hold here: a deployed hospital's places are its own, whatever the run says.

        Raises:
            ConfigError: see `Settings.without_places`.
        """
        if self.hospital is None:
            return asked
        own = {name: getattr(self.hospital, name) for name in ("cache", "weights", "device")}
        return asked.without_places().replace(**own, data_path=self.data_path)


class OpenHospitals:
    """The hospitals that a process has opened for the run at hand; it lets go of them when another run begins.

    They share one store of what is derived from their cases, and so one limit for the process. Runs that differ only in
    what no hospital sees share them. Threads may ask at once: each hospital is opened once.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._run_config: Mapping[str, Value] | None = None
        self._settings, self._state = Settings(), ""
        self._opening: dict[Node, Lock] = {}
        self._sites: dict[Node, Site] = {}
        self._kept: dict[Node, Site] = {}
        self._store = DerivedStore()

    def open(self, run_config: Mapping[str, Value], node_config: Mapping[str, object]) -> Site:
        """Returns a hospital, opened now or before.

        Raises:
            MedtlError: a setting, the node's config or the hospital's cases cannot be used.
        """
        node = Node.of(node_config)
        with self._lock:
            if run_config != self._run_config:
                chosen = settings(run_config)
                if chosen.of_site() != self._settings:
                    self._settings, self._sites, self._store = chosen.of_site(), {}, DerivedStore()
                for site in self._sites.values():  # every run's log tells what it goes without
                    _log(site.left_out)
                self._run_config, self._state, self._kept = dict(run_config), chosen.state, {}
            chosen, state, store, sites, kept = self._settings, self._state, self._store, self._sites, self._kept
            opening = self._opening.setdefault(node, Lock())
        with opening:
            if node not in sites:
                sites[node] = open_site(node.ordered(chosen), node, store)
            if node not in kept:
                kept[node] = sites[node].keeping(state)
        return kept[node]

    def close(self) -> None:
        """Lets go of all of them."""
        with self._lock:
            self._run_config, self._sites, self._kept, self._store = None, {}, {}, DerivedStore()


def open_site(settings: Settings, node: Node, store: DerivedStore | None = None) -> Site:
    """Returns the hospital's cases as features, from the cache where they were computed before.

    Args:
        settings: of the run.
        node: where the cases come from.
        store: of what is derived from the cases, shared with other hospitals of the process; None = one of its own.

    Guarantee:
        Unit: patient. Under privacy, a hospital that owns its data opens with each case or without it by what that case
        holds, and refuses for reasons of settings, folder and policy only; see `private_source`. Public: nothing.

    Raises:
        DataError: the data cannot be used, or without privacy the hospital has no usable training case.
        PrivacyError: under privacy, the data do not say whose each case is, and the policy does not allow that.
    """
    private = node.part < 0 and settings.privacy != "none"
    source, name, train, test = (_private if private else _plain)(settings, node)
    task, entry, store = source.examples.task, source.entry, DerivedStore() if store is None else store
    material = Material(train, settings, entry.views, source.columns, entry.modality, store)
    asked = settings.test == "sites" or node.part < 0
    held = replace(material, examples=test)
    held_out, judged, unjudged = _readable(held, name, private=private) if asked else _untested(settings)
    material, features, untrained = _readable(material, name, private=private)
    left_out = (*unjudged, *untrained)
    _log(left_out)
    train, test = material.examples, held_out.examples
    data = SiteData(
        name, features.values, train["label"], train["patient"], judged.values, test["label"], test["patient"],
        len(task.classes), settings.seed, material, held_out,
    )  # fmt: skip
    agreed = _agreement(settings, task.agreed, features.fingerprint)
    everyone = source.patients if private else None
    return Site(data, agreed, settings, node.part >= 0, hospital=node.hospital, patients=everyone, left_out=left_out)


@lru_cache(maxsize=2)  # one for all hospitals of a run: it would be a quarter of what they take
def _untested(settings: Settings) -> tuple[Material, Features, tuple[Fault, ...]]:
    """No held-out case, and its features, where nobody will ask a hospital for them."""
    source = shared_source(settings)
    none, entry = source.examples.take(np.zeros(0, dtype=np.int64)), source.entry
    return _readable(Material(none, settings, entry.views, source.columns, entry.modality), "", private=False)


def _readable(material: Material, name: str, *, private: bool) -> tuple[Material, Features, tuple[Fault, ...]]:
    """The cases whose features can be made, and these; the others are for the log, which nobody else reads."""
    faults = Faults()
    usable, features = material.readable(faults, private=private)
    if not private:
        faults.check(name, len(material))
    return usable, features, faults.causes


def _log(faults: Sequence[Fault]) -> None:
    for fault in faults:
        _LOG.warning("left out: %s", fault, extra={"fault": fault})


def is_private(run_config: Mapping[str, Value], node_config: Mapping[str, object]) -> bool:
    """Returns whether the run asks for privacy, or a hospital that owns its data does; then no error tells its class.

    A policy that cannot be read asks for it.
    """
    if run_config.get("privacy", "none") != "none":
        return True
    try:
        hospital = Node.of(node_config).hospital
        return hospital is not None and hospital.policy.require_private
    except Exception:
        return True


def _private(settings: Settings, node: Node) -> tuple[Source, str, Examples, Examples]:
    source = private_source(settings.replace(data_path=node.data_path))
    if source.examples.task.kind == MULTI_LABEL:
        raise PrivacyError(NOT_PRIVATE)
    policy = Policy() if node.hospital is None else node.hospital.policy
    if not source.has_patients and not policy.one_image_per_patient:
        raise PrivacyError(
            f"{node.data_path} does not say whose each case is: give it a manifest.csv with patient_id, or set "
            f"one_image_per_patient in the policy if no patient has two cases"
        )
    return source, node.name, source.examples, source.examples.take(np.zeros(0, dtype=np.int64))


def _plain(settings: Settings, node: Node) -> tuple[Source, str, Examples, Examples]:
    source = shared_source(settings if node.part >= 0 else settings.replace(data_path=node.data_path))
    examples = source.examples
    if node.part >= 0:
        parts = shared_parts(settings).sites
        if node.part >= len(parts):
            raise ConfigError(
                f"partition-id={node.part} but the run has sites={len(parts)}; start as many nodes as sites"
            )
        part = parts[node.part]
        train, test, name = examples.take(part.train), examples.take(part.test), part.name
    else:
        held_out = examples["split"] == "test"
        check_leaks(examples, {"train": np.flatnonzero(~held_out), "test": np.flatnonzero(held_out)})
        train, test, name = examples.take(~held_out), examples.take(held_out), node.name
        _log(source.faults)
    if settings.test != "sites":  # nobody will ask: the server judges on its own cases
        test = test.take(np.zeros(0, dtype=np.int64))
    elif node.part < 0 and not len(test):
        raise NoTestCasesError(f"hospital {name!r} marks no case as test, and this run judges on such; {_TEST_REMEDY}")
    train = _suppress_small(train, settings.min_cell)
    if not len(train):
        raise DataError(f"hospital {name!r} has no training case left; check its manifest's split column and min-cell")
    return source, name, train, test


def _suppress_small(examples: Examples, min_cell: int) -> Examples:
    """Drops classes with fewer cases than the hospital is willing to show in a sum."""
    if not min_cell:
        return examples
    if examples.task.kind == MULTI_LABEL:  # where few cases have a finding, or few lack it, that is not told of them
        labels, counted = examples["labels"], [(examples["labels"] == side).sum(axis=0) for side in (0, 1)]
        few = np.where(labels == 1, counted[1] < min_cell, counted[0] < min_cell)
        return Examples({**examples.columns, "labels": np.where(few, np.int8(UNKNOWN), labels)}, examples.task)
    counts = np.bincount(examples["label"], minlength=len(examples.task.classes))
    return examples.take(counts[examples["label"]] >= min_cell)
