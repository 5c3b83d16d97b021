"""Layers, one module per family, each in its three forms.

A layer is trained as a Keras layer and exported twice: as TensorFlow operations for the SavedModel
and as ONNX nodes for `model.onnx`. The three forms of a layer stand in one module, in this order,
so that a change is made in one place:

| module                    | Keras                | TensorFlow graph       | ONNX                   |
|---------------------------|----------------------|------------------------|------------------------|
| `word_presence`           | `WordPresence`       | `WordPresenceGraph`    | `add_word_presence`    |
| `word_embeddings`         | `WordEmbeddings`     | `WordEmbeddingsGraph`  | `add_word_embeddings`  |
| `ngram_embeddings`        | `NgramEmbeddings`    | `NgramEmbeddingsGraph` | `add_ngram_embeddings` |
| `ngram_logits`            | `NgramLogits`        | `NgramLogitsGraph`     | `add_ngram_logits`     |
| `ngram_lookup` for both   | `find_buckets`       | `find_buckets`         | `add_ngram_rows`       |
| `sequence`                | `PadAndFlatten`      | `PadAndFlattenGraph`   | `add_padded_ids`, ...  |
|                           | `Reverse`            | `reverse`              | attribute `direction`  |
|                           | `Pool`               | `PoolGraph`            | `add_pool`             |
| `attention_pool`          | `AttentionPool`      | `AttentionPoolGraph`   | `add_attention_pool`   |
| `lstm`                    | `FusedLSTM`          | `LSTMGraph`            | `lstm_weights`         |
| `gru`                     | `GRU` of Keras       | `GRUGraph`             | `gru_weights`          |
| `simple_rnn`              | `SimpleRNN` of Keras | `SimpleRNNGraph`       | `simple_rnn_weights`   |
| `recurrent` for all three | `CELLS`              | `CELLS`                | `add_states`           |
| `int8_lstm`               |                      |                        | `add_int8_states`      |
| `dense`                   | `Dense` of Keras     | `DenseGraph`           | `add_dense`, ...       |

The layers are put together three times, in the same order: `training.models.build`,
`training.export.tf_graph` and `training.export.onnx_graph`. Tests hold the three to the same
answers for every architecture (`tests/architectures.py`).
"""
