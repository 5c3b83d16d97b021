"""Stacked recurrent layers: two LSTM layers of 32 units over the last 500 words of a review.

    valence-train train --config tutorial_stacked --data DATA

Claimed: up to 89 % of validation reviews, for one layer, at the best of ten epochs, with reviews of
the same films in training. Measured: 87.66 % of the IMDB test reviews, in 7 minutes on two busy
cores.

Source:
    Chollet, "Deep Learning with Python" (2017), section 6.2: 10,000 words, Embedding 32, LSTM 32,
    the last 500 words, rmsprop, batch size 128; layers are stacked with `return_sequences=True`.
"""

from training.config import Config, LoopConfig, ModelConfig, OptimizerConfig, PreprocessingConfig

config = Config(
    name="tutorial-stacked",
    text=PreprocessingConfig(vocabulary_size=10_000, min_count=1, max_length=501, truncation="pre"),
    model=ModelConfig(
        architecture="rnn",
        embedding_dim=32,
        units=32,
        layers=2,
        pooling="last",
        dropout=0.0,
    ),
    optimizer=OptimizerConfig(kind="rmsprop", schedule="constant"),
    loop=LoopConfig(batch_size=128, epochs=5, keep="last", validation_share=0.2),
)
