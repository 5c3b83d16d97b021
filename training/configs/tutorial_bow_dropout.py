"""`tutorial_bow` with half of the features dropped after each hidden layer.

    valence-train train --config tutorial_bow_dropout --data DATA

Expected: 87.35 % of the IMDB test reviews, as without; dropout delays overfitting, which four
epochs hardly reach.

Source:
    Chollet, "Deep Learning with Python" (2017), section 4.4.
"""

from dataclasses import replace

from training.configs import tutorial_bow

config = replace(tutorial_bow.config, name="tutorial-bow-dropout", dropout=0.5)
