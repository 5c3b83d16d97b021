"""A tiny random transformer in place of the pretrained teacher."""

import string
from typing import Any


def tiny_teacher() -> tuple[Any, Any]:
    """Return a teacher of one layer, always with the same weights, and a tokenizer of letters."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel

    from training.distillation.pretrained import PretrainedTeacher, WordPieces

    torch.set_num_threads(1)  # waiting for each other would take longer than computing
    torch.manual_seed(0)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase, "good", "bad", "film"]
    tokenizer = Tokenizer(
        models.WordLevel({name: at for at, name in enumerate(names)}, unk_token=names[1])
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        attention_probs_dropout_prob=0.0,
    )
    encoder = BertModel(config, add_pooling_layer=False)
    return PretrainedTeacher(encoder, config.hidden_size), WordPieces(tokenizer)
