"""The tables of methods, hospital tasks and models: whatever a module of `medtl_core.methods` lists.

A new file in that folder with a table `METHODS` is a new method; nothing else has to know it. The modules are read only
when something is asked for that the usual ones do not have: a deployed hospital starts a process for every message, and
making their many small classes takes longer than most answers.
"""

import importlib
import pkgutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from medtl_core import methods
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError, did_you_mean
from medtl_core.federation import tasks
from medtl_core.federation.feature_map import IDENTITY, tasks_of
from medtl_core.federation.method import Method
from medtl_core.federation.model import Model, Packed
from medtl_core.federation.private import PrivateMethod, PrivateTask
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.values import Released, Update

#: Modules whose methods most runs name; they are read before the others, and alone where they suffice.
_USUAL = tuple(
    f"{methods.__name__}.{name}"
    for name in ("quasi_newton", "local", "closed", "gradient", "fedavg", "balanced", "descent", "logistic", "auto")
)


#: Why a private run of a multi-label task is refused.
NOT_PRIVATE = (
    "private methods tell classes apart; a patient of a multi-label task changes the sums of every finding, which no "
    "method here accounts for: set privacy=none, or make one finding the task"
)


@cache
def _names() -> tuple[str, ...]:
    """Every module of `medtl_core.methods`, the usual ones first."""
    walked = pkgutil.walk_packages(methods.__path__, f"{methods.__name__}.")
    return tuple(dict.fromkeys([*_USUAL, *sorted(info.name for info in walked if not info.ispkg)]))


@cache
def _modules() -> tuple[ModuleType, ...]:
    return tuple(map(importlib.import_module, _names()))


@cache
def _table(name: str) -> dict[str, Any]:
    """One mapping from all modules' tables of a name; a key that two modules claim is a mistake in the code."""
    joined: dict[str, Any] = {}
    for module in _modules():
        entries = getattr(module, name, ())
        rows = entries.items() if isinstance(entries, Mapping) else ((entry.kind, entry) for entry in entries)
        for key, value in rows:
            if joined.get(key, value) is not value:
                raise ConfigError(f"{module.__name__}: {key!r} is in another module's {name} already; rename it")
            joined[key] = value
    return joined


def travelled(site: SiteData, arrays: Arrays, config: Config) -> Model:
    """Returns the model that came with a message: its arrays, and its `config` under names that begin with "model-"."""
    values = {key.removeprefix("model-"): value for key, value in config.items() if key.startswith("model-")}
    kind, fingerprint = str(values.pop("kind", "")), str(values.pop("fingerprint", ""))
    return unpack(kind, Packed(arrays, values, tuple(map(str, range(site.classes))), fingerprint))


def evaluate_model(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summable evaluation of one model on this hospital's held-out cases; see `evaluation.federated`."""
    logits = travelled(site, arrays, config).logits(site.test_values, site.test_material)
    return Released(Update({name: array[None] for name, array in tasks.judged(site, logits).arrays.items()}))


@cache
def _usual_tasks() -> Mapping[str, Task]:
    """What a hospital answers without reading another module than the usual ones."""
    usual = {**tasks.TASKS, **tasks_of(IDENTITY), evaluate_model.__name__: evaluate_model}
    for name in _USUAL:
        usual |= getattr(importlib.import_module(name), "TASKS", {})
    return usual


def all_methods() -> tuple[type[Method], ...]:
    """Returns every class of methods."""
    return tuple(kind for module in _modules() for kind in getattr(module, "METHODS", ()))


def all_tasks() -> Mapping[str, Task]:
    """Returns everything a hospital can be asked, by the name of the message."""
    return {**_usual_tasks(), **_table("TASKS")}


def all_private_tasks() -> Mapping[str, PrivateTask]:
    """Returns what a hospital can be asked under privacy: sums that only its gate lets out."""
    private = _table("PRIVATE_TASKS")
    both = sorted(private.keys() & all_tasks().keys())
    if both:
        raise ConfigError(f"task {both[0]!r} is private and plain at once; rename one")
    return private


def all_models() -> Mapping[str, type[Model]]:
    """Returns every kind of model that can travel."""
    return _table("MODELS")


def _kinds(word: str) -> Iterator[type[Method]]:
    """All classes of methods, the usual ones and those of a module called as a method's name begins before others."""
    begins = word.replace("-", "_")
    for name in _USUAL:
        yield from getattr(importlib.import_module(name), "METHODS", ())
    for name in _names():
        if begins.startswith(name.rpartition(".")[2]):
            yield from getattr(importlib.import_module(name), "METHODS", ())
    yield from all_methods()


def find_method(name: str, said: str = "unknown method") -> Method:
    """Returns the method a name stands for; the usual ones are tried before another module is read.

    Raises:
        ConfigError: no method has that name; the nearest one that can be typed is suggested.

    Example:
        >>> find_method("fedavg-20-adjusted").rounds
        20
    """
    for method in (kind.parse(name) for kind in _kinds(name)):
        if method is not None:
            return method
    longer = [known for known in method_names() if known.startswith(f"{name}-")]
    hint = f"did you mean {longer[0]!r}?" if longer else did_you_mean(name, method_names())
    raise ConfigError(f"{said} {name!r}; {hint}")


def method_names() -> tuple[str, ...]:
    """Returns a name of every family of methods; each can be typed."""
    return tuple(name for kind in all_methods() for name in kind.names())


def read_methods(text: str) -> tuple[Method, ...]:
    """Returns the methods of a comma-separated list, without repeats.

    Raises:
        ConfigError: a name is unknown (the nearest is suggested) or the list is empty.

    Example:
        >>> [method.name for method in read_methods("ridge, fedavg-5")]
        ['ridge', 'fedavg-5']
    """
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise ConfigError("methods is empty; name at least one, e.g. methods=discriminant")
    return tuple(find_method(name) for name in names)


def chosen_methods(settings: Settings) -> tuple[Method, ...]:
    """Returns the methods of a run: those named, or under `privacy` its mechanism.

    With privacy=auto or a mechanism's name, `methods` counts only if it names private methods and no others.

    Raises:
        ConfigError: a name is unknown, or a private method is named where privacy=none.
    """
    methods = read_methods(settings.methods)
    private = [method.name for method in methods if isinstance(method, PrivateMethod)]
    if settings.privacy == "none" and private:
        raise ConfigError(
            f"methods names {private[0]}, but with privacy=none hospitals tell their true number of cases beside it: "
            "set privacy=auto and name private methods only; compare with others in a second run"
        )
    if settings.privacy == "none" or len(private) == len(methods):
        return methods
    said = f"privacy={settings.privacy} is neither none nor auto, and no mechanism is called"
    return (find_method(f"private-{settings.privacy.removeprefix('private-')}", said),)


def label_methods() -> tuple[type[Method], ...]:
    """Returns every class of methods that answer multi-label tasks."""
    return tuple(kind for module in _modules() for kind in getattr(module, "LABEL_METHODS", ()))


def multi_label(methods: Sequence[Method]) -> tuple[Method, ...]:
    """Returns the methods of the same names that answer multi-label tasks.

    Raises:
        ConfigError: names the first that has no such twin.
    """
    kinds = label_methods()
    found = [next(filter(None, (kind.parse(method.name) for kind in kinds)), method) for method in methods]
    for method, twin in zip(methods, found, strict=True):
        if isinstance(method, PrivateMethod):
            raise ConfigError(NOT_PRIVATE)
        if twin is method:
            known = ", ".join(sorted(kind.example for kind in kinds))
            raise ConfigError(f"{method.name} does not answer multi-label tasks; those that do: {known}")
    return tuple(found)


def check_effect(typed: Collection[str], chosen: Settings) -> None:
    """Refuses words that nothing in a run would read; see `methods.effect.check_effect`."""
    importlib.import_module(f"{methods.__name__}.effect").check_effect(typed, chosen)


def unpack(kind: str, packed: Packed) -> Model:
    """Returns the model of a kind from its arrays.

    Raises:
        WeightsError: no such kind, or the arrays do not fit it.
    """
    models = all_models()
    if kind not in models:
        raise WeightsError(f"no model is of kind {kind!r}; {did_you_mean(kind, models)}")
    return models[kind].unpack(packed)


def answer(name: str, site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Runs the hospital task called `name`.

    Raises:
        ConfigError: no such task.
    """
    task = _plain_task(name)
    if task is None:
        raise ConfigError(f"the server asked for an unknown task {name!r}; {did_you_mean(name, all_tasks())}")
    return task(site, arrays, config)


def private_task(name: str) -> PrivateTask | None:
    """Returns the private task called `name`; None if it is none."""
    return all_private_tasks().get(name) if _plain_task(name) is None else None


@lru_cache(maxsize=256)
def _plain_task(name: str) -> Task | None:
    """The task that is not private; the usual ones and those of modules that were read come before all others."""
    if name in _usual_tasks():
        return _usual_tasks()[name]
    read = (getattr(sys.modules.get(module), "TASKS", {}) for module in _names())
    return next((known[name] for known in read if name in known), None) or all_tasks().get(name)
