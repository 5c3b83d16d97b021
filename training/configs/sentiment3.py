"""Three answers about ordinary text: negative, neutral, positive.

It is `lstm` with a third class. Reviews hardly know texts without an opinion; its pretrained
teacher does, from sentences that people rated and from everyday sentences that say nothing, and it
tells of every review and piece how likely an opinion is. So this recipe needs `--answers`.

    valence-train make --config sentiment3 --data DATA --answers runs/teacher --parts runs/parts

With the parts of `lstm`, only the LSTM is trained: texts, vocabulary, vectors and teachers are the
same, and so is what the LSTM has read. Seed 7. Version 2 was trained so, with the vectors and
teachers of phrases that were corrected a few minutes later (`everyday.toml`); it learned the
corrected ones: 5 epochs in 28 minutes of one core, beside another training. Validation 92.05 %,
test 93.43 %.

Words are dropped less than in `lstm`, and pieces count as much as reviews: more negations are
understood so (13 of 14 of the ordinary ones).
"""

from training.configs.lstm import config as lstm

config = lstm.replace(
    name="sentiment3",
    neutral=True,
    dropout=0.3,
    word_dropout=0.1,
    piece_weight=1.0,
    neutral_texts=0,
    short_temperature=0.7,
)
