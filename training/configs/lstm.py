"""The default model: one LSTM that reads words and what is known of n-grams, taught by larger ones.

Models too large to serve answer every training text, out of fold, and every unlabelled one: two
linear models of n-grams, and a convolution on vectors of n-grams and of regions. An LSTM (one
direction, maximum and mean over its states) learns these answers and the labels. What is served
adds up the LSTM, which reads in order, and the linear teachers, whose n-grams are a gather and a
sum in the same graph. Vectors of words, regions and n-grams come from all texts, without labels.

    valence-train train --config lstm --data DATA
    valence-train export --run runs/lstm

110 numbers of a word beside 16 of n-grams, and 102 units, leave room for the two columns and units
that fix the ranges of the integer kernels, in what those work on at once. The units are as few as
the lookups cost: it serves as fast as an LSTM of 128 units on vectors 128 wide.

Seed 7, two cores of an EPYC, in parts that were kept: vectors of n-grams in 15 minutes, those of
regions in 4, linear teachers in 2, five folds of convolutions in 35 with other work on the machine
(3.4 GB of memory), then six epochs over 71,662 reviews in 19, at 80,000 to 90,000 tokens a second.
Validation 92.2 %, test 92.88 % (version 2), calibration error 0.011.
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
    name="lstm",
    text=PreprocessingConfig(vocabulary_size=30_000, max_length=400, head_tokens=100),
    model=ModelConfig(
        architecture="rnn",
        embedding_dim=110,
        pretrain_embeddings=True,
        embedding_lr_factor=0.3,
        ngram_embeddings=2**19,
        ngram_embedding_dim=16,
        cell="lstm",
        units=102,
        ngram_logits=2,
        ngram_logits_buckets=2**21,
        input_dropout=0.1,
        dropout=0.2,
    ),
    teacher=TeacherConfig(kind="network"),
    optimizer=OptimizerConfig(
        clip_norm=1.0,
        ema_momentum=0.998,
        learning_rate=2e-3,
        schedule="cosine",
        warmup_epochs=0.2,
    ),
    loop=LoopConfig(
        word_dropout=0.1,
        batch_size=64,
        epochs=6,
        keep="last",
    ),
)
