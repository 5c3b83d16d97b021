"""How weights move: what a recipe asks for is what Keras is given."""

import keras
import numpy as np
import pytest

from training.config import Config, LoopConfig, ModelConfig, OptimizerConfig
from training.fit.optimizers import build_optimizer, class_weights, rate_callbacks, rate_factor

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
    """Each optimizer has the rate, the clipping and the averaging of the recipe."""
    config = CONFIG.replace(optimizer=name, clip_norm=2.0, ema_momentum=0.9)
    optimizer = build_optimizer(config)
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == 0.5
    assert (optimizer.global_clipnorm, optimizer.use_ema, optimizer.ema_momentum) == (2, True, 0.9)


def test_momentum() -> None:
    """Momentum and looking ahead are those of the recipe."""
    optimizer = build_optimizer(CONFIG.replace(optimizer="sgd", momentum=0.9, nesterov=True))
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)


def fitted(config: Config) -> tuple[list[float], list[float]]:
    """The learning rate at each step of a fit with nothing to learn, and in its history."""
    rates: list[float] = []

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            rates.append(float(self.model.optimizer.learning_rate))

    right = keras.layers.Dense(1, kernel_initializer="ones")  # nothing is left to learn
    model = keras.Sequential([keras.Input((1,)), right])
    model.compile(build_optimizer(config), loss="mse", jit_compile=False)
    x = np.ones((STEPS, 1))
    history = model.fit(
        x, x, batch_size=1, epochs=config.loop.epochs, validation_data=(x, x), verbose=0,
        callbacks=[*rate_callbacks(config), Watch()],
    ).history  # fmt: skip
    return rates, [float(rate) for rate in history.get("learning_rate", [])]


def test_constant() -> None:
    """A constant rate stays, whatever the loss does."""
    rates, _ = fitted(CONFIG.replace(schedule="constant"))
    assert rates == [0.5] * (4 * STEPS)


def test_cosine() -> None:
    """A cosine begins at the rate, is at half of it half-way, and ends near 0."""
    rates, history = fitted(CONFIG.replace(schedule="cosine"))
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.5, rel=0.01)
    assert (rates[19] + rates[20]) / 2 == pytest.approx(0.25, rel=0.01)
    assert rates[-1] < 0.001
    assert history == pytest.approx(rates[STEPS - 1 :: STEPS])


def test_exponential() -> None:
    """Each epoch leaves the stated part of the rate."""
    rates, _ = fitted(CONFIG.replace(schedule="exponential", decay_rate=0.5))
    assert rates[STEPS] / rates[0] == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential", "plateau"])
def test_warm_up(schedule: str) -> None:
    """In the warm-up the rate rises evenly from 0, then the schedule begins at the full rate."""
    rates, _ = fitted(CONFIG.replace(schedule=schedule, warmup_epochs=0.5))
    np.testing.assert_allclose(rates[:5], 0.5 * (np.arange(5) + 0.5) / 5, rtol=1e-5)
    assert rates[5] == pytest.approx(0.5, rel=0.02)


def test_plateau_after_a_warm_up() -> None:
    """Once warm, the rate is halved after each epoch whose loss is no better."""
    _, history = fitted(CONFIG.replace(schedule="plateau", warmup_epochs=0.5))
    np.testing.assert_allclose(history, [0.5, 0.5, 0.25, 0.125])


def test_a_rate_by_time_alone() -> None:
    """The rate is the same for a training that was stopped and goes on, and never below 0."""
    config = CONFIG.replace(schedule="cosine", warmup_epochs=1.0)
    assert [rate_factor(config, epochs) for epochs in (0, 0.5, 1)] == [0, 0.5, 1]
    assert rate_factor(config, 2.5) == pytest.approx(0.5)
    assert rate_factor(config, 9) == 0


def test_class_weights() -> None:
    """Balanced classes weigh the same in all, and a text 1 on average; else none is given."""
    targets = [0, 0, 0, 1]
    weights = class_weights(CONFIG.replace(class_weights="balanced"), targets)
    assert weights == {0: pytest.approx(2 / 3), 1: pytest.approx(2)}
    assert class_weights(CONFIG, targets) is None
