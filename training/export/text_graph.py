"""`TextGraph`: the text encoder as TensorFlow operations, for the signature that takes raw text.

It has the config and vocabulary of `app.text.encoder.TextEncoder` and the same steps, so a
SavedModel that is used without this project encodes a text exactly as the service does.
"""

import re
from typing import Any

import tensorflow as tf

from app.text.encoder import TextEncoder
from app.text.vocabulary import BEGIN, FIRST_WORD, UNKNOWN


class TextGraph(tf.Module):  # type: ignore[misc]
    """Raw strings to right-padded ids and lengths, in core TensorFlow operations."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self._config = encoder.config
        id_of = {word: FIRST_WORD + i for i, word in enumerate(encoder.vocabulary.words)}
        id_of |= {alias: id_of.get(token, UNKNOWN) for alias, token in self._config.aliases}
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(list(id_of), tf.string), tf.constant(list(id_of.values()), tf.int64)
            ),
            default_value=UNKNOWN,
        )

    def __call__(self, text: Any) -> tuple[Any, Any]:
        """Encode a batch of texts.

        Args:
            text: string (batch,), UTF-8. Invalid bytes separate words.

        Returns:
            ids: int32 (batch, width), padded with `PAD` to the longest row.
            lengths: int32 (batch,).
        """
        rows = self._table.lookup(self._tokens(text))
        begin = tf.fill([rows.nrows(), 1], tf.constant(BEGIN, tf.int64))
        rows = tf.concat([begin, self._cut(rows)], axis=1)
        return tf.cast(rows.to_tensor(), tf.int32), tf.cast(rows.row_lengths(), tf.int32)

    def _tokens(self, text: Any) -> Any:
        """Ragged strings: normalise, then keep the tokens and drop everything between them."""
        text = tf.strings.unicode_transcode(
            text, "UTF-8", "UTF-8", errors="replace", replacement_char=ord(" ")
        )
        for rewrite in self._config.rewrites:
            text = tf.strings.regex_replace(text, rewrite.pattern, rewrite.replacement)
        # NUL separates words like any control character, but `lower` would end the string there.
        text = tf.strings.regex_replace(text, r"\x00", " ")
        text = tf.strings.lower(text, encoding="utf-8")
        # One pass, leftmost match first, as in `re.findall`: a token is replaced by itself and a
        # space, any other match or character by a space.
        pattern = self._config.pattern
        if not re.compile(pattern).groups:
            pattern = f"({pattern})"
        text = tf.strings.regex_replace(text, f"(?s){pattern}|.", r"\1 ")
        return tf.strings.split(text)

    def _cut(self, rows: Any) -> Any:
        """Keep head and tail of each row that is too long; `BEGIN` takes one id of `max_length`."""
        room, head = self._config.max_length - 1, self._config.head
        lengths = rows.row_lengths()
        too_long = lengths > room
        end_of_head = tf.where(too_long, tf.cast(head, tf.int64), lengths)
        start_of_tail = tf.where(too_long, lengths - (room - head), lengths)
        position = tf.ragged.range(lengths)
        keep = tf.logical_or(
            position < tf.expand_dims(end_of_head, 1), position >= tf.expand_dims(start_of_tail, 1)
        )
        return tf.ragged.boolean_mask(rows, keep)
