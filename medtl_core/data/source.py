"""From settings to cases: the phantom, a known data set, a manifest, class folders or an .npz file."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.arrays import read_medmnist
from medtl_core.data.catalog import Entry, Layout, catalog, matches, read_known, recognise
from medtl_core.data.folder import read_folder
from medtl_core.data.manifest import MANIFEST, read_manifest, read_numbers, read_task
from medtl_core.data.partition import apportion
from medtl_core.data.synthetic.phantom import DEFAULT_PATIENTS, DEFAULT_SIZE, SHARES, phantom, train_images
from medtl_core.data.table import USABLE, read_csv
from medtl_core.errors import ConfigError, DataError, did_you_mean
from medtl_core.rng import stream
from medtl_core.store import cache_folder
from medtl_core.values import Array, Examples

#: Share of the patients held out as test where the data name none.
HELD_OUT = 0.25


@dataclass(frozen=True)
class Source:
    """Cases and what is known about them, by the catalog or, of own data, by `task.json`.

    Attributes:
        notes: sentences that a reader of the results should know.
        has_patients: whether the data say whose each case is; else every case counts as one patient.
        patients: str [m], of all cases that are there, whether or not they can be used.
    """

    entry: Entry
    examples: Examples
    notes: tuple[str, ...] = ()
    has_patients: bool = True
    patients: Array = field(default_factory=lambda: np.zeros(0, np.str_))

    @property
    def columns(self) -> int:
        """Number of columns of a table; 0 for images."""
        return int(self.examples["table"].shape[1]) if "table" in self.examples.columns else 0


def open_source(settings: Settings) -> Source:
    """Returns the cases `settings` name; no image file is opened yet.

    `data` names a catalog entry, or is "" to recognise `data_path`. A name beside a folder with `manifest.csv` takes
    the task and views of that entry and the cases of the manifest: so hospitals that own parts of one set agree on
    its classes. Where the data name no test case and no `test_path` is given, a quarter of the patients of every site
    is held out, the same ones for every seed.

    Raises:
        ConfigError: the data are not named, or by an unknown name.
        DataError: the data are missing, not recognised or unusable.
    """
    named = _named(settings)
    if settings.data_path:
        source = _open_path(Path(settings.data_path), named, settings)
    elif settings.data == "phantom":
        size, patients = max(settings.sizes, default=DEFAULT_SIZE), phantom_patients(settings)
        examples = phantom(size=size, patients=patients, folder=cache_folder(settings.cache))
        source = _known(catalog()["phantom"], examples)
    elif settings.data:
        raise ConfigError(f"data={settings.data!r} needs data-path, the folder where the set lies")
    else:
        raise ConfigError("no data named: set data to a catalog name, or data-path to a folder or file")
    held = (source.examples["split"] == "test").any() or settings.test_path
    return source if held else _hold_out(source)


def private_source(settings: Settings) -> Source:
    """Returns the training cases of a hospital that owns its data, as private sums read them.

    Nothing is held out but what a split column says, no setting chooses cases, and a case that cannot be read is left
    out and logged. Image files are looked at by `Material.readable`, not here.

    Guarantee:
        Unit: patient. Which of a patient's cases are returned, and with which label, depends on their own rows, on
        `settings` and on what the folder says of all cases (file names, header, `task.json`); so does a refusal on the
        latter two only. Public: nothing; no text of an error or of the log leaves the hospital.

    Raises:
        ConfigError: the data are named by an unknown name.
        DataError: the file as a whole is missing or unusable, or the classes are not stated, or two ways.
    """
    path, named = Path(settings.data_path), _named(settings)
    stated = read_task(path if path.is_dir() else path.parent) if path.exists() else None
    if stated and named and stated[0].classes != named.task.classes:
        raise DataError(f"task.json at {path} states other classes than data={settings.data!r}; leave one of them out")
    source = _open_path(path, named, settings, lenient=True)
    used = source.examples[USABLE] & (source.examples["split"] != "test")
    return replace(source, examples=source.examples.take(used), patients=source.examples["patient"])


def count_patients(path: Path) -> int:
    """Returns how many patients a hospital's own data hold to train on, for its own eyes: an upper bound, if rows fail.

    Data that do not say whose each case is have as many patients as cases.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    if path.suffix.lower() != ".csv" and not (path / MANIFEST).is_file():
        examples = open_source(Settings(data="", data_path=str(path), test_path="of the server")).examples
        return len(np.unique(examples["patient"][examples["split"] != "test"]))
    known = recognise(path) if path.is_file() else None
    table = read_csv(path if path.is_file() else path / MANIFEST, lenient=True)
    patient, split = (known.layout.patient, known.layout.split) if known else ("patient_id", "split")
    trains = table.columns[split] != "test" if split in table.columns else np.ones(len(table), dtype=bool)
    return len({*table.columns[patient][trains].tolist()} - {""}) if patient in table.columns else int(trains.sum())


def _named(settings: Settings) -> Entry | None:
    """The catalog's entry that settings name."""
    if settings.data and settings.data not in catalog():
        raise ConfigError(f"data={settings.data!r} is not in the catalog; {did_you_mean(settings.data, catalog())}")
    return catalog().get(settings.data)


def phantom_patients(settings: Settings) -> int:
    """Returns how many phantom patients the hospitals of `settings` need; never below the default."""
    seats = apportion({name: share for name, share in SHARES.items() if name != settings.leave_out}, settings.sites)
    # Trimming a hospital to whole patients can waste one image each; two more keep uneven shares above the line.
    needed = {name: count * (settings.shots + 3) for name, count in seats.items()}
    patients = DEFAULT_PATIENTS
    while any(train_images(patients)[name] < count for name, count in needed.items()):
        patients = patients * 5 // 4
    return patients


def _open_path(path: Path, named: Entry | None, settings: Settings, *, lenient: bool = False) -> Source:
    if not path.exists():
        raise DataError(f"data-path {path} does not exist")
    if path.suffix.lower() == ".csv" or (path / MANIFEST).is_file():
        known = recognise(path) if path.is_file() else None
        if known and named in (None, known):
            return _catalogued(known, path, lenient)
        task, words = named.task if named else None, settings.backbone.split("+")
        if words == ["table"]:
            examples = read_numbers(path, task, lenient=lenient)
        else:
            examples = read_manifest(path, task, numbers="table" in words, lenient=lenient)
        return _known(named, examples) if named else _own(path, examples)
    if named is not None and not matches(named, path):
        wanted = " or ".join([MANIFEST, *named.files])
        raise DataError(f"{path} does not hold {named.name}: expected {wanted}; set data='' to recognise it")
    entry = named or recognise(path)
    if entry is not None:
        return _catalogued(entry, path, lenient)
    if path.is_dir() or path.suffix.lower() == ".npz":
        stated = read_task(path if path.is_dir() else path.parent) if lenient else None
        if lenient and stated is None:
            raise DataError(f"{path}: the classes are not stated; list them in task.json")
        open_ = read_folder if path.is_dir() else read_medmnist
        examples = open_(path, stated[0] if stated else None, lenient=lenient)
        source = _own(path, examples, "No patient ids: every image counts as one patient.")
        return replace(source, has_patients=False)
    raise DataError(f"{path} is neither a folder, a manifest (.csv) nor an .npz file")


def _catalogued(entry: Entry, path: Path, lenient: bool) -> Source:
    layout, source = entry.layout, _known(entry, read_known(entry, path, lenient=lenient))
    return replace(source, has_patients=layout.kind == "arrays" or bool(layout.patient))


def _known(entry: Entry, examples: Examples) -> Source:
    return Source(entry, examples, (entry.note,) if entry.note else ())


def _own(path: Path, examples: Examples, note: str = "") -> Source:
    """Makes the record of own data; what keeps the label is not known unless `task.json` says so."""
    stated = read_task(path if path.is_dir() else path.parent)
    views = (stated[1] if stated else ()) or ("identity",)
    title, unknown = f"own data: {path.stem}", "not stated"
    layout = Layout("own")
    entry = Entry("own", title, unknown, examples.task, (), layout, "natural", views, unknown, "", "", note=note)
    return _known(entry, examples)


def _hold_out(source: Source) -> Source:
    """Marks a quarter of the patients of every site and class as test."""
    examples = source.examples
    _, first, code = np.unique(examples["patient"], return_index=True, return_inverse=True)
    held = np.zeros(len(first), dtype=bool)
    strata = np.unique(np.stack([examples["site"], examples["label"].astype(str)], axis=1)[first], axis=0)
    for site, label in strata:
        patients = np.flatnonzero((examples["site"][first] == site) & (examples["label"][first] == int(label)))
        count = int(len(patients) * HELD_OUT + 0.5) if len(patients) > 1 else 0
        held[stream(0, "hold-out", site, label).permutation(patients)[:count]] = True
    split = np.where(held[code], "test", examples["split"])
    note = f"No test split in the data: {HELD_OUT:.0%} of the patients of every site are held out."
    columns = {**examples.columns, "split": split}
    return Source(source.entry, Examples(columns, examples.task), (*source.notes, note))
