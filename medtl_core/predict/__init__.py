"""A trained head in use: probabilities for new cases.

from medtl_core.predict import load

predictor = load("runs/demo/seed-0/heads/auto.json")
answers = predictor.answers(["new/17.png"])
"""

from medtl_core.predict.predictor import Predictor, load

__all__ = ["Predictor", "load"]
