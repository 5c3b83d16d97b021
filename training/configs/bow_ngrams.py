"""The bag of words, and beside it the words and pairs of words of its teacher.

What `bow` is, taught by linear models of n-grams alone, and in the same graph these models: a
number a class for each word and each pair of words in a row, as one table of 2^21 rows. It serves
in the time of a few lookups a word.

    valence-train train --config bow_ngrams --data DATA
    valence-train export --run runs/bow_ngrams

Seed 7, two cores of an EPYC: vectors of n-grams in 15 minutes and linear teachers in 2 (3.4 GB of
memory), both kept from `lstm`, whose texts and seed are the same, then 23 epochs in 9 with other
work on the machine. Validation 91.3 %, test 91.96 % (version 1), calibration error 0.012. Beside
the n-grams the network got no weight.

Source:
    Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification"
    (2012): 91.22 % of the IMDB test reviews with pairs of words, of all 25,000 to learn from.
"""

from training.configs.bow import config as bow

config = bow.replace(
    name="bow-ngrams", teacher="linear", ngram_logits=2, ngram_logits_buckets=2**21
)
