"""The experiment on sources: its table from made-up candidates."""

from medtl_core.cli.ranking import Candidate
from simulations.sources import HABIT, agreement_markdown


def made(name: str, seed: int, score: float, measured: float) -> Candidate:
    backbone, _, taps = name.rpartition("@")
    scores = {"cv-loss": score, "logme": -score}
    return Candidate(backbone, taps, seed, 8, scores, {"balanced_accuracy": measured, "auroc": measured + 0.1})


def test_the_table_of_agreement_by_hand() -> None:
    part = [
        candidate
        for seed in (0, 1)
        for candidate in (made(HABIT, seed, 0.1, 0.5), made("b@1", seed, 0.2, 0.6), made("b@2", seed, 0.3, 0.7))
    ]
    lines = agreement_markdown({"set": part}, 96).splitlines()
    assert "| cv-loss | +1.00 / +1.00 / 0.0 |" in lines
    assert "| logme | -1.00 / -1.00 / 20.0 |" in lines
    assert f"| always {HABIT} | - / - / 20.0 |" in lines
    assert "| any candidate | - / - / 10.0 |" in lines
    assert lines[-1].endswith(
        "3 candidates of 2 backbones, 2 seeds; measured from 50.0 to 70.0; first by cv-loss: b@2 (2x)"
    )
