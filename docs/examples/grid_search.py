"""A Keras model inside scikit-learn's GridSearchCV: batch size and epochs, by cross-validation.

    python docs/examples/grid_search.py data/imdb
    python docs/examples/grid_search.py mine.csv --batch-sizes 10 20 --epochs 1 2
    python docs/examples/grid_search.py mine.csv --text-column body --label-column stars

Uses the training texts only. Every cell is trained once per fold, and the best cell once more on
all texts.
"""

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.wrappers import SKLearnClassifier
from sklearn.model_selection import GridSearchCV

from app.errors import ValenceError
from app.text.encoder import TextConfig, TextEncoder
from app.text.padding import pad_rows
from app.text.vocabulary import FIRST_WORD, Vocabulary
from training.data.readers import ReadOptions, read

WORDS, LENGTH = 5_000, 200


def build(X: Any, y: Any) -> keras.Model:  # noqa: N803 - scikit-learn passes them by name
    """Build a small LSTM for ids (texts, length) and one-hot labels (texts, classes)."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input(shape=(X.shape[1],), dtype="int32"),
            keras.layers.Embedding(FIRST_WORD + WORDS, 32, mask_zero=True),
            keras.layers.LSTM(32),
            keras.layers.Dense(y.shape[1], activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Search the grid; print every cell and the best one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder or file of labelled texts")
    parser.add_argument("--text-column", help="column of the texts, by name or by number from 1")
    parser.add_argument("--label-column", help="column of the labels, by name or number")
    parser.add_argument("--delimiter", help="CSV: character between cells [from the first lines]")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folds", type=int, default=3)
    options = parser.parse_args()
    keras.utils.disable_interactive_logging()

    columns = ReadOptions(
        text_column=options.text_column,
        label_column=options.label_column,
        delimiter=options.delimiter,
    )
    try:
        corpus = read(options.data, split="train", options=columns)
    except ValenceError as error:
        parser.exit(1, f"grid_search: {error}\n")
    rules = TextConfig(max_length=LENGTH, head=LENGTH // 4)
    tokenize = TextEncoder(rules, Vocabulary(())).tokenize
    words = Vocabulary.build(map(tokenize, corpus.texts()), size=WORDS, min_count=1)
    encoder = TextEncoder(rules, words)
    ids = pad_rows([encoder.encode(text).ids for text in corpus.texts()], width=LENGTH)

    # The arguments of `fit` are part of the grid: scikit-learn clones the wrapper for every cell,
    # and a clone loses the `fit_kwargs` of the original.
    cells = [
        {"batch_size": batch_size, "epochs": epochs}
        for batch_size in options.batch_sizes
        for epochs in options.epochs
    ]
    search = GridSearchCV(
        SKLearnClassifier(model=build), {"fit_kwargs": cells}, cv=options.folds, error_score="raise"
    )
    search.fit(ids, np.array(corpus.targets()))

    results = search.cv_results_
    for cell, mean, spread in zip(
        cells, results["mean_test_score"], results["std_test_score"], strict=True
    ):
        print(f"{mean:.4f} (± {spread:.4f}) with {cell}")
    print(f"Best: {search.best_score_:.4f} using {search.best_params_['fit_kwargs']}")


if __name__ == "__main__":
    main()
