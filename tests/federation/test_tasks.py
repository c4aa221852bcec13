import numpy as np
import pytest

from medtl_core.federation.registry import answer
from tests.memory import make_site

SITE = make_site("a", 12)


def test_moments_by_hand_are_released_and_say_that_they_are_not_private() -> None:
    released = answer("moments", SITE, {}, {})
    assert (released.event.mechanism, released.event.epsilon) == ("none", float("inf"))
    arrays = released.update.arrays
    assert arrays["counts"].tolist() == [4, 4, 4]
    np.testing.assert_allclose(arrays["sum"], SITE.values.astype(float).sum(0))


@pytest.mark.parametrize("stack", [1, 4])
def test_fit_tells_the_loss_of_the_first_head_before_and_after(stack: int) -> None:
    from scipy.special import log_softmax

    start = np.zeros((stack, 3, 7), np.float32)
    start[:, 0, :] = 0.25
    scaling = {"mean": np.full(6, 0.5, np.float32), "scale": np.full(6, 2.0, np.float32)}
    config = {"epochs": 2, "batch-size": 5, "learning-rate": 0.1, "weight-decay": 0.0, "proximal": 0.0, "round": 1}
    released = answer("fit", SITE, {"heads": start, **scaling}, config)
    inputs = np.concatenate([(SITE.values.astype(float) - 0.5) / 2.0, np.ones((12, 1))], axis=1)
    for name, head in (("loss-before", start[0]), ("loss-after", released.update.arrays["heads"][0])):
        loss = -log_softmax(inputs @ head.T.astype(float), axis=1)[np.arange(12), SITE.label].mean()
        np.testing.assert_allclose(released.metrics[name], loss, rtol=1e-5)
    assert released.metrics["loss-after"] < released.metrics["loss-before"]
