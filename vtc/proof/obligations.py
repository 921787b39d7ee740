"""What vtc promises of every family, each as one function: ``(setup, method)`` to the largest difference.

All compare two ways to the same numbers. They raise :class:`Refused` where there is nothing to compare, and any other
error is a promise that was not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..core.stage import Decoder
from ..engine.measure.tap import is_ours
from ..methods.base import Method
from .probes import Norms
from .setups import Ran, Setup
from .verdict import difference

TOLERANCE = 1e-5
"""Allowed relative difference in float32, where two ways round differently."""
_NOISE = 1e-3
"""A plain model that differs from itself by more, with and without a cache, is no yardstick."""


class Refused(Exception):
    """An obligation does not apply; the message says why."""


@contextmanager
def patched(setup: Setup, method: Method, keep: float | None = None) -> Iterator[Any]:
    """Patch the tiny model; what :func:`vtc.patch` refuses with a reason is :class:`Refused`."""
    from ..patching import patch

    before = method.keep, getattr(method, "cuts", ())
    if keep is not None:
        method.keep = keep
        if isinstance(method, Norms):
            method.cuts = tuple((layer, keep) for layer, _ in method.cuts)
    try:
        try:
            handle = patch(setup.model, method)
        except ValueError as error:
            if isinstance(method, Norms) and not method.cuts:
                raise  # nothing a family could lack: a fault, not a refusal
            raise Refused(str(error)) from error
        try:
            yield handle
        finally:
            handle.remove()
    finally:
        method.keep = before[0]
        if isinstance(method, Norms):
            method.cuts = before[1]


def identical(setup: Setup, method: Method) -> float:
    """Return how far keep=1 is from the unpatched model, bit by bit: logits of a forward, new tokens, their logits."""
    plain, logits = setup.plain, setup.forward(setup.batch)
    with patched(setup, method, keep=1.0) as handle:
        again = setup.run(setup.batch)
        _saw_images(handle)
        handle.reset()
        return max(_bits(setup.forward(setup.batch), logits), _same(again, plain))


def masking(setup: Setup, method: Method) -> float:
    """Return how far dropping is from masking the same tokens in full-length forwards without a cache."""
    with patched(setup, method) as handle:
        ran = setup.run(setup.batch)
        record = _dropped(handle)
        if any(log.raw_groups is not None for log in record.images):
            raise Refused(f"{method.name!r} merges tokens: the rows it makes are in no full-length forward.")
        return difference(ran.values, setup.masked(handle, ran))


def cache(setup: Setup, method: Method) -> float:
    """Return how far decoding on a pruned cache is from forwards without a cache."""
    if setup.uncached:
        raise Refused(setup.uncached)
    if setup.own_noise >= _NOISE:
        raise Refused(
            f"The unpatched model differs from itself by {setup.own_noise:.1e} with and without a cache: "
            "it is no yardstick for the pruned one."
        )
    with patched(setup, method) as handle:
        if method.feedback(handle.facts) is not None:
            raise Refused(f"{method.name!r} remembers calls, and without a cache every token would count as one.")
        if any(isinstance(s.at, Decoder) and s.needs for s in method.stages(handle.facts)):
            raise Refused(
                f"{method.name!r} ranks by the attention of the prompt's last rows, which move on with every token "
                "when nothing is cached."
            )
        cached = setup.run(setup.batch)
        _dropped(handle)
        free = setup.run(setup.batch, cached=False)
        return difference(cached.values, free.values)


def batch(setup: Setup, method: Method) -> float:
    """Return how far the rows of a padded batch are from each of them alone."""
    with patched(setup, method) as handle:
        together = setup.run(setup.batch)
        _dropped(handle)
        sizes = []
        for row, inputs in enumerate(setup.rows()):
            handle.reset()
            sizes.append(difference(setup.run(inputs).values[0], together.values[row]))
        return max(sizes)


def unpatch(setup: Setup, method: Method) -> float:
    """Return how far the model is from itself after patch, run and unpatch; nothing of vtc may be left on it.

    Raises
    ------
    ValueError
        Hooks, attributes, configs or entries of transformers' tables were left; the message names them.
    """
    plain, before = setup.plain, state(setup.model)
    with patched(setup, method):
        setup.run(setup.batch)
    after = state(setup.model)
    left = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if left:
        raise ValueError(f"Not as it was before vtc.patch: {', '.join(left[:4])}.")
    return _same(setup.run(setup.batch), plain)


def kv(setup: Setup, method: Method) -> float:
    """Return how far the KV bytes of the report are from those of the tensors and from the formula.

    Per layer: 2 (keys and values) x rows x heads x tokens x width of a head x bytes of an element, with the heads of
    the unpatched model's cache and the tokens counted from the prompt's ids.
    """
    full = setup.prefill(setup.batch)
    with patched(setup, method) as handle:
        held = setup.prefill(setup.batch)
        record = _dropped(handle)
        report = handle.report().to_dict()["kv_bytes"]
    formula = _formula(setup, full, setup.alive(record).sum(-1).amax(-1).tolist())
    tensors = [_bytes(layer) for layer in held.layers]
    pairs = [(report["per_layer"], tensors), (report["per_layer"], formula)]
    pairs += [([report["after"]], [sum(tensors)]), ([report["before"]], [sum(map(_bytes, full.layers))])]
    return max(difference(torch.tensor(a), torch.tensor(b)) for a, b in pairs)


OBLIGATIONS: dict[str, Callable[[Setup, Method], float]] = {
    f.__name__: f for f in (identical, masking, cache, batch, unpatch, kv)
}


def tolerance(name: str, setup: Setup) -> float:
    """Return what an obligation may differ by: nothing where it is about bits or bytes, else rounding."""
    if name in ("identical", "unpatch", "kv"):
        return 0.0
    # some kernels (chunked against recurrent) round more coarsely, patched or not
    noise = 0.0 if setup.uncached else setup.own_noise
    return max(TOLERANCE, 20 * noise) if noise < _NOISE else TOLERANCE


def state(model: Any) -> dict[str, Any]:
    """Everything a patch may touch: hooks, instance attributes and configs of modules, entries of tables."""
    found: dict[str, Any] = {}
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")
    for name, module in model.named_modules():
        where = name or type(model).__name__
        for kind in kinds:
            found[f"{kind} of {where}"] = [id(hook) for hook in getattr(module, kind).values()]
        # methods that stand on the instance count by identity: one put over another would not show in the names
        methods = {k: id(v) for k, v in module.__dict__.items() if callable(v) and not isinstance(v, nn.Module)}
        found[f"attributes of {where}"] = (sorted(module.__dict__), methods)
        found[f"config of {where}"] = id(module.__dict__.get("config"))
        found[f"class of {where}"] = type(module)
    for table in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        found[f"{type(table).__name__} of transformers"] = sorted(k for k in table.keys() if not is_ours(k))
    return found


def _bits(found: Tensor, expected: Tensor) -> float:
    return 0.0 if torch.equal(found, expected) else max(difference(found, expected), 1e-30)


def _same(found: Ran, expected: Ran) -> float:
    ids = 0.0 if torch.equal(found.ids, expected.ids) else float("inf")
    return max(ids, _bits(found.values, expected.values))


def _saw_images(handle: Any) -> Any:
    record = handle.last
    if record is None or record.before == 0:
        raise ValueError("The patched model ran and vtc saw no visual tokens: its hooks are not reached.")
    return record


def _dropped(handle: Any) -> Any:
    record, (method,) = _saw_images(handle), handle.methods
    if record.after >= record.before:
        if method.feedback(handle.facts) is not None:
            raise Refused(f"{method.name!r} keeps everything until it remembers earlier calls.")
        raise ValueError(f"Nothing was dropped of {record.before} visual tokens at keep={handle.methods[0].keep}.")
    return record


def _bytes(layer: Any) -> int:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    return sum(x.numel() * x.element_size() for x in (keys, values) if isinstance(x, Tensor))


def _formula(setup: Setup, full: Any, counts: list[int]) -> list[int]:
    found = []
    for layer, tokens in zip(full.layers, counts, strict=False):  # layers that share keys have none of their own
        keys = getattr(layer, "keys", None)
        if not isinstance(keys, Tensor):
            found.append(0)
            continue
        window = getattr(layer, "sliding_window", None)
        held = tokens if window is None else min(tokens, window - 1)
        rows, heads, _, width = keys.shape
        found.append(2 * rows * heads * held * width * keys.element_size())
    return found
