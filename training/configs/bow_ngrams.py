"""Words, pairs and triples of words: naive Bayes says which matter, training says how much.

A logistic regression whose features are which of 30,000 words a review holds, and beside it the sum
of a row for each n-gram of up to three words. The recipe of "NBSVM", with logistic loss and hashed
n-grams, and a model that serves in the time of a few lookups a word.

    valence-train train --config bow_ngrams --data DATA
    valence-train export --run runs/bow_ngrams

On two cores of an EPYC at 22,303 training reviews: 7 epochs in about three minutes, with other work
on the machine. Validation 90.31 % (90.68 % after the fourth epoch, whose loss is higher).

Source:
    Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification"
    (2012): 91.22 % of the IMDB test reviews with pairs of words, of all 25,000 to learn from.
"""

from training.config import Config

config = Config(
    name="bow-ngrams",
    architecture="bow",
    vocabulary_size=30_000,
    max_length=1_200,
    head=400,
    ngrams=3,
    ngram_buckets=2**21,
    ngram_rate=10.0,
    nb_weighting=True,
    input_dropout=0.5,
    batch_size=512,
    epochs=7,
    stop_patience=2,
)
