"""From files to batches of ids: corpora, splits, readers, shards."""
