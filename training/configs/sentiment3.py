"""Three answers about ordinary text: negative, neutral, positive.

It is `lstm` with a third class. Reviews hardly know texts without an opinion; its pretrained
teacher does, from sentences that people rated and from everyday sentences that say nothing, and it
tells of every review and piece how likely an opinion is. So this recipe needs `--answers`.

    valence-train make --config sentiment3 --data DATA --answers runs/teacher --parts runs/parts

With the parts of `lstm`, only the LSTM is trained: texts, vocabulary, vectors and teachers are the
same. Seed 7. Version 1 had read nothing and had no attention, half of the known pairs, and answers
about fewer texts: 8 epochs in 29 minutes of one core (1.6 GB of memory). Validation 90.96 %, test
92.12 %.
"""

from training.configs.lstm import config as lstm

config = lstm.replace(
    name="sentiment3",
    neutral=True,
    dropout=0.3,
    word_dropout=0.1,
    piece_weight=1.0,
    neutral_texts=0,
    short_temperature=1.0,
)
