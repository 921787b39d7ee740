"""The model card of an embedded model: what it is, what it is not, how it was made, what it scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..quality import Row

_HEAD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# {name}

{what} It exists so that methods which cut visual tokens can be seen to keep or lose answers without downloading
anything.

**It knows** the generated pictures of `vtc.eval.scenes`{videos}, and questions about them in the wording of these
examples:

{examples}

**It does not know** photographs, other words (they become `<unk>`), several pictures in one prompt, or conversation:
its answers about anything else mean nothing. It tells methods apart; it does not tell how a large model would fare.

Trained from scratch{start} by `python -m vtc.eval.training --model {name}` on generated scenes: {samples:,} scenes in
{steps:,} steps, {minutes:.0f} minutes, {device}. No other data was used. The log is `eval/training_logs/{name}.jsonl`.

Exact answers on the pinned test sets ({count} questions per family), in %; *blank*: the same questions with the picture
replaced by plain grey.

{table}

Weights are bfloat16. Pictures and prompts go through its processor:

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(folder)  # folder: printed by `vtc path {name}`
processor = AutoProcessor.from_pretrained(folder)
```
"""
_WHAT = {
    "tiny-llava": (
        "A real `LlavaForConditionalGeneration` of 3.8 million parameters, small enough to ship: a CLIP tower with\n"
        "[CLS] (168 x 168 pixels, 144 image tokens, features before its fifth and last layer) and a Llama decoder\n"
        "of six layers."
    ),
    "tiny-qwen2_5-vl": (
        "A real `Qwen2_5_VLForConditionalGeneration` of 4.0 million parameters, small enough to ship: four vision\n"
        "blocks, two of them with windows, dynamic resolution (a token covers 20 x 20 pixels), M-RoPE, a decoder of\n"
        "six layers; pictures, and videos of eight frames."
    ),
}
_EXAMPLES = {
    "attribute": "what color is the circle ?",
    "existence": "is there a red star ?",
    "counting": "how many blue objects ?",
    "spatial": "is the red star left or right of the blue ring ?",
    "reading": "read the number ?",
    "chart": "what is the value of the green bar ?",
    "video-event": "what appeared ?",
    "video-frame": "in which frame did the red star vanish ?",
    "video-order": "which appeared first the red star or the blue ring ?",
    "video-motion": "which way did the red star move ?",
}


def _table(rows: list[Row]) -> str:
    families = list(dict.fromkeys(row.family for row in rows))
    lines = ["| | " + " | ".join(families) + " |", "|" + " --- |" * (len(families) + 1)]
    for method, label in (("none", "as it is"), ("blank", "blank")):
        found = {row.family: row.accuracy for row in rows if row.method == method}
        lines.append(f"| {label} | " + " | ".join(f"{100 * found[family]:.1f}" for family in families) + " |")
    return "\n".join(lines)


def write_card(name: str, folder: Path, facts: dict[str, Any], rows: list[Row]) -> None:
    """Write ``README.md`` beside the weights.

    Parameters
    ----------
    name : str
    folder : Path
    facts : dict
        ``step``, ``samples``, ``seconds`` and ``device`` of the training; ``start`` names the model it started from,
        or is empty.
    rows : list of Row
        Rows ``none`` and ``blank`` of the quality benchmark.
    """
    families = [row.family for row in rows if row.method == "none" and row.family != "all"]
    text = _HEAD.format(
        name=name,
        what=_WHAT[name],
        videos=" and the videos of `vtc.eval.scenes.video`" if "video-event" in families else "",
        examples="\n".join(f"- {family}: `{_EXAMPLES[family]}`" for family in families),
        start=f" (but for a start from {facts['start']})" if facts.get("start") else "",
        samples=facts["samples"],
        steps=facts["step"],
        minutes=facts["seconds"] / 60,
        device=facts["device"],
        count=next(row.n for row in rows if row.method == "none" and row.family == families[0]),
        table=_table(rows),
    )
    (folder / "README.md").write_text(text)
