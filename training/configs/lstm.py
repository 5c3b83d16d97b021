"""The default model: an LSTM over word and n-gram embeddings, distilled from larger models.

The teachers are too large to serve. Two linear models of n-grams and a convolutional network over
n-gram and region vectors label every training text (out of fold) and every unlabelled text. A
pretrained transformer labels these too, and knows more than film reviews: it also answers hundreds
of thousands of sentences, fragments, alterations and everyday sentences (`valence-train teach`). A
larger one answers the reviews that this one is least sure about, and passages of reviews whose
opinions are turned. Validation texts decide the weights of the mixture and the temperatures. An
LSTM (one direction; max, mean and attention pooling) first learns to predict the next words of all
reviews, then soft labels of reviews and pieces together. Word, region and n-gram vectors are
pretrained on all texts without labels.

    valence-train teach --data DATA --to runs/teacher
    valence-train make --config lstm --data DATA --answers runs/teacher --parts runs/parts

Without `--answers`, it learns reviews from the other teachers alone.

It learns a third class, neutral, from sentences that people rated, and everyday ones that say
nothing. Afterwards each label gets half of it: what is new to a model of two labels moves towards
even odds, which are also the answer about a text that says nothing.

Seed 7. Version 6 has the weights of `sentiment3` 2, which this recipe learns bit by bit; on two
cores of a Xeon with AMX. The teachers and their answers were made in parts, with other work beside
them: the pretrained one in 95 minutes (6.4 GB of memory), the larger one in 51 (12 GB, since then
5), its answers in 70. From there, vectors and the other teachers took 33 minutes (3.9 GB), next
words 22 and 5 epochs 28, the last two on one core each. Vectors and teachers had seen everyday
sentences of which some phrases were corrected a few minutes later. Validation 92.09 %, test 93.43
%; the teachers together have 94.43 % on validation.

Words are dropped little: where many are hidden, a model learns not to depend on the one that turns
the meaning. A model that has read needs fewer epochs.

Each word costs two lookups of vectors in int8: its embedding, and that of the pair of words that
ends there, if it is one of those that say most. With 110 + 16 + 2 columns and 94 + 2 units, the
columns and units that fix the ranges of the int8 kernels still fit into the width those kernels
process at once.
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
    text=PreprocessingConfig(
        vocabulary_size=30_000, piece_count=1, max_length=400, head_tokens=100
    ),
    model=ModelConfig(
        architecture="rnn",
        embedding_dim=110,
        pretrain_embeddings=True,
        next_word_epochs=4,
        embedding_lr_factor=0.3,
        ngram_embeddings=2**17,
        ngram_embedding_dim=16,
        ngram_lookup="bigram",
        cell="lstm",
        units=94,
        attention_heads=4,
        ngram_logits_buckets=2**21,  # of the linear teachers
        input_dropout=0.25,
        dropout=0.3,
        short_temperature=0.7,
    ),
    teacher=TeacherConfig(
        kind="network",
        piece_weight=1.0,
        silent_texts=2_000,
        everyday_texts=30_000,
        neutral=True,
        halve_neutral=True,
    ),
    optimizer=OptimizerConfig(
        learning_rate=2e-3,
        schedule="cosine",
        warmup_epochs=0.2,
        clip_norm=1.0,
        ema_momentum=0.998,
    ),
    loop=LoopConfig(batch_size=64, batch_tokens=2**13, word_dropout=0.1, epochs=5, keep="last"),
)
