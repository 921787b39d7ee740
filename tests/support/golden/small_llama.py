"""A LLaVA whose decoder has given weights and whose embedding and image rows are given tensors."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import transformers as tf
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaModel

import vtc

VISION = dict(
    hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=3, patch_size=4, image_size=24
)


class GivenRows(LlavaModel):
    """Takes the image rows it is told."""

    def get_image_features(self, pixel_values=None, **kwargs):
        return BaseModelOutputWithPooling(pooler_output=[self.rows])


class SmallVLM:
    """One prompt whose embedded rows are ``inputs_embeds``, some of them from an image."""

    def __init__(self, arrays):
        width, heads, ffn, layers = arrays["config"].tolist()
        self.rows = torch.from_numpy(arrays["inputs_embeds"])
        length = len(self.rows)
        text = tf.LlamaConfig(
            vocab_size=length + 1,
            hidden_size=width,
            intermediate_size=ffn,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            rms_norm_eps=float(arrays["rms_eps"]),
            rope_parameters={"rope_type": "default", "rope_theta": float(arrays["rope_theta"])},
        )
        vision = tf.CLIPVisionConfig(**VISION, projection_dim=16)
        self.net = tf.LlavaForConditionalGeneration(
            tf.LlavaConfig(text_config=text, vision_config=vision, image_token_id=length)
        ).eval()
        decoder, begin, end = self.net.get_decoder(), *arrays["image_span"].tolist()
        weights = {k[2:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("w.")}
        missing, unexpected = decoder.load_state_dict(weights, strict=False)
        assert missing == ["embed_tokens.weight"] and not unexpected
        decoder.embed_tokens.weight.data[:length] = self.rows
        self.net.model.__class__ = GivenRows
        self.net.model.rows = self.rows[begin:end]
        self.ids = torch.arange(length)
        self.ids[begin:end] = length

    @torch.no_grad()
    def prefill(self):
        out = self.net.model(input_ids=self.ids[None], pixel_values=torch.zeros(1, 3, 24, 24), use_cache=True)
        return out.last_hidden_state[0], out.past_key_values

    @torch.no_grad()
    def step(self, row, cache):
        return self.net.model(inputs_embeds=row[None, None], past_key_values=cache).last_hidden_state[0, 0]


def install(model, method):
    """Patch, and note every view and choice of the method."""
    seen, select = [], method.select

    def spy(view, *given):
        choice = select(view, *given)
        seen.append((view, choice))
        return choice

    method.select = spy
    handle = vtc.patch(model.net, method)
    return SimpleNamespace(seen=seen, handle=handle, stages=method.stages(handle.facts))
