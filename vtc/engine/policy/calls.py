"""Methods of a model that make a whole policy call, and the one that embeds its prompt: wrapped while a patch lasts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from vtc.adapters import PROMPT

from ..patch import Patch
from ..seams import NAMES
from ..site import Site
from ..wrapping import Undo, Wrapped

if TYPE_CHECKING:
    from .actions import Actions

ONE_BY_ONE = {
    "num_beams": "beam search",
    "num_return_sequences": "several sequences per prompt",
    "assistant_model": "assisted generation",
    "prompt_lookup_num_tokens": "prompt lookup",
}


def wrap_calls(actions: Actions, undo: Undo) -> None:
    """Wrap the methods that run a whole policy call."""
    for name in actions.site.adapter.policy.policy_calls:
        if hasattr(type(actions.site.model), name):
            undo.wrap(actions.site.model, name, PolicyCall(actions))


class PolicyCall:
    """One policy call: remembered when it ends, forgotten when it raises."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions

    def __call__(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        """Run the method as a policy call."""
        from .actions import stop_ids

        handle, model = self.actions.handle, seat.owner
        if handle.off:
            return seat.original(*args, **kwargs)
        stops: tuple[int, ...] = ()
        if seat.name == "generate":
            settings = functools.partial(_setting, model, kwargs)
            _check_generation(settings, next(model.parameters()).device)
            stops = stop_ids(settings("eos_token_id"))
        with handle.memory.call(stops):
            return seat.original(*args, **kwargs)


def _setting(model: Any, kwargs: dict[str, Any], name: str) -> Any:
    """Value of a generation setting: of the call, of a configuration passed with it, or of the model's own."""
    own = kwargs.get("generation_config") or model.generation_config
    return kwargs[name] if name in kwargs else getattr(own, name, None)


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


class EmbeddedPrompts:
    """Prompts that a model embeds outside of any forward of its base: what was encoded travels on the embeddings."""

    def __init__(self, handle: Patch, site: Site) -> None:
        self.handle, self.site = handle, site

    def install(self, undo: Undo) -> None:
        """Wrap the method that embeds, if the model has one."""
        if self.site.adapter.policy.embeds_prompt is not None:
            path, name = self.site.adapter.policy.embeds_prompt
            undo.wrap(self.site.model.get_submodule(path), name, self.embed)

    def embed(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        """Run the method that embeds, and leave ``(records, columns)`` on what it returns."""
        handle = self.handle
        if handle.off or torch.compiler.is_compiling():
            return seat.original(*args, **kwargs)
        with handle.call(torch.device("cpu"), seat) as forward:
            embeds = seat.original(*args, **kwargs)
        inputs = inspect.signature(seat.original).bind(*args, **kwargs).arguments
        records = [self.site.adapter.scattered(record, inputs) for record in forward.images.records]
        ids = inputs[NAMES["ids"][0]]
        columns = {modality: ids == token for modality, token in self.site.token_ids.items()}
        setattr(embeds, PROMPT, (records, columns))
        return embeds
