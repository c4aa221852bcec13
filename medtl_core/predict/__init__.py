"""A trained head in use: probabilities for new cases.

from medtl_core.predict import load

predictor = load("runs/demo/seed-0/heads/auto.json")
answers = predictor.answers(["new/17.png"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medtl_core.predict.predictor import Predictor, load

__all__ = ["Predictor", "load"]


def __getattr__(name: str) -> Any:  # whoever saves a head needs no predictor
    if name in __all__:
        from medtl_core.predict import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
