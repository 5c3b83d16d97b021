"""Optimizer, learning-rate schedule and class weights: Keras gets what the recipe states."""

import numpy as np
import pytest

from tests.deferred import deferred
from training.config import Config, LoopConfig, ModelConfig, OptimizerConfig

with deferred():
    import keras

    from training.fit.optimizers import (
        build_optimizer,
        class_weights,
        learning_rate_callbacks,
        learning_rate_factor,
    )

CONFIG = Config(
    name="m",
    model=ModelConfig(architecture="bow"),
    optimizer=OptimizerConfig(learning_rate=0.5),
    loop=LoopConfig(epochs=4),
)
STEPS = 10


@pytest.mark.parametrize(
    "name", ["sgd", "rmsprop", "adagrad", "adadelta", "adam", "adamax", "adamw", "nadam"]
)
def test_every_optimizer(name: str) -> None:
    """Each optimizer gets the recipe's learning rate, gradient clipping and weight averaging."""
    config = CONFIG.replace(optimizer=name, clip_norm=2.0, ema_momentum=0.9)
    optimizer = build_optimizer(config)
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == 0.5
    assert (optimizer.global_clipnorm, optimizer.use_ema, optimizer.ema_momentum) == (2, True, 0.9)


def test_momentum() -> None:
    """SGD gets the recipe's momentum and Nesterov flag."""
    optimizer = build_optimizer(CONFIG.replace(optimizer="sgd", momentum=0.9, nesterov=True))
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)


def fitted(config: Config) -> tuple[list[float], list[float]]:
    """The learning rate at each step of a fit without gradients, and in its history."""
    rates: list[float] = []

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            rates.append(float(self.model.optimizer.learning_rate))

    right = keras.layers.Dense(1, kernel_initializer="ones")  # the loss is 0 from the start
    model = keras.Sequential([keras.Input((1,)), right])
    model.compile(build_optimizer(config), loss="mse", jit_compile=False)
    x = np.ones((STEPS, 1))
    history = model.fit(
        x, x, batch_size=1, epochs=config.loop.epochs, validation_data=(x, x), verbose=0,
        callbacks=[*learning_rate_callbacks(config), Watch()],
    ).history  # fmt: skip
    return rates, [float(rate) for rate in history.get("learning_rate", [])]


def test_constant() -> None:
    """A constant schedule never changes the learning rate."""
    rates, _ = fitted(CONFIG.replace(schedule="constant"))
    assert rates == [0.5] * (4 * STEPS)


def test_cosine() -> None:
    """A cosine schedule starts at the learning rate, halves it half-way, and ends near 0."""
    rates, history = fitted(CONFIG.replace(schedule="cosine"))
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.5, rel=0.01)
    assert (rates[19] + rates[20]) / 2 == pytest.approx(0.25, rel=0.01)
    assert rates[-1] < 0.001
    assert history == pytest.approx(rates[STEPS - 1 :: STEPS])


def test_exponential() -> None:
    """An exponential schedule multiplies the learning rate by `decay_rate` per epoch."""
    rates, _ = fitted(CONFIG.replace(schedule="exponential", decay_rate=0.5))
    assert rates[STEPS] / rates[0] == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential", "plateau"])
def test_warm_up(schedule: str) -> None:
    """The learning rate rises linearly from 0 in the warm-up; then the schedule starts."""
    rates, _ = fitted(CONFIG.replace(schedule=schedule, warmup_epochs=0.5))
    np.testing.assert_allclose(rates[:5], 0.5 * (np.arange(5) + 0.5) / 5, rtol=1e-5)
    assert rates[5] == pytest.approx(0.5, rel=0.02)


def test_plateau_after_a_warm_up() -> None:
    """After the warm-up, the plateau schedule halves the rate after each epoch without progress."""
    _, history = fitted(CONFIG.replace(schedule="plateau", warmup_epochs=0.5))
    np.testing.assert_allclose(history, [0.5, 0.5, 0.25, 0.125])


def test_learning_rate_factor() -> None:
    """The factor is a function of time alone, so that a training can be resumed, and never < 0."""
    config = CONFIG.replace(schedule="cosine", warmup_epochs=1.0)
    assert [learning_rate_factor(config, epochs) for epochs in (0, 0.5, 1)] == [0, 0.5, 1]
    assert learning_rate_factor(config, 2.5) == pytest.approx(0.5)
    assert learning_rate_factor(config, 9) == 0


def test_class_weights() -> None:
    """Balanced classes have equal total weight, and texts have weight 1 on average."""
    targets = [0, 0, 0, 1]
    weights = class_weights(CONFIG.replace(class_weights="balanced"), targets)
    assert weights == {0: pytest.approx(2 / 3), 1: pytest.approx(2)}
    assert class_weights(CONFIG, targets) is None
