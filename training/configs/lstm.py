"""The default model: Embedding, one LSTM, maximum and mean over its states, softmax.

valence-train train --config lstm --data DATA
valence-train export --run runs/lstm
"""

from training.config import Config

config = Config(
    name="lstm",
    architecture="lstm",
    vocabulary_size=30_000,
    max_length=400,
    head=100,
    embedding=128,
    units=128,
    input_dropout=0.5,
    dropout=0.5,
    batch_size=64,
    epochs=12,
)
