"""The bidirectional LSTM of the Keras examples: 20,000 words, Embedding 128, two LSTM layers.

    valence-train train --config tutorial_bidirectional --data DATA

Claimed: 84.28 % of the IMDB test reviews. Measured: 85.26 %, in 20 minutes on two busy cores.

Source:
    Keras examples, "Bidirectional LSTM on IMDB": the last 200 words, 64 units per direction,
    Adam, batch size 32, 2 epochs.
"""

from training.config import Config, LoopConfig, ModelConfig, OptimizerConfig, PreprocessingConfig

config = Config(
    name="tutorial-bidirectional",
    text=PreprocessingConfig(vocabulary_size=20_000, min_count=1, max_length=201, truncation="pre"),
    model=ModelConfig(
        architecture="rnn",
        embedding_dim=128,
        units=64,
        layers=2,
        bidirectional=True,
        pooling="last",
        dropout=0.0,
    ),
    optimizer=OptimizerConfig(schedule="constant"),
    loop=LoopConfig(batch_size=32, epochs=2, keep="last"),
)
