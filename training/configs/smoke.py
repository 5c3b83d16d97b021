"""A model small enough to train in seconds: for trying a new data set or a new machine.

valence-train train --config smoke --data DATA
valence-train export --run runs/smoke
"""

from training.config import Config

config = Config(
    name="smoke",
    architecture="rnn",
    vocabulary_size=2_000,
    min_count=1,
    max_length=64,
    head=16,
    embedding=16,
    units=16,
    input_dropout=0.1,
    dropout=0.1,
    learning_rate=1e-2,
    batch_size=32,
    epochs=8,
)
