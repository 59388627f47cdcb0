"""Tokenizers whose tokens are bytes: of GPT-2's kind, and of Llama-2's with its words and spaces."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers


def byte_level() -> Tokenizer:
    """GPT-2's, without merges: the token of a byte is its number."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown} | {chr(256 + number): byte for number, byte in enumerate(hidden)}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_fallback(words=("▁", "▁hello", "▁world", "a")) -> Tokenizer:
    """Llama-2's: the token of a byte is its number; behind them `<s>` and `<turn>`, which are special, and words with
    their spaces."""
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), "<s>", "<turn>", *words]
    tokenizer = Tokenizer(models.BPE({piece: token for token, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<s>"), AddedToken("<turn>")])
    return tokenizer
