"""Settings of one run: flat, frozen, checked at the edge.

The same flat kebab-case keys serve `medtl simulate --set`, a scenario file and the run config of Flower, so the three
roads read one vocabulary. An unknown key is refused with the nearest known name.
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.errors import ConfigError, did_you_mean, not_negative, one_of, positive
from medtl_core.runtime import check_device

Value = str | int | float | bool

# What `Settings` checks one by one.
_POSITIVE = (
    "sites", "local_epochs", "batch_size", "learning_rate", "alpha", "deadline", "quorum", "bootstrap", "tune_epochs",
    "tune_rate", "epsilon", "server_rate", "adam_rate",
)  # fmt: skip
_NOT_NEGATIVE = (
    "shots", "min_cell", "weight_decay", "proximal", "delta", "colluders", "public_cases", "server_momentum",
)  # fmt: skip
_WORDS: Mapping[str, tuple[str, ...]] = {
    "partition": ("natural", "dirichlet", "skewed", "size", "even"),
    "views": ("auto", "one"),
    "test": ("server", "sites"),
}
#: Settings that are local to a side, or to the server alone; what an array means, its fingerprint tells.
_JUDGED = ("bootstrap", "subgroups", "operating_points", "outliers", "keep_scores")
_SERVER = ("methods", "out", "state", "study", "deadline", "quorum", *_JUDGED)
_LOCAL = ("modality", "cache", "data_path", "device", "test_path", "weights", *_SERVER)
#: Settings that name places, on a disk or in a machine. A hospital that owns its data takes none of them from a run:
#: these are the server's own, which it never looks at, ...
_SERVERS_PLACES = ("data_path", "test_path", "out", "state")
#: ... and these it names itself.
_HOSPITALS_PLACES = ("cache", "weights", "device")
#: Kinds of backbones that read no image, by their first word.
_KINDS = ("table", "signal", "text")
#: Words of a promise: without one they would be ignored.
_PROMISE = ("epsilon", "delta", "secure_sum", "colluders")
#: Settings that are gone, at their default: the agreement keeps its hash, so state and ledgers on disk are found again.
_RETIRED: Mapping[str, Value] = {"shift": ""}
#: Why a promise needs a number that everybody may know, and the most resamples that an interval is made of.
_PUBLIC_NUMBER = "privacy needs a public number of patients at every hospital: set public-cases=N (or shots), 2 or more"
_MOST = 100_000
#: Two sides in pixels, the second for `auto` to take or leave, from so many shots on, and under which settings.
_SIZES, _SIZES_FROM = "128+224", 25
_SIZES_FOR = {"methods": "auto", "backbone": "lite0", "features": "rich", "image_size": 0, "privacy": "none"}


@dataclass(frozen=True)
class Settings:
    """One run's settings. Every field is public: nothing derived from a patient may stand here.

    Attributes:
        data: a catalog name ("phantom", "ham10000_sites", ...) or "" to recognise the folder at `data_path`.
        data_path: absolute folder or file of the data; "" for built-in data.
        modality: what own images show, e.g. "dermoscopy": their views and augmentation. "" = what the data say.
        sites, shots: simulated hospitals, and the labelled training cases each holds; 0 = all it has.
        partition: "natural" (by the site column), "dirichlet" (label skew `alpha`), "skewed" (the same, held-out cases
            too), "size" (unequal sizes) or "even".
        alpha: Dirichlet concentration; small = skewed.
        seed: of partition, folds and training order; never of privacy noise.
        backbone: "lite0", "torchvision:NAME", "timm:NAME", "file:PATH", "own:NAME", "random:ARCH", "gabor",
            "table", "signal:NAME" or "text:NAME"; several side by side are joined by "+", of any kinds.
        weights: file or folder with the backbone's weights, or a folder of folders named by architecture; "" = where
            the backbone's record says.
        features: "rich" (several taps; mean, standard deviation and centre), "plain" (one tap, mean) or taps such as
            "4+10"; with several backbones for each of them, or by name: "lite0:4+torchvision:squeezenet1_1:rich". With
            "@2" behind, as version 2 of the features made them.
        image_size: pixels a side; "128+224" = every backbone at both, side by side; 0 = what `features` implies, and
            both for rich features of lite0 from 25 shots on where `auto` is the only method, without privacy.
        views: "auto" (what the catalog states for the modality) or "one".
        methods: names to compare, with commas between.
        folds: of cross-validation for shrinkage, temperature and the choice of head.
        local_epochs, batch_size, learning_rate, weight_decay: of the linear head trained at a hospital.
        proximal: FedProx coefficient.
        server_momentum, server_rate, adam_rate: FedAvgM's momentum, its server learning rate and FedAdam's.
        tune_epochs, tune_rate: of fine-tuning the backbone at a hospital; the rate is the head's, blocks get less.
        test: "server" (central labelled test set) or "sites" (each hospital judges on its own held-out cases).
        test_path: data the server judges on when hospitals own their folders; "" = the shared data's test split.
        leave_out: a natural site that no simulated hospital is cut from; the server judges on all its cases, or with
            "SITE:test" on its test cases only. "" = none.
        min_cell: hospitals drop classes with fewer cases than this before anything leaves; 0 = keep all.
        quorum, deadline: share of hospitals that must answer every round, in (0, 1], and its seconds.
        bootstrap: resamples of patients in the central evaluation.
        subgroups: columns of the server's test cases, with commas between, whose groups are judged by themselves, such
            as "sex,age"; "" = none.
        operating_points: sensitivity for which a threshold is set for each class, on the hospitals' training cases by
            heads that never saw them (one exchange more), such as 0.9; 0 = none.
        outliers: share of cases like the training cases that a saved head may take for unlike them, such as 0.01 (one
            exchange more); 0 = it tells none.
        keep_scores: whether `scores.npz` with the score of every test case is kept, so that each figure can be computed
            again.
        cache: folder of the feature cache; "" = the user's cache folder, "off" = no cache.
        device: of features and training: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N"; see docs/data.md.
        out: absolute folder the server writes results to; "" = nothing is written.
        state: absolute folder below which simulated hospitals keep their personal state; a deployed hospital has its
            own. "" = methods that need one are refused. Under privacy the server remembers there
            where hospitals' ledgers stand; "" = for one run only.
        study: what the run is called in the ledgers and receipts of hospitals, which keep 80 signs of it; "" = nothing.
        privacy: "none", "auto" or a private mechanism such as "private-mean"; when it is not "none", nothing leaves a
            hospital that its ledger did not pay for.
        epsilon, delta: of the promise to every patient, over all releases of one method; delta 0 = min(1e-5,
            1 / (10 x public cases)).
        secure_sum: whether the server sees only the sum over hospitals, which then share the noise.
        colluders: hospitals that may collude with the server or drop out without the promise suffering.
        public_cases: public number of patients at every hospital; 0 = `shots`.
        public_images: where standardisation and PCA basis of private mechanisms come from: "photos" (two photographs
            that ship with scikit-learn), "phantom" (synthetic radiographs) or a folder of public images, or of notes.
    """

    data: str = "phantom"
    data_path: str = ""
    modality: str = ""
    sites: int = 5
    shots: int = 30
    partition: str = "natural"
    alpha: float = 0.3
    seed: int = 0
    backbone: str = "lite0"
    weights: str = ""
    features: str = "rich"
    image_size: int | str = 0
    views: str = "auto"
    methods: str = "local,nearest-mean,ridge,discriminant,fedavg-5,fedavg-20,fedavg-20-adjusted,auto,pooled-logistic"
    folds: int = 5
    local_epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 0.05
    weight_decay: float = 0.001
    proximal: float = 0.1
    server_momentum: float = 0.9
    server_rate: float = 0.3
    adam_rate: float = 0.01
    tune_epochs: int = 5
    tune_rate: float = 0.05
    test: str = "server"
    test_path: str = ""
    leave_out: str = ""
    min_cell: int = 0
    quorum: float = 0.5
    deadline: float = 600.0
    bootstrap: int = 200
    subgroups: str = ""
    operating_points: float = 0.0
    outliers: float = 0.0
    keep_scores: bool = False
    cache: str = ""
    device: str = "auto"
    out: str = ""
    state: str = ""
    study: str = ""
    privacy: str = "none"
    epsilon: float = 4.0
    delta: float = 0.0
    secure_sum: bool = False
    colluders: int = 1
    public_cases: int = 0
    public_images: str = "photos"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{_kebab(name)}={value} must be a finite number")
        positive(**{name: getattr(self, name) for name in _POSITIVE})
        not_negative(**{name: getattr(self, name) for name in _NOT_NEGATIVE})
        check_device(self.device)
        if self.image_size != 0 and not re.fullmatch(r"[1-9]\d*(\+[1-9]\d*)*", str(self.image_size)):
            raise ConfigError(f"image-size={self.image_size} must be pixels a side, 0, or several such as 128+224")
        if len(set(self.sizes)) != len(self.sizes):
            raise ConfigError(f"image-size={self.image_size} names a size twice")
        for name, words in _WORDS.items():
            one_of(name, getattr(self, name), words)
        judged, private = self.test == "server", self.privacy != "none"
        cases = max(self.public_cases or self.shots, 1) if private else 1
        absolute = all(Path(path).is_absolute() for path in (self.out, self.state) if path)
        for refused, reason in (
            (not absolute, "out and state must each be an absolute path: a Flower process has its own folder"),
            (self.quorum > 1, f"quorum={self.quorum} is a share of the hospitals and must not exceed 1"),
            (self.folds < 2, f"folds={self.folds} must be at least 2: one fold leaves nothing to train on"),
            (self.delta >= 1 / cases, f"delta={self.delta} promises little to {cases} patients; stay below 1/{cases}"),
            (self.leave_out and (not judged or self.test_path), "leave-out needs test=server and no test-path"),
            (private and not judged, "privacy needs test=server: hospitals' figures on their cases are not free"),
            (private and self.min_cell, "privacy needs min-cell=0: who is summed hangs on nobody else"),
            (private and (self.public_cases or self.shots) < 2, _PUBLIC_NUMBER),
            (self.bootstrap > _MOST, f"bootstrap={self.bootstrap} fills the memory for no digit more; at most {_MOST}"),
        ):
            if refused:
                raise ConfigError(reason)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides in pixels that `image_size` names; none = what `features` implies."""
        return tuple(int(word) for word in str(self.image_size).split("+") if word != "0")

    @property
    def kinds(self) -> frozenset[str]:
        """What the backbones read, by `kind_of`."""
        return frozenset(map(kind_of, self.backbone.split("+")))

    def public(self) -> dict[str, Value]:
        """Returns the settings as flat kebab-case keys, the form Flower's run config takes."""
        return {_kebab(name): value for name, value in dataclasses.asdict(self).items()}

    def agreed(self) -> dict[str, Value]:
        """Returns the settings both sides must share for their arrays to mean the same; paths and output are local."""
        agreed = {key: value for key, value in self.public().items() if key.replace("-", "_") not in _LOCAL}
        agreed["features"] = self.features.removesuffix("@2")  # the fingerprint of the features says which version
        return {**agreed, **_RETIRED}

    def of_data(self, *, seed: int = 0) -> "Settings":
        """Returns what decides which cases there are and where they are kept; other settings share one load."""
        kept = (
            "data", "data_path", "modality", "test_path", "leave_out", "sites", "shots", "partition", "alpha",
            "image_size", "backbone", "cache",
        )  # fmt: skip
        return Settings(seed=seed, **{name: getattr(self, name) for name in kept})

    def of_site(self) -> "Settings":
        """Returns only what a hospital's side depends on: runs that differ elsewhere share its features in memory."""
        return self.replace(**{name: getattr(Settings, name) for name in _SERVER})

    def without_places(self) -> "Settings":
        """Returns what a run may order of a hospital that owns its data: what to compute, and no place on its disk.

        Of `test_path` it stays known that the server judges on cases of its own. `public_images` stays, since both
        sides agree on the word; only a server opens it.

        Raises:
            ConfigError: the backbone is a file's path, or under privacy a place that is the hospital's to name.
        """
        if "file:" in self.backbone:
            raise ConfigError("backbone=file:PATH names a place on a hospital's disk; keep the file there as own:NAME")
        for name in _HOSPITALS_PLACES:
            if self.privacy != "none" and getattr(self, name) != getattr(Settings, name):
                raise ConfigError(f"under privacy no run sets {name}: each hospital's own file does")
        places = {name: getattr(Settings, name) for name in (*_SERVERS_PLACES, *_HOSPITALS_PLACES)}
        return self.replace(**{**places, "test_path": "of the server" if self.test_path else ""})

    def without_promise(self) -> "Settings":
        """Returns them without privacy, and without the words that only a promise needs."""
        return self.replace(privacy="none", **{name: getattr(Settings, name) for name in _PROMISE})

    def check_promise(self, typed: Collection[str] = ()) -> None:
        """Refuses words of a promise where none is made: those that differ from the usual, and those a person typed.

        Raises:
            ConfigError: names the first.
        """
        idle = [_kebab(name) for name in _PROMISE if getattr(self, name) != getattr(Settings, name)]
        idle += [word for word in map(_kebab, (*_PROMISE, "public_cases")) if word in typed]
        if self.privacy == "none" and idle:
            raise ConfigError(f"{idle[0]} has no effect with privacy=none; set privacy=auto, or leave it out")

    def replace(self, **changes: Value) -> "Settings":
        """Returns a copy with some fields changed (field names, not kebab-case)."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def kind_of(backbone: str) -> str:
    """Returns what a backbone reads: "image", "table", "signal" or "text"."""
    word = backbone.partition(":")[0]
    return word if word in _KINDS else "image"


def settings(values: Mapping[str, Value]) -> Settings:
    """Returns settings from flat kebab-case keys.

    Raises:
        ConfigError: a key is unknown (the nearest known one is suggested) or a value has the wrong type or range.
    """
    fields = {_kebab(field.name): field for field in dataclasses.fields(Settings)}
    known: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"unknown setting {key!r}; {did_you_mean(key, fields)}")
        known[fields[key].name] = _read_value(key, value, fields[key].type)
    chosen = Settings(**known)
    several = chosen.shots >= _SIZES_FROM and vars(chosen).items() >= _SIZES_FOR.items()
    return chosen.replace(image_size=_SIZES) if several else chosen


def read_assignments(assignments: list[str]) -> dict[str, Value]:
    """Returns settings given as `key=value` words, e.g. from `--set`, as they were typed."""
    values: dict[str, Value] = {}
    for word in assignments:
        key, separator, text = word.partition("=")
        if not separator:
            raise ConfigError(f"{word!r} is not of the form key=value")
        values[key.strip().replace("_", "-")] = text.strip()
    return values


def read_scenario(path: Path) -> dict[str, Value]:
    """Returns the flat settings of a scenario file (TOML).

    Raises:
        ConfigError: the file is missing, is not TOML, or holds tables.
    """
    if not path.is_file():
        options = [entry.stem for entry in path.parent.glob("*.toml")]
        raise ConfigError(f"no scenario {path.stem!r} in {path.parent}; {did_you_mean(path.stem, options)}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"scenario {path.name} cannot be read as TOML in UTF-8: {error}") from error
    nested = [key for key, value in values.items() if isinstance(value, dict | list)]
    if nested:
        raise ConfigError(f"scenario {path.name}: {nested[0]!r} must be a single value, not a table or list")
    return values


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _read_value(key: str, value: Value, kind: Any) -> Any:
    """Returns a value of the type that a key has; text is read as such, so that a name may look like a number.

    Raises:
        ConfigError: it cannot be one.
    """
    if isinstance(value, str):
        value = parsed(value, kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{key}={value!r} must be of type {getattr(kind, '__name__', kind)}")
    return value


def parsed(text: str, kind: Any) -> Value:
    """Returns text as a value of a type; as it is where it can be none."""
    if kind is str or "_" in text:  # 1_000 is a slip, and no number to a person
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return float(text) if kind is float else int(text)
    except ValueError:
        return text
