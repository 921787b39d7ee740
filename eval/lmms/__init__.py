"""lmms-eval: ``--model vtc`` for any base model, tasks of our own, and the sweep behind ``vtc eval run``."""

from __future__ import annotations

from typing import Any


def manifests() -> list[Any]:
    """Announce the model ``vtc`` to lmms-eval (entry point group ``lmms_eval.models``).

    lmms-eval calls this while it is being imported: nothing heavy may be imported here.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    module = f"{__name__}.factory."
    return [ModelManifest(model_id="vtc", simple_class_path=module + "VTCSimple", chat_class_path=module + "VTCChat")]
