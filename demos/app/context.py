"""What all tabs share: the controls of the sidebar, the picture, and the way to run things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from .media import Media
from .models import Shelf
from .settings import Settings, checked_question, settings

LANE = "model"
"""All work on models waits in one line: times would mean nothing otherwise."""


@dataclass(frozen=True)
class Context:
    """Controls that exist before the tabs are built.

    Attributes
    ----------
    shelf : Shelf
    model, method, keep : gradio components
    chosen : gradio State
        Hyperparameters the user set, by method.
    media : gradio State
        :class:`Media` of this session.
    question, look : gradio components
        The question; State with the latest :class:`vtc.demos.app.runs.Look`, or None.
    """

    shelf: Shelf
    model: gr.Dropdown
    method: gr.Dropdown
    keep: gr.Slider
    chosen: gr.State
    media: gr.State
    question: gr.Textbox
    look: gr.State

    @property
    def inputs(self) -> list[Any]:
        """Components whose values :meth:`read` takes, in its order."""
        return [self.model, self.method, self.keep, self.chosen, self.media, self.question]

    @staticmethod
    def read(
        model: str, method: str, keep: float, chosen: dict[str, Any], media: Media, question: str
    ) -> tuple[Settings, Media, str]:
        """Make settings of the values of :attr:`inputs`.

        Raises
        ------
        ValueError, TypeError
            A value the page would not have sent: the API takes no others.
        """
        if not isinstance(media, Media):
            raise ValueError("There is no picture: upload one, or choose an example.")
        return settings(model, method, keep, chosen), media, checked_question(question)
