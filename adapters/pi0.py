"""pi0: a PaliGemma prefix of several cameras, read by an action expert that denoises a chunk of actions."""

from __future__ import annotations

from ._merged import Merged
from ._policy import PolicyAdapter
from .paligemma import PaliGemmaAdapter


class Pi0Adapter(PaliGemmaAdapter):
    """The prefix is the language model here, the expert a second decoder on its cache.

    ``sample_actions`` embeds the prefix itself and runs the prefix once and the expert several times. The expert counts
    the positions of its rows from the full attention mask, so those of the prefix are always kept. Slots of missing
    cameras are encoded as well; the rows that stay in ``chunk_size`` are those of the suffix without the state, its
    first row.
    """

    family = "pi0"
    model_types = ("pi0",)
    notes = "robot policy: PaliGemma and a flow-matching expert, several cameras"
    typical = {"vision_layers": 27, "feature_layer": 26, "decoder_layers": 18}
    since = "5.20.0"
    keeps_positions = True
    config_path = "config.vlm_config"
    base_path = "model.vlm"
    decoder_path = "model.vlm.language_model"
    image = Merged(kept_by="pixel_attention_mask")
    policy = PolicyAdapter(
        policy_calls=("sample_actions",),
        embeds_prompt=("model", "embed_prefix"),
        expert_path="model.dit",
        chunk_field="chunk_size",
    )
