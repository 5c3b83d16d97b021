"""The flattened embedding: Embedding 8, Flatten, Dense 16, Dropout 0.8, output.

The maximum length is the mean length of the reviews plus two standard deviations; longer reviews
lose their beginning.

    valence-train train --config tutorial_embedding --data DATA

Claimed: no figure. Measured: 87.58 % of the IMDB test reviews, in 85 s on two busy cores. The
number of epochs, seven, is that with the lowest validation loss.

Source:
    Chollet, "Deep Learning with Python" (2017), section 6.1 (Embedding 8, Flatten). The dense layer
    and its dropout come from courses that build on the book.
"""

from training.config import Config, LoopConfig, ModelConfig, OptimizerConfig, PreprocessingConfig

config = Config(
    name="tutorial-embedding",
    text=PreprocessingConfig(
        vocabulary_size=10_000,
        min_count=1,
        length_rule="deviations",
        truncation="pre",
    ),
    model=ModelConfig(architecture="embedding", embedding_dim=8, hidden=(16,), dropout=0.8),
    optimizer=OptimizerConfig(schedule="constant"),
    loop=LoopConfig(batch_size=512, sort_window=1, epochs=7, keep="last"),
)
