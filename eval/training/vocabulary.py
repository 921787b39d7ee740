"""The words of the embedded models and their word-level tokenizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vtc.eval.scenes import COLORS, SHAPES, WORDS
from vtc.eval.scenes.questions import PLURALS

PHRASES = """what which is the there a how many read value of bar object objects color shape word number left right
above below or highest lowest ? yes no in did came first appear appeared vanished frame moved move up down way not"""
DIGITS = tuple("0123456789")
TEXT_WORDS: tuple[str, ...] = tuple(
    sorted({*PHRASES.split(), *COLORS, *SHAPES, *PLURALS.values(), *WORDS, *DIGITS, "user", "assistant", "system"})
)
"""Every word a question or an answer may consist of; anything else becomes the unknown token."""


@dataclass(frozen=True)
class Vocabulary:
    """Ids of the special tokens, which come first, of the common words, and of further ones."""

    special: tuple[str, ...]
    unknown: str
    further: tuple[str, ...] = ()

    @property
    def tokens(self) -> dict[str, int]:
        """Id of every token."""
        return {token: i for i, token in enumerate([*self.special, *TEXT_WORDS, *self.further])}


LLAVA = Vocabulary(("<pad>", "<s>", "</s>", "<image>", "<unk>"), "<unk>")
QWEN = Vocabulary(
    (
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
        "<unk>",
    ),
    "<unk>",
    ("vanish",),
)


def split_words(text: str) -> list[str]:
    """Split a question or answer of the generator into tokens: words, and single digits."""
    pieces: list[str] = []
    for word in text.split():
        pieces += list(word) if word.isdigit() else [word]
    return pieces


def build_tokenizer(vocabulary: Vocabulary, bos: str | None, eos: str, pad: str, extra: list[str]) -> Any:
    """Word-level tokenizer: lower case, punctuation apart, digits one by one.

    Parameters
    ----------
    vocabulary : Vocabulary
    bos : str or None
        Token put before every text; None for none.
    eos, pad : str
    extra : list of str
        Further special tokens, such as image placeholders.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(vocabulary.tokens, unk_token=vocabulary.unknown))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    core.add_special_tokens(list(vocabulary.special))
    if bos is not None:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocabulary.tokens[bos])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        unk_token=vocabulary.unknown,
        additional_special_tokens=extra,
        padding_side="left",
        model_max_length=4096,
    )
