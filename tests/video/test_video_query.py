"""Entities of a question, and the question of a prompt."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.video import decoupling_prompt, find_queries, frame_question, parse_entities
from vtc.video.query import queries_of_ids, turn_borders

from support import tiny, tiny_processor

QUESTION = "What colour is the balloon?\nA. red\nB. blue"


@pytest.mark.parametrize(
    ("reply", "entities"),
    [
        ('Step 1: Yes\nStep 2: []\nStep 3: ["Blue Balloon", " table ", "", "table", 3]', ["blue balloon", "table"]),
        ("Step 1: no", []),
        ("Step 1: no\nStep 3: ['a']", []),
        ("Step 1: yes\nStep 3: null", []),
        ("Step 1: yes\nStep 3: ['a'", []),
        ("Step 1: yes\nStep 3: [a]", []),
        ("Step 1: yes\nStep 3: maybe ['a']", []),
        ("Step 1:  yes\nStep 3: ['a']", []),
        ("Step 1: yes\nStep 3: [__import__('os').getcwd()]", []),
        ("step 3: ['b'] step 1: yes", ["b"]),
        ("Step 1: yes\nStep 3: ['a', ['b'], 'c']", []),
    ],
)
def test_parsing_of_a_reply(reply, entities):
    assert parse_entities(reply) == entities


def test_at_most_sixteen_entities():
    reply = "Step 1: yes\nStep 3: " + str([f"thing {i}" for i in range(40)])
    assert parse_entities(reply) == [f"thing {i}" for i in range(16)]


@given(st.text(), st.text(alphabet="[]'\"\\,()x1: \n{}-"))
def test_no_reply_makes_the_parser_raise(text, tail):
    for reply in (text, f"step 1: yes\nstep 3: [{tail}", f"step 1: yes\nstep 3: [{text}]"):
        found = parse_entities(reply)
        assert len(found) <= 16 and all(isinstance(name, str) and name for name in found)


def test_wording():
    prompt = decoupling_prompt("Who {waves}?")
    assert prompt.startswith("Who {waves}?\nDo not answer yet.") and prompt.endswith("Step 1: no")
    example = prompt.split("Example.")[1]
    assert parse_entities(example) == ["dog in the red collar", "boat", "stick", "ball"]
    about = frame_question("Who?", ["a", "b c"])
    assert about == "Is at least one of these visible in the image: a, b c? A. yes B. no\nReply with the letter only."
    assert frame_question("Who?", []).startswith("Who?\nCan the question be answered from this image? A. yes B. no\n")


def handle(processor=None, query=None):
    adapter = SimpleNamespace(token_ids=lambda model: {"image": tiny.IMG, "video": tiny.VID})
    return SimpleNamespace(adapter=adapter, model=None, methods=[SimpleNamespace(processor=processor, query=query)])


def rows(*texts):
    token = tiny_processor.tokenizer()
    ids, mask = tiny.pad_rows([token(text).input_ids for text in texts])
    return {"input_ids": ids, "attention_mask": mask}


VISION = "<|vision_start|><video><video><video><|vision_end|>"


def test_the_last_user_turn_of_every_row():
    inputs = rows(
        f"<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n{VISION}{QUESTION}\n<|im_end|>\n"
        "<|im_start|>assistant\n",
        f"<|im_start|>user\n{VISION}Early?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nLate, "
        "really?\nAnswer with the option's letter from the given choices directly.\n<|im_end|>\n"
        "<|im_start|>assistant\nBecause",
        f"<|im_start|>user\nBefore {VISION}<0.3 seconds>{VISION} and after",
        "<|im_start|>user\nNo picture<|im_end|>\n<|im_start|>assistant\n",
    )
    found = find_queries(handle(tiny_processor.TinyProcessor()), inputs)
    assert found == [QUESTION, "Late, really?", "Before  and after", ""]


def test_sentences_on_times_are_no_question():
    text = "The video lasts for 3.00 seconds, and 2 uniformly sampled frames are shown at 0.00s,1.50s.\nWho waves?"
    inputs = rows(f"<|im_start|>user\n{VISION}{text}<|im_end|>\n<|im_start|>assistant\n")
    assert find_queries(handle(tiny_processor.TinyProcessor()), inputs) == ["Who waves?"]
    assert find_queries(handle(tiny_processor.TinyProcessor()), inputs, boilerplate=()) == [text]


def test_without_a_template_what_follows_the_pictures_counts():
    processor = tiny_processor.TinyProcessor()
    processor.chat_template = processor.tokenizer.chat_template = None
    assert turn_borders(processor) == ([], [])
    assert find_queries(handle(processor), rows(f"Look: {VISION} Who waves?")) == ["Who waves?"]


def test_tokenizers_that_join_blanks_to_words():
    """Header "USER: " and the question's first word share a token; the header is found without its blank."""
    processor = tiny_processor.TinyProcessor()
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}USER: {% else %} ASSISTANT: {% endif %}"
        "{% for c in m.content %}{{ c.text if c.type == 'text' else '<video>' }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )
    processor.chat_template = processor.tokenizer.chat_template = template
    ids = rows("USER:<video>Who waves? ASSISTANT:")
    assert queries_of_ids(processor, ids["input_ids"], None, {tiny.VID}) == ["Who waves?"]


def test_a_given_query_wins():
    inputs = rows(f"<|im_start|>user\n{VISION}Seen<|im_end|>", f"<|im_start|>user\n{VISION}Seen<|im_end|>")
    processor = tiny_processor.TinyProcessor()
    assert find_queries(handle(processor), inputs, "Asked") == ["Asked", "Asked"]
    assert find_queries(handle(processor), inputs, ["One", "Two"]) == ["One", "Two"]
    assert find_queries(handle(None, "Method's"), inputs) == ["Method's", "Method's"]
    with pytest.raises(ValueError, match="3 queries for a batch of 2"):
        find_queries(handle(processor), inputs, ["a", "b", "c"])


def test_no_query_and_no_way_to_find_one():
    inputs = rows(f"<|im_start|>user\n{VISION}Seen<|im_end|>")
    with pytest.raises(ValueError, match=r"processor.*query="):
        find_queries(handle(None), inputs)
    with pytest.raises(ValueError, match=r"input_ids.*query="):
        find_queries(handle(tiny_processor.TinyProcessor()), {"inputs_embeds": torch.zeros(1, 3, 4)})
    for text in (f"<|im_start|>user\n{VISION}<|im_end|>\n<|im_start|>assistant\n", f"<|im_start|>user\n{VISION} "):
        with pytest.raises(ValueError, match="row 0 is empty"):
            find_queries(handle(tiny_processor.TinyProcessor()), rows(text))
    with pytest.raises(ValueError, match="row 0 is empty"):
        find_queries(handle(None), inputs, " ")
