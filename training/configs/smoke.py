"""A model that trains in seconds, for trying a new data set or a new machine.

valence-train train --config smoke --data DATA
valence-train export --run runs/smoke
"""

from training.config import Config, LoopConfig, ModelConfig, OptimizerConfig, PreprocessingConfig

config = Config(
    name="smoke",
    text=PreprocessingConfig(vocabulary_size=2_000, min_count=1, max_length=64, head_tokens=16),
    model=ModelConfig(
        architecture="rnn",
        embedding_dim=16,
        units=16,
        input_dropout=0.1,
        dropout=0.1,
    ),
    optimizer=OptimizerConfig(learning_rate=1e-2),
    loop=LoopConfig(batch_size=32, epochs=8),
)
