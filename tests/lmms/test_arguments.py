"""Arguments: ours are found, the base class keeps its own, typos are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vtc
from vtc.core.texts import literal
from vtc.eval.lmms.arguments import Settings, claim, signature, split


class Base:
    def __init__(self, pretrained: str, device: str = "cuda", seed: int = 0, **kwargs: Any) -> None:
        assert kwargs == {}


class Strict(Base):
    def __init__(self, pretrained: str, fps: float = 1.0) -> None:
        super().__init__(pretrained)


def test_ours_are_taken_out_and_the_rest_stays() -> None:
    settings, rest = split({"pretrained": "x", "method": "vtc-cls", "keep": 0.5, "start_layer": 1, "device": "cpu"})
    settings, rest = claim(settings, rest, Base)
    assert (settings.method, settings.keep, settings.options) == ("vtc-cls", 0.5, {"start_layer": 1})
    assert rest == {"pretrained": "x", "device": "cpu"}


def test_a_name_both_know_belongs_to_the_base_unless_prefixed() -> None:
    settings, rest = claim(Settings("random", 0.5), {"pretrained": "x", "seed": 1, "vtc_seed": 2}, Base)
    assert settings.options == {"seed": 2} and rest == {"pretrained": "x", "seed": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [("[2, 5]", [2, 5]), ('{"a": [1, null]}', {"a": [1, None]}), ("(1, 2)", (1, 2)), ("plain", "plain")],
)
def test_lists_and_json_are_read(text: Any, value: Any) -> None:
    assert literal(text) == value


@pytest.mark.parametrize(
    ("args", "base", "message"),
    [
        ({"metod": "random"}, Base, "Did you mean 'method'"),
        ({"devise": "cpu"}, Base, "Did you mean 'device'"),
        ({"unheard_of": 1}, Strict, "unheard_of"),
        ({"method": "vtc-cls", "start_leyer": 1}, Base, "Did you mean 'start_layer'"),
        ({"method": "random", "vtc_metric": 1}, Base, "has no option 'metric'"),
    ],
)
def test_unknown_names_are_refused(args: dict[str, Any], base: type, message: str) -> None:
    settings, rest = split({"pretrained": "x", **args})
    with pytest.raises(TypeError, match=message):
        claim(settings, rest, base)


def test_open_ended_bases_get_names_we_never_heard_of() -> None:
    assert claim(Settings("none"), {"pretrained": "x", "zz": 1}, Base)[1] == {"pretrained": "x", "zz": 1}
    assert signature(Strict) == (["pretrained", "fps"], False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("randum"), "Did you mean 'random'"),
        (Settings("random", 1.5), "keep"),
        (Settings("none", options={"seed": 1}), "has no options"),
        (Settings("random", config="x.json"), "one or the other"),
    ],
)
def test_bad_settings_are_refused_before_a_model_is_loaded(settings: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings.check()


def test_a_saved_configuration_stands_for_everything(tmp_path: Path) -> None:
    file = vtc.Config([{"method": "random", "keep": 7}, {"method": "divprune", "keep": 0.5}]).save(tmp_path / "c.json")
    methods = Settings(config=str(file)).check().choice()
    assert [(m.name, m.keep) for m in methods] == [("random", 7), ("divprune", 0.5)]
