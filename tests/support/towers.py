"""Methods that look into a vision tower and cut inside of it, and the tower with masks that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from vtc.core.stage import Encoder, Need, Selection, Stage
from vtc.methods.base import Method

from support import oracle


@dataclass(kw_only=True)
class Probe(Method):
    """Keeps everything and remembers what it was shown."""

    name = "test-probe"
    summary = "test"
    stat: str = "received"
    layers: tuple[int, ...] = (1, 2)
    seen: list = field(default_factory=list)

    def stages(self, facts):
        from vtc.core.stage import Projector

        needs = tuple(Need("vision", layer, self.stat) for layer in self.layers)

        def select(view):
            self.seen.append([view.stats[n] for n in needs])
            return Selection(torch.arange(view.n))

        return [Stage(Projector(), select, self.keep_count, needs)]


@dataclass(kw_only=True)
class InsideTower(Method):
    """Prunes patches before an encoder layer by the norm of their rows."""

    name = "test-encoder"
    summary = "test"
    layer: int = 1

    def stages(self, facts):
        return [Stage(Encoder(self.layer), oracle.Norms.select.__get__(self), self.keep_count)]


class masked_tower:
    """Blocks >= layer see additive -inf on dropped patches; computed per attention module by replacing its kernel."""

    def __init__(self, model, adapter, inputs, record, layer):
        self.model, self.adapter, self.record, self.layer = model, adapter, record, layer

    def __enter__(self):
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as table

        self.dead, self.offset, self.saved, self.inside = None, 0, [], False
        for modality in self.adapter.modalities:
            name = f"get_{modality}_features"
            if hasattr(type(self.model.model), name):
                self.model.model.__dict__[name] = self._wrap(modality, name)
        table["test_masked"] = self._kernel
        towers = dict.fromkeys(self.adapter.tower_blocks(self.model, m) for m in self.adapter.modalities)
        blocks = [(i, block) for tower in towers for i, block in enumerate(tower)]
        for i, block in blocks:
            module = self.adapter.attention(block)
            block.register_forward_pre_hook(self._restart)
            if i >= self.layer:
                import copy

                self.saved.append((module, module.config))
                module.config = copy.copy(module.config)
                module.config._attn_implementation = "test_masked"
        self.blocks = [block for _, block in blocks]

    def _restart(self, module, args):
        self.offset = 0

    def _wrap(self, modality, name):
        def wrapped(**kwargs):
            if self.inside:  # a video method that calls the image method
                return getattr(type(self.model.model), name)(self.model.model, **kwargs)
            blocks, shapes = self.adapter.tower_blocks(self.model, modality), []
            self.inside = True
            hook = blocks[0].register_forward_pre_hook(
                lambda m, a, k: (
                    shapes.append((a[0] if a else k["hidden_states"]).shape) or self._mark(modality, kwargs, shapes[0])
                ),
                with_kwargs=True,
            )
            out = getattr(type(self.model.model), name)(self.model.model, **kwargs)
            hook.remove()
            self.inside = False
            return out

        return wrapped

    def _mark(self, modality, kwargs, shape):
        from vtc.adapters import FeatureCall

        flat = (1, shape[0]) if len(shape) == 2 else (shape[0], shape[1])
        index = self.adapter.patch_index(self.model, FeatureCall(modality, kwargs, None, flat))
        alive = torch.cat(
            [
                torch.zeros(i.before, dtype=torch.bool).index_fill(0, i.kept, True)
                for i in self.record.images
                if i.modality == modality
            ]
        )
        self.dead = torch.zeros(flat[0] * flat[1], dtype=torch.bool)
        gone = index[~alive].reshape(-1)
        self.dead[gone[gone >= 0]] = True
        self.dead = self.dead.view(flat)

    def _kernel(self, module, q, k, v, attention_mask, scaling=None, **kwargs):
        length = k.shape[2]
        dead = (
            self.dead
            if self.dead.shape[0] == q.shape[0] and self.dead.shape[1] == length
            else self.dead[:, self.offset : self.offset + length]
        )
        self.offset += length
        logits = q @ k.transpose(-1, -2) * scaling
        if attention_mask is not None:
            bias = attention_mask
            logits = logits.masked_fill(~bias, -1e9) if bias.dtype == torch.bool else logits + bias
        weights = torch.softmax(logits.masked_fill(dead[:, None, None, :], -1e9), -1)
        return (weights @ v).transpose(1, 2).contiguous(), weights

    def __exit__(self, *exc):
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as table

        for module, config in self.saved:
            module.config = config
        del table["test_masked"]
        for modality in self.adapter.modalities:
            self.model.model.__dict__.pop(f"get_{modality}_features", None)
        for block in self.blocks:
            for key, hook in list(block._forward_pre_hooks.items()):
                if getattr(hook, "__self__", None) is self:
                    del block._forward_pre_hooks[key]
