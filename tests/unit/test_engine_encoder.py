"""The encoder side: taps against recorded maps, feature rows against perturbed patches, pruning in the tower."""

from __future__ import annotations

from dataclasses import dataclass, field

import oracle
import pytest
import tiny
import torch

import vtc
from vtc.core.stage import Encoder, Need, Selection, Stage
from vtc.methods.base import Method


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


@pytest.mark.parametrize(
    ("name", "stat"), [("llava-clip", "class_row"), ("llava-clip", "received"), ("llava-siglip", "received")]
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_taps_equal_recorded_attention(tiny_model, name, stat, attention):
    model, case = tiny_model(name, "eager"), tiny.CASES[name]
    inputs = tiny.alone(case, 1)
    with torch.no_grad():
        maps = model.model.vision_tower(inputs["pixel_values"], output_attentions=True).attentions
        model = tiny_model(name, attention)
        plain = model(**inputs).logits
        probe = Probe(stat=stat)
        with vtc.patched(model, probe):
            assert torch.equal(model(**inputs).logits, plain)
    cut = 1 if name == "llava-clip" else 0
    for image, layers in enumerate(probe.seen):
        for layer, got in zip(probe.layers, layers, strict=True):
            full = maps[layer][image].mean(0)
            expected = full[0, 1:] if stat == "class_row" else full.mean(0)[cut:]
            assert (got - expected).abs().max() < 1e-6


@pytest.mark.parametrize("name", list(tiny.CASES))
def test_statistics_sit_on_the_rows_of_their_patches(tiny_model, name):
    """Perturbing the patches behind one feature row moves that row of the features most: the mapping is right."""
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.alone(case, 1)
    adapter = vtc.find_adapter(model)
    modality = "video" if "video" in name else "image"
    from vtc.adapters import FeatureCall

    names = dict(
        image=("pixel_values", "image_grid_thw", "image_sizes"), video=("pixel_values_videos", "video_grid_thw")
    )
    kwargs = {k: inputs[k] for k in names[modality] if k in inputs}
    encode = getattr(model.model, f"get_{modality}_features")
    shapes = []
    block = adapter.tower_blocks(model)[0]
    hook = block.register_forward_pre_hook(
        lambda m, a, k: shapes.append((a[0] if a else k["hidden_states"]).shape), with_kwargs=True
    )
    with torch.no_grad():
        base = torch.cat(list(encode(**kwargs).pooler_output))
    hook.remove()
    shape = shapes[0] if len(shapes[0]) == 3 else (1, *shapes[0])
    index = adapter.patch_index(model, FeatureCall(modality, kwargs, None, tuple(shape[:2])))
    assert index.shape[0] == base.shape[0]
    last = adapter.tower_blocks(model)[adapter.feature_layer(model, len(adapter.tower_blocks(model)))]
    for row in range(0, base.shape[0], 5):
        bump = torch.zeros(shape[0] * shape[1], 1)
        bump[index[row]] = 100.0
        bump = bump.view(*shape[:2], 1) if len(shapes[0]) == 3 else bump
        hook = last.register_forward_hook(
            lambda m, a, out, bump=bump: out + bump * torch.arange(out.shape[-1]), prepend=True
        )
        with torch.no_grad():
            moved = torch.cat(list(encode(**kwargs).pooler_output))
        hook.remove()
        change = (moved - base).abs().sum(1)
        assert change[row] > 0
        assert (change > 1e-4).sum() == 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(tiny.CASES))
def test_pruning_inside_the_tower_equals_masking_there(tiny_model, name, attention):
    """Kept feature rows equal those of a full run with the dropped patches masked as keys from that block on."""
    model, case = tiny_model(name, attention), tiny.CASES[name]
    inputs = tiny.batch(case)
    adapter = vtc.find_adapter(model)
    with torch.no_grad(), vtc.patched(model, InsideTower(keep=0.5)) as handle:
        out = oracle.generate(model, inputs, max_new_tokens=3)
        record = handle.last
        for i in range(len(case.samples)):
            one = tiny.alone(case, i)
            solo = oracle.new_tokens(oracle.generate(model, one, max_new_tokens=3), one)
            assert torch.equal(solo[0], oracle.new_tokens(out, inputs)[i])
        features = _features(model, inputs)
    assert record.after == sum(max(1, round(0.5 * i.before)) for i in record.images)
    with torch.no_grad(), _masked_tower(model, adapter, inputs, record, layer=1):
        expected = _features(model, inputs)
    start = dict.fromkeys(features, 0)
    for image in record.images:
        rows = start[image.modality] + image.kept
        start[image.modality] += image.before
        assert (features[image.modality][rows] - expected[image.modality][rows]).abs().max() < 3e-5


def _features(model, inputs):
    out = {}
    if "pixel_values" in inputs:
        keys = [k for k in ("pixel_values", "image_grid_thw", "image_sizes") if k in inputs]
        out["image"] = torch.cat(list(model.model.get_image_features(**{k: inputs[k] for k in keys}).pooler_output))
    if "pixel_values_videos" in inputs:
        keys = ("pixel_values_videos", "video_grid_thw")
        out["video"] = torch.cat(list(model.model.get_video_features(**{k: inputs[k] for k in keys}).pooler_output))
    return out


class _masked_tower:
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


@pytest.mark.parametrize("name", ["llava-clip", "llava-siglip", "llava-pixtral", "qwen2_5_vl-video"])
def test_focus_and_entropy_reach_vflowopt(tiny_model, name):
    """VFlowOpt's two-pass statistic and its entropy arrive per image: the batch keeps what each sample keeps alone."""

    class Processor:
        image_mean = image_std = (0.5, 0.5, 0.5)

    model, case = tiny_model(name), tiny.CASES[name]
    options = dict(keep=0.4, t=1.2, alpha=0.0 if name == "llava-pixtral" else 0.7, recycling=False)
    with torch.no_grad(), vtc.patched(model, "vflowopt", processor=Processor(), **options) as handle:
        model(**tiny.batch(case))
        together = {(i.row, i.image): (i.kept, i.scores) for i in handle.last.images}
        for row in range(2):
            model(**tiny.alone(case, row))
            for i in handle.last.images:
                kept, scores = together[row, i.image]
                assert torch.equal(kept, i.kept)
                assert torch.allclose(scores, i.scores, atol=1e-6)
                # rows of attention sum to 1; a merge group takes the mean of its 4; the column of [CLS] is cut
                attention = 0.25 if name.startswith("qwen") else 1.0
                total = len(i.unit.filled().part_grids) * (attention + options["alpha"])
                assert scores.sum() < total if name == "llava-clip" else abs(scores.sum() - total) < 1e-4


def test_entropy_needs_the_processor(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    with vtc.patched(model, "vflowopt", alpha=0.5), pytest.raises(ValueError, match="pass processor"):
        model(**tiny.batch(case))
