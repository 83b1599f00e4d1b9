"""A tokenizer for captions of few, known words."""

from __future__ import annotations

import string
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

START, END, IMAGE, UNKNOWN = "<caption>", "</caption>", "<image>", "<unknown>"
SPECIAL = (START, END, IMAGE, UNKNOWN)
MAX_VOCABULARY = 1000


def tokenizer_from_captions(captions: Iterable[str]) -> Tokenizer:
    """Byte-pair encoding learnt on captions; a word that they have often enough is one token.

    Letters and the hyphen are tokens too, so that any lower-case word can be written.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        min_frequency=1,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=[*string.ascii_lowercase, "-"],
        show_progress=False,
    )
    # One order for one set of captions: ties between merges are broken by it.
    tokenizer.train_from_iterator(sorted(captions), trainer)
    return tokenizer
