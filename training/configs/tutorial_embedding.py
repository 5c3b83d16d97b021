"""The flattened embedding: Embedding 8, Flatten, Dense 16, Dropout 0.8, output.

Every review is laid into a row as long as the mean review and two standard deviations; a longer one
loses its beginning.

    valence-train train --config tutorial_embedding --data DATA

Claimed: no figure. Measured: 87.58 % of the IMDB test reviews, in 85 s on two busy cores. The seven
epochs are those after which the validation loss was lowest.

Source:
    Chollet, "Deep Learning with Python" (2017), section 6.1 (Embedding 8, Flatten); the dense layer
    and its dropout are of the classes that followed it.
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
    model=ModelConfig(
        architecture="embedding",
        embedding_dim=8,
        hidden=(16,),
        dropout=0.8,
    ),
    optimizer=OptimizerConfig(schedule="constant"),
    loop=LoopConfig(
        batch_size=512,
        sort_window=1,
        epochs=7,
        keep="last",
    ),
)
