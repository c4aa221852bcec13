from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from medtl_core.errors import DataError
from medtl_core.heads.linear import (
    Lesson,
    Training,
    softmax,
    to_raw,
    train,
    with_bias,
)  # fmt: skip
from medtl_core.heads.logistic import class_weights, loss_and_gradient
from medtl_core.methods.local import local_head, logistic
from medtl_core.methods.pooled_logistic import penalised
from medtl_core.rng import stream
from medtl_core.values import ABSENT


def cases(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(5, "linear")
    label = np.arange(count) % 3
    return rng.standard_normal((count, 4)) + label[:, None], label


def test_batches_are_stochastic_gradient_descent_in_a_random_order() -> None:
    values, label = cases()
    inputs = with_bias(values, values.mean(0), values.std(0))
    lesson = Lesson(inputs, np.eye(3)[label])
    ours = train(np.zeros((1, 3, 5)), lesson, Training(epochs=2, batch_size=8), rng=stream(0, "t"))[0]
    head, rng = np.zeros((3, 5)), stream(0, "t")
    for _ in range(2):
        for rows in np.split(rng.permutation(40), 5):
            gradient = (softmax(inputs[rows] @ head.T) - np.eye(3)[label[rows]]).T @ inputs[rows] / 8
            head = head - 0.05 * (gradient + 1e-3 * head)
    np.testing.assert_allclose(ours, head, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("count", "width"), [(40, 4), (20, 60)])
def test_logistic_minimises_the_penalised_balanced_loss(classes: int, count: int, width: int) -> None:
    rng = stream(6, "linear")
    label = np.minimum(np.arange(count) % (classes + 1), classes - 1)  # imbalance, so that the class weights count
    values = rng.standard_normal((count, width)) + label[:, None]
    inputs = with_bias(values, values.mean(0), values.std(0))
    weight = class_weights(np.bincount(label, minlength=classes).astype(float))
    head = logistic(inputs, label, classes)
    loss, slope = loss_and_gradient(head, inputs, label, weight)
    assert np.abs(penalised(loss, slope, head, count, 1e-2)[1]).max() < 1e-3
    oracle = LogisticRegression(C=(2 if classes == 2 else 1) / (1e-2 * count), class_weight="balanced", tol=1e-8)
    theirs = oracle.fit(inputs[:, :-1], label).predict_proba(inputs[:, :-1])
    np.testing.assert_allclose(softmax(inputs @ head.T), theirs, atol=1e-3)


def test_a_hospital_alone_answers_what_it_has_seen() -> None:
    values, label = cases()
    label = np.where(label == 2, 3, label)  # of five classes it shows 0, 1 and 3
    head = local_head(values.astype(np.float32), label, 5)
    assert head.shape == (5, 5) and (head[[2, 4], -1] == ABSENT).all()
    assert ((values @ head[:, :-1].T + head[:, -1]).argmax(axis=1) == label).mean() > 0.6
    single = local_head(values.astype(np.float32), np.ones(40, dtype=np.int64), 3)
    assert ((values @ single[:, :-1].T + single[:, -1]).argmax(axis=1) == 1).all()
    nobody = local_head(np.zeros((0, 4), np.float32), np.zeros(0, dtype=np.int64), 3)
    assert (nobody[:, -1] == ABSENT).all()


@given(
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 6), st.integers(2, 4), st.integers(1, 3), st.integers(1, 4)),
    terms=st.tuples(st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.01]), st.booleans()),
    size=st.integers(1, 30),
    seed=st.integers(0, 10**6),
)
def test_steps_on_features_and_within_the_span_of_the_cases_are_plain_gradient_descent(
    sizes: tuple[int, ...], terms: tuple[float, float, bool], size: int, seed: int
) -> None:
    count, width, classes, stack, epochs = sizes
    proximal, decay, controlled = terms
    rng = np.random.default_rng(seed)
    inputs, label = rng.standard_normal((count, width)), rng.integers(0, classes, count)
    start = rng.standard_normal((stack, classes, width))
    control = rng.standard_normal(start.shape) if controlled else None
    training = Training(epochs, size, 0.1, decay, proximal)
    lesson = Lesson(inputs, np.eye(classes)[label], None, control)
    both = [
        train(start, each, training, rng=stream(seed, "order") if count > size else None)
        for each in (lesson, replace(lesson, pairs=inputs @ inputs.T))
    ]
    order = stream(seed, "order")
    passes = [order.permutation(count) if count > size else np.arange(count) for _ in range(epochs)]
    for number, head in enumerate(start.copy()):
        for rows in (cases[first : first + size] for cases in passes for first in range(0, count, size)):
            gradient = (softmax(inputs[rows] @ head.T) - np.eye(classes)[label[rows]]).T @ inputs[rows] / len(rows)
            gradient = gradient + decay * head + proximal * (head - start[number])
            head = head - 0.1 * (gradient + (0.0 if control is None else control[number]))
        for ours in both:
            np.testing.assert_allclose(ours[number], head, rtol=1e-9, atol=1e-11)


def test_no_cases_leave_the_head_alone_and_several_batches_need_an_order() -> None:
    values, label = cases(30)
    head = np.ones((1, 3, 4))
    lesson = Lesson(values, np.eye(3)[label])
    assert train(head, Lesson(values[:0], np.zeros((0, 3))), Training(), rng=stream(0, "t")) is head
    with pytest.raises(TypeError, match="rng"):
        train(head, lesson, Training(), rng=None)


def test_divergence_is_a_named_error() -> None:
    values, label = cases()
    inputs = with_bias(values * 1e200, 0 * values[0], values[0] * 0 + 1)
    for size in (16, 40):
        training = Training(batch_size=size, epochs=8, learning_rate=1e200)
        with np.errstate(all="ignore"), pytest.raises(DataError, match="diverged"):
            train(np.zeros((1, 3, 5)), Lesson(inputs, np.eye(3)[label]), training, rng=stream(0, "t"))


def test_raw_head_reads_raw_features() -> None:
    values, label = cases()
    mean, scale = values.mean(0), values.std(0)
    head = logistic(with_bias(values, mean, scale), label, 3)
    raw = to_raw(head, mean, scale, np.array([True, True, False]))
    np.testing.assert_allclose(values @ raw[:2, :-1].T + raw[:2, -1], (with_bias(values, mean, scale) @ head.T)[:, :2])
    assert raw[2, -1] == ABSENT
