"""The default model: one LSTM, and beside it the n-grams of a teacher.

Models too large to serve answer every training text, out of fold, and every unlabelled one: two
linear models of n-grams, and a convolution on vectors of n-grams. An LSTM (one direction, maximum
and mean over its states) learns these answers and the labels. What is served adds up the LSTM,
which reads in order, and the linear teachers, whose n-grams are a gather and a sum in the same
graph. Vectors of words, of frequent pairs and of n-grams come from all texts, without labels.

    valence-train train --config lstm --data DATA
    valence-train export --run runs/lstm

126 units on vectors 126 wide fill what the integer kernels of a CPU work on at once, where 128
would leave a remainder.

Seed 7, two cores of an EPYC with other work on them: vectors of n-grams in 16 minutes, the rest of
the teacher in 23 (3.4 GB of memory), then five epochs over 71,662 reviews, 23 minutes at 56,000
tokens a second. Validation 91.7 %. The bundled version 1 is of an earlier recipe: labels alone, no
teacher, no pairs, no n-grams. This one is more accurate, and serves slower than it may.
"""

from training.config import Config

config = Config(
    name="lstm",
    architecture="rnn",
    vocabulary_size=30_000,
    max_length=400,
    head=100,
    embedding=110,
    pretrain=True,
    embedding_rate=0.3,
    known_ngrams=2**19,
    known_width=16,
    cell="lstm",
    units=102,
    ngrams=2,
    ngram_buckets=2**21,
    teacher="network",
    word_dropout=0.1,
    input_dropout=0.1,
    dropout=0.2,
    clip_norm=1.0,
    average=0.998,
    learning_rate=2e-3,
    schedule="cosine",
    warmup=0.2,
    batch_size=64,
    epochs=6,
    keep="last",
)
