"""The base class: chosen by the checkpoint, fitted to the machine, with the base's own prompts."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="needs lmms-eval: pip install 'vtc[eval]'")

from lmms_eval.models import get_model_manifest, list_available_models  # noqa: E402
from lmms_eval.tasks import TaskManager  # noqa: E402

from vtc.eval.lmms.bases import BASES, base_class, base_name, fit_machine, use_prompts_of  # noqa: E402

from support.checkpoints import CHECKPOINTS  # noqa: E402
from support.lmms import ours  # noqa: E402


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_base_follows_from_the_checkpoint(name: str, checkpoint: Any) -> None:
    assert base_name({"pretrained": str(checkpoint(name))}) == CHECKPOINTS[name][2]


def test_all_bases_are_known_to_lmms_eval() -> None:
    assert set(BASES.values()) <= set(list_available_models())


def test_the_entry_point_announces_the_model() -> None:
    found = get_model_manifest("vtc")
    assert found.chat_class_path == "vtc.eval.lmms.factory.VTCChat"
    assert found.simple_class_path == "vtc.eval.lmms.factory.VTCSimple"


def test_prompts_are_those_of_the_base(checkpoint: Any) -> None:
    """lmms-eval chooses prompts by the text of --model, kept in an attribute that is not public."""
    manager = TaskManager("ERROR", include_defaults=False, model_name="vtc")
    other = TaskManager("ERROR", include_defaults=False, model_name="gemma3")
    use_prompts_of("qwen3_vl")
    assert (manager.model_name, other.model_name) == ("qwen3_vl", "gemma3")
    manager.model_name = "vtc"
    ours(checkpoint("internvl"), "method=none")
    assert manager.model_name == "internvl_hf"


def test_devices_are_filled_in_only_where_defaults_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    named = ["device", "device_map"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert fit_machine("qwen2_5_vl", {}, named) == {"device": "cuda"}
    assert fit_machine("llava_hf", {}, named) == {"device": "cuda", "device_map": "cuda"}
    assert fit_machine("llava_hf", {"device_map": "auto"}, named)["device_map"] == "auto"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert fit_machine("llava_hf", {}, named) == {"device": "cuda"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fit_machine("llava_hf", {}, named) == {"device": "cpu", "device_map": "cpu"}


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ("", ValueError, "pretrained=... is missing"),
        ("base=vtc", ValueError, "this model itself"),
        ("base=llava_hff", ValueError, "not found in available models"),
    ],
)
def test_bad_bases_are_refused(args: str, error: type[Exception], message: str) -> None:
    from vtc.eval.lmms.factory import VTCChat

    with pytest.raises(error, match=message):
        VTCChat.create_from_arg_string(args, {"device": "cpu"})


def test_classes_that_cannot_be_imported_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import lmms_eval.models

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise ModuleNotFoundError("No module named 'decord'")

    monkeypatch.setattr(lmms_eval.models, "get_model", missing)
    with pytest.raises(ImportError, match="decord.*base=generic"):
        base_class("llava_hf", simple=False)
