"""Methods of a model that make a whole policy call, and the one that embeds its prompt: wrapped while a patch lasts."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .call import CALL, Call
from .clock import Clock

if TYPE_CHECKING:
    from .decoder import DecoderEngine

PROMPT = "vtc_prompt"
ENGINE = "_vtc_decoder"
ONE_BY_ONE = {
    "num_beams": "beam search",
    "num_return_sequences": "several sequences per prompt",
    "assistant_model": "assisted generation",
    "prompt_lookup_num_tokens": "prompt lookup",
}


class Wrappers:
    """Instance attributes in front of class methods: ``deepcopy`` rebinds them, ``del`` restores the class."""

    def __init__(self, engine: DecoderEngine) -> None:
        self.engine = engine
        self.placed: list[tuple[nn.Module, str]] = []

    def install(self) -> None:
        """Wrap what the adapter names; whole calls only for a method that remembers them."""
        adapter, model = self.engine.adapter, self.engine.model
        if adapter.embeds_prompt is not None:
            path, name = adapter.embeds_prompt
            self._place(model.get_submodule(path), name, _embedding)
        for name in adapter.policy_calls if self.engine.actions.feedback is not None else ():
            if hasattr(type(model), name):
                self._place(model, name, _calling)

    def _place(self, module: nn.Module, name: str, body: Callable) -> None:
        fn = getattr(type(module), name)

        @functools.wraps(fn)  # generate picks arguments by signature
        def wrapped(this: nn.Module, *args: Any, **kwargs: Any) -> Any:
            engine = this.__dict__.get(ENGINE)
            return fn(this, *args, **kwargs) if engine is None else body(engine, fn, this, args, kwargs)

        module.__dict__[ENGINE] = self.engine
        module.__dict__[name] = types.MethodType(wrapped, module)
        self.placed.append((module, name))

    def remove(self) -> None:
        """Give the class methods back."""
        while self.placed:
            module, name = self.placed.pop()
            module.__dict__.pop(name, None)
            module.__dict__.pop(ENGINE, None)


def _calling(engine: DecoderEngine, fn: Callable, model: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    if not engine.enabled:
        return fn(model, *args, **kwargs)
    stops: tuple[int, ...] = ()
    if fn.__name__ == "generate":
        settings = functools.partial(_setting, model, kwargs)
        _check_generation(settings, next(model.parameters()).device)
        stops = stop_ids(settings("eos_token_id"))
    with engine.owner.policy_call(stops):
        return fn(model, *args, **kwargs)


def _setting(model: Any, kwargs: dict[str, Any], name: str) -> Any:
    """Value of a generation setting: of the call, of a configuration passed with it, or of the model's own."""
    own = kwargs.get("generation_config") or model.generation_config
    return kwargs[name] if name in kwargs else getattr(own, name, None)


def stop_ids(given: Any) -> tuple[int, ...]:
    """End-of-sequence ids as a tuple."""
    if given is None:
        return ()
    return (given,) if isinstance(given, int) else tuple(int(i) for i in given)


def _check_generation(setting: Callable[[str], Any], device: torch.device) -> None:
    for name, what in ONE_BY_ONE.items():
        value = setting(name)
        if value is not None and value != 1:
            raise ValueError(
                f"{name}={value if isinstance(value, int) else '...'}: with {what} there is no one sequence of action "
                "tokens per environment whose attention could be remembered. Generate greedily or sample one sequence, "
                "or patch with temporal=False."
            )
    static = "static" in str(setting("cache_implementation"))
    if static and device.type == "cuda" and not setting("disable_compile"):
        raise ValueError(
            "A static cache compiles the decode steps, which hides the attention of the action tokens. Pass "
            "disable_compile=True, or leave cache_implementation unset."
        )


def _embedding(engine: DecoderEngine, fn: Callable, module: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Embed a prompt outside of any forward of the base model: what was encoded travels on the embeddings."""
    if not engine.enabled or torch.compiler.is_compiling():
        return fn(module, *args, **kwargs)
    call = Call(owner=module, engine=engine.owner, clock=Clock(torch.device("cpu")))
    token = CALL.set(call)
    try:
        embeds = fn(module, *args, **kwargs)
    finally:
        CALL.reset(token)
    inputs = inspect.signature(fn).bind(module, *args, **kwargs).arguments
    records = [engine.adapter.scattered(record, inputs) for record in call.records]
    columns = {modality: inputs["input_ids"] == token for modality, token in engine.token_ids.items()}
    setattr(embeds, PROMPT, (records, columns))
    return embeds
