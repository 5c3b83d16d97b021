"""The default model: Embedding, one LSTM, maximum and mean over its states, softmax.

Word vectors start from the company words keep in the training texts and, where the data has them,
in unlabelled ones; they then learn at a tenth of the rate, because the labels of 22,000 reviews
would otherwise overrun them within two epochs.

    valence-train train --config lstm --data DATA
    valence-train export --run runs/lstm

On two cores of an EPYC, at 22,303 training reviews: 8 epochs in 11 minutes, 1.7 GB. Validation
89.18 %, test 89.22 % (version 1). One direction, one layer, no labels but those of the training
reviews.
"""

from training.config import Config

config = Config(
    name="lstm",
    architecture="rnn",
    vocabulary_size=30_000,
    max_length=400,
    head=100,
    embedding=128,
    pretrain=True,
    embedding_rate=0.1,
    units=128,
    word_dropout=0.15,
    input_dropout=0.15,
    dropout=0.5,
    clip_norm=1.0,
    average=0.997,
    batch_size=64,
    epochs=12,
    stop_patience=3,
)
