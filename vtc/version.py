"""Single source of the version number."""

from __future__ import annotations

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Versions of vtc, torch and transformers that are running."""
    from importlib.metadata import version

    import torch

    return {"vtc": __version__, "torch": torch.__version__, "transformers": version("transformers")}
