"""FedROD: the generic head is the one balanced softmax trains, and the personal head adds to it."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from medtl_core.config import Settings
from medtl_core.heads.linear import Training, train, with_bias
from medtl_core.heads.linear import to_raw as raw_of
from medtl_core.rng import stream
from tests.transfer.personal_sites import last_asked, study, with_state


def test_the_generic_head_is_the_one_of_balanced_softmax(tmp_path: Path) -> None:
    made = study(tmp_path, "fedbal-3,fedrod-3", Settings(test="sites"))
    head = made.outcome(made.methods[0]).heads[""]
    made.outcome(made.methods[1])
    last = last_asked(made, "fedrod_finish")
    moments = made.moments
    raw = raw_of(last.arrays["head"].astype(np.float64), moments.mean, moments.scale, moments.counts > 0)
    np.testing.assert_allclose(head.weight, raw[:, :-1], rtol=1e-5, atol=1e-7)


def test_the_personal_head_learns_the_sum_with_the_generic_one_held_fixed(tmp_path: Path) -> None:
    made = study(tmp_path, "fedrod-1")
    made.outcome(*made.methods)
    first = last_asked(made, "fedrod_round")
    site = with_state(tmp_path)[0]
    kept = load_file(tmp_path / "a" / "fedrod-1.round-1.safetensors")["residual"]
    # the generic head starts at zero, so after one round the personal head is plain softmax regression from zero
    inputs = with_bias(site.values, *(first.arrays[name].astype(np.float64) for name in ("mean", "scale")))
    rng = stream(site.seed, "fedrod-1", "a", 1)
    plain = train(np.zeros((1, 3, 7)), inputs, site.label, Training(2, 16, 0.05, 1e-3), rng=rng)[0]
    np.testing.assert_allclose(kept, plain, atol=1e-12)


def test_the_finished_head_is_the_sum_of_both(tmp_path: Path) -> None:
    made = study(tmp_path, "fedrod-2")
    made.outcome(*made.methods)
    last = last_asked(made, "fedrod_finish")
    kept = load_file(tmp_path / "a" / "fedrod-2.round-2.safetensors")["residual"]
    final = load_file(tmp_path / "a" / "fedrod-2.final.safetensors")
    both = raw_of(last.arrays["head"] + kept, *(last.arrays[name].astype(np.float64) for name in ("mean", "scale")))
    np.testing.assert_allclose(final["weight"], both[:, :-1], rtol=1e-6)
    np.testing.assert_allclose(final["bias"], both[:, -1], rtol=1e-5, atol=1e-6)
