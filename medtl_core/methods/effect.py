"""Words without effect: a setting that a person typed and that the run would not read is refused.

A method declares what it reads (`Method.reads`); which other settings are read follows from the settings themselves.
What a scenario file states, or what is usual, is never refused: only words that a person typed for this one run; nor is
where a machine computes or keeps something, as scripts say it for all their runs. Under
`flwr run` settings that are not as usual are taken as typed, for nothing else tells them apart.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from medtl_core.config import Settings
from medtl_core.errors import ConfigError

#: Settings that are read by the methods that declare them, and by nothing else.
OF_METHODS = (
    "folds", "local-epochs", "batch-size", "learning-rate", "weight-decay", "proximal", "server-momentum",
    "server-rate", "adam-rate", "tune-epochs", "tune-rate",
)  # fmt: skip
#: Methods named as examples of those that would read a setting.
_SHOWN = 6


@dataclass(frozen=True)
class Rule:
    """When nothing reads some settings.

    Attributes:
        words: the settings.
        idle: whether nothing reads them under the run's settings.
        why: the reason, with the settings' own values in braces.
        remedy: what would give them an effect.
    """

    words: tuple[str, ...]
    idle: Callable[[Settings], bool]
    why: str
    remedy: str


RULES = (
    Rule(
        ("epsilon", "delta", "secure-sum", "colluders", "public-cases", "public-images"),
        lambda chosen: chosen.privacy == "none", "with privacy=none", "set privacy=auto",
    ),
    Rule(("colluders",), lambda chosen: not chosen.secure_sum, "without a secure sum", "set secure-sum=true"),
    Rule(
        ("min-cell",), lambda chosen: chosen.privacy != "none", "under privacy, where every patient counts alike",
        "set privacy=none",
    ),
    Rule(
        ("image-size", "views", "modality"),
        lambda chosen: "image" not in chosen.kinds, "without images", "name a backbone that reads images",
    ),
    Rule(
        ("public-images",), lambda chosen: "image" not in chosen.kinds and chosen.kinds != {"text"},
        "without images or notes", "name a backbone that reads images, or notes alone",
    ),
    Rule(
        ("features",), lambda chosen: chosen.kinds == {"table"} and "pairs" not in chosen.features, "on a table",
        "set features=pairs, or name a backbone with taps",
    ),
    Rule(
        ("weights",), lambda chosen: chosen.kinds == {"table"}, "on a table", "name a backbone with weights",
    ),
    Rule(
        ("modality",), lambda chosen: bool(chosen.data) and not chosen.data_path, "on {data}, whose modality is known",
        "give --data FOLDER with images of your own",
    ),
    Rule(
        ("alpha",), lambda chosen: chosen.partition not in ("dirichlet", "skewed"), "with partition={partition}",
        "set partition=dirichlet or skewed",
    ),
    Rule(
        ("test-path",), lambda chosen: chosen.test == "sites", "with test=sites, where the server judges no case",
        "set test=server",
    ),
    Rule(("quorum",), lambda chosen: chosen.sites == 1, "with one hospital", "set sites to more"),
)  # fmt: skip
#: What a simulation sets itself.
SIMULATED = (Rule(("state",), lambda chosen: True, "in a simulation, whose run folder keeps it", "deploy the run"),)


def check_effect(typed: Collection[str], chosen: Settings, rules: tuple[Rule, ...] = RULES) -> None:
    """Refuses words that a person typed and that a run under such settings would ignore.

    Args:
        typed: keys of settings (kebab-case).
        chosen: all settings of the run.
        rules: when settings that methods do not declare are ignored.

    Raises:
        ConfigError: names the first word, why nothing reads it and what would; or a method that privacy leaves out.
    """
    from medtl_core.federation.registry import chosen_methods, read_methods

    for word in typed:
        for rule in rules:
            if word in rule.words and rule.idle(chosen):
                _refuse(word, rule.why.format(**vars(chosen)), rule.remedy)
    methods = chosen_methods(chosen)
    names, read = {method.name for method in methods}, {word for method in methods for word in method.reads}
    left = [method.name for method in read_methods(chosen.methods) if method.name not in names]
    if "privacy" in typed and chosen.privacy.startswith("private-") and chosen.privacy not in names:
        raise ConfigError(f"privacy={chosen.privacy} is none of the methods named; set privacy=auto, or name it alone")
    if left and "methods" in typed:
        raise ConfigError(
            f"methods names {left[0]}, which is not private and does not run under privacy; name private methods only, "
            "or set privacy=none"
        )
    for word in OF_METHODS:
        if word in typed and word not in read:
            _refuse(word, "on these methods", f"{_readers(word)} would read it")


def _readers(word: str) -> str:
    from medtl_core.federation.registry import all_methods

    names = [kind.example for kind in all_methods() if word in kind.reads]
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def _refuse(word: str, why: str, remedy: str) -> None:
    raise ConfigError(f"{word} has no effect {why}; {remedy}, or leave it out")
