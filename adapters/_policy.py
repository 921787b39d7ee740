"""How a model acts: calls that make up one policy step, a second decoder, prompts that are embedded elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from vtc.core.prompt import Prompt

from ._paths import follow
from .geometry import EncodeRecord

PROMPT = "vtc_prompt"
"""Attribute of embeddings that carries ``(records, columns)`` of the images in them."""


@dataclass(frozen=True)
class PolicyAdapter:
    """What a family says about acting; the defaults are those of a model that generates its actions as tokens.

    Parameters
    ----------
    policy_calls : tuple of str
        Methods of the model that run a whole policy call.
    action_length : int
        Placeholders at the end of a prompt that one pass turns into actions.
    embeds_prompt : (str, str), optional
        Submodule and method that turn ids and pixels into embeddings outside of the base model. The engine leaves
        ``(records, columns)`` on what it returns.
    expert_path : str
        Second decoder, which reads the cache of the first; empty: there is none.
    chunk_field : str
        Field of the configuration with the rows at the end of the expert's input that become actions.
    """

    policy_calls: tuple[str, ...] = ("generate",)
    action_length: int = 0
    embeds_prompt: tuple[str, str] | None = None
    expert_path: str = ""
    chunk_field: str = ""

    @property
    def actions(self) -> Literal["generated", "placeholders", "expert"]:
        """Where actions come from, as :class:`~vtc.core.stage.ModelFacts` names it."""
        if self.expert_path:
            return "expert"
        return "placeholders" if self.action_length else "generated"

    def expert(self, model: nn.Module) -> Any:
        """Second decoder of the model, None when there is none."""
        return follow(model, self.expert_path) if self.expert_path else None

    def expert_rows(self, model: nn.Module) -> int:
        """Rows at the end of the expert's input that become actions."""
        return int(follow(model.config, self.chunk_field)) if self.chunk_field else 0

    def given(self, model: nn.Module, prompt: Prompt) -> tuple[list[EncodeRecord], dict[str, Tensor]]:
        """Images that lie in the prompt of the base model without having been encoded by it.

        Returns
        -------
        list of EncodeRecord, and dict of str to BoolTensor [B, L]
            Geometry, and the columns per modality.

        Raises
        ------
        ValueError
            The embeddings should tell, and were made elsewhere.
        """
        if self.embeds_prompt is None or prompt.embeds is None:
            return [], {}
        found = getattr(prompt.embeds, PROMPT, None)
        if found is None:
            raise ValueError(
                "This prefix does not tell where its images are: it was embedded before vtc.patch, or changed since. "
                f"Pass what model.{'.'.join(self.embeds_prompt)} returns as it is, or run it through "
                "`with handle.disabled()`."
            )
        return found

    def describe(self) -> str:
        """One line for the page of families."""
        told = [f"calls {name}" for name in self.policy_calls]
        if self.expert_path:
            told.append(f"expert {self.expert_path} with {self.chunk_field} rows")
        if self.embeds_prompt:
            told.append(f"prompt embedded by {'.'.join(self.embeds_prompt)}")
        if self.action_length:
            told.append(f"{self.action_length} placeholders")
        return f"actions {self.actions}: {', '.join(told)}"
