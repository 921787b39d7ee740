"""The demo in a browser: ``vtc demo``, or ``vtc.demos.app.serve()``. Needs gradio 6."""

from __future__ import annotations

from .serve import serve

__all__ = ["serve"]
