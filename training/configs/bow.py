"""The baseline: word presence over 30,000 words, and two dense layers of 16 units.

The architecture is that of TensorFlow's text-classification tutorial (10,000 words, word presence,
Dense 16, 16, output), which reports 87.35 % on the IMDB test reviews. In addition, `!` and `?` are
tokens, and there are dropout of words and layers, early stopping, and distillation from a teacher.
The teachers also label the unlabelled reviews, which triples the training examples, and with the
answers of a pretrained teacher it learns pieces of reviews and everyday sentences, too.

    valence-train make --config bow --data DATA --answers runs/teacher --parts runs/parts

Seed 7. Version 3 was trained with the answers and parts of `lstm`, on a core of a Xeon with AMX,
beside another training: 9 epochs of 395,133 texts in 30 minutes (1.1 GB of memory). Validation
89.23 %, test 90.06 %. Version 2, from reviews alone, had 89.67 % and 89.92 %, and got 55 instead of
79 of 98 ordinary sentences right. From labels alone, the same model reaches 88.9 % on validation.
"""

from training.config import (
    Config,
    LoopConfig,
    ModelConfig,
    OptimizerConfig,
    PreprocessingConfig,
    TeacherConfig,
)

config = Config(
    name="bow",
    text=PreprocessingConfig(
        vocabulary_size=30_000, piece_count=1, max_length=400, head_tokens=100
    ),
    model=ModelConfig(
        architecture="bow",
        hidden=(16, 16),
        ngram_logits_buckets=2**21,  # of the linear teachers
        input_dropout=0.4,
        dropout=0.2,
        l2=1e-4,
        short_temperature=0.7,
    ),
    teacher=TeacherConfig(
        kind="network",
        piece_weight=0.2,
        silent_texts=2_000,
        neutral_texts=8_000,
        everyday_texts=20_000,
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, ema_momentum=0.98),
    loop=LoopConfig(batch_size=512, sort_window=1, epochs=9, stop_patience=3),
)
