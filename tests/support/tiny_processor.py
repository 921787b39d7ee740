"""A processor for the tiny models: one token per character, ChatML turns, placeholders as the models number them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from support import tiny

NAMES = {
    "<pad>": tiny.PAD,
    "<s>": tiny.BOS,
    "</s>": tiny.EOS,
    "<|im_start|>": 3,
    "<|im_end|>": 4,
    "<|vision_start|>": tiny.VS,
    "<|vision_end|>": tiny.VE,
    "<image>": tiny.IMG,
    "<video>": tiny.VID,
}
TEMPLATE = """\
{%- for m in messages -%}
<|im_start|>{{ m.role }}
{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content -%}
{%- if c.type == 'text' -%}{{ c.text }}{%- else -%}<|vision_start|><{{ c.type }}><|vision_end|>{%- endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


def tokenizer() -> Any:
    """Printable ASCII from id 20 on."""
    characters = [chr(i) for i in range(33, 127)] + ["\u0120", "\u010a"]
    vocabulary = {**NAMES, **{c: 20 + i for i, c in enumerate(characters)}}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(NAMES))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", padding_side="left", chat_template=TEMPLATE
    )


class TinyProcessor:
    """What the library asks of a processor, for inputs that the tests make themselves."""

    def __init__(self) -> None:
        self.tokenizer = tokenizer()
        self.chat_template = TEMPLATE
        self.image_processor = SimpleNamespace(image_mean=[0.5] * 3, image_std=[0.25] * 3)
        self.batch_decode = self.tokenizer.batch_decode

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(messages, **options)

    def __call__(self, text: list[str], images: Any = None, **options: Any) -> Any:
        assert images is None
        return self.tokenizer(text, **options)


def ask(inputs: dict[str, Any], questions: list[str]) -> dict[str, Any]:
    """Inputs whose rows hold a user turn: their pictures, then a question, then the assistant's header."""
    import torch

    token = tokenizer()
    head = token("<|im_start|>user\n").input_ids
    rows = []
    for ids, mask, question in zip(inputs["input_ids"], inputs["attention_mask"], questions, strict=True):
        tail = token(f"{question}<|im_end|>\n<|im_start|>assistant\n").input_ids
        visual = [i for i in ids[mask.bool()].tolist() if i != tiny.BOS]
        rows.append(head + [i for i in visual if i < 20] + tail)
    made = dict(inputs)
    made["input_ids"], made["attention_mask"] = tiny.pad_rows(rows)
    if "mm_token_type_ids" in inputs:
        ids = made["input_ids"]
        made["mm_token_type_ids"] = (ids == tiny.IMG).long() + 2 * (ids == tiny.VID).long()
    assert all(torch.is_tensor(v) for v in made.values())
    return made
