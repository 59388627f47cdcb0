"""The pair's tokenizer: byte-level BPE."""

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ...controller.trees.tree import Array
from .corpus import Document

END = "<|end|>"  # id 0, between documents
LEAST_VOCABULARY = 257  # it and every byte


def train_tokenizer(documents: Sequence[Document], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the documents, so that every text has tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END)


def encode_documents(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> Array:
    """[n] int64: all documents in one row, each behind an end token."""
    encoded = tokenizer.backend_tokenizer.encode_batch([document.text for document in documents])
    return np.concatenate([np.array([0, *one.ids], dtype=np.int64) for one in encoded])
