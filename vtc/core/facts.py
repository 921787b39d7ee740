"""What is known of a model before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelFacts:
    """What a method may know about a model before it runs. Layers are 0-based.

    Parameters
    ----------
    family : str
    vision_layers : int
        Blocks of the vision tower (0: no tower found).
    feature_layer : int
        Block whose output becomes the features (the ``end`` of an ensemble of layers).
    has_class_token : bool
    global_layers : tuple of int
        Blocks whose attention spans a whole image (all but windowed ones).
    decoder_layers : int
    multimodal_rope : bool
        True for M-RoPE decoders, whose position ids have three rows.
    keeps_positions : bool
        Positions of later tokens are always those of the whole prompt: M-RoPE, and models that count them elsewhere.
    native_resolution : bool
        The encoder works at the resolution of the picture.
    modalities : tuple of str
        What the family takes: images, videos.
    linear_layers : tuple of int
        Decoder layers without per-token KV (linear attention).
    no_cuts : str
        Why tokens cannot be dropped between decoder layers; empty when they can.
    actions : {"generated", "placeholders", "expert"}
        What asks for actions: the last prompt token and the generated ones, placeholders at the end of the prompt
        that are read in one pass, or a second decoder that reads the first one's cache.
    """

    family: str = "generic"
    vision_layers: int = 0
    feature_layer: int = -1
    has_class_token: bool = False
    global_layers: tuple[int, ...] = ()
    decoder_layers: int = 0
    multimodal_rope: bool = False
    keeps_positions: bool = False
    native_resolution: bool = False
    modalities: tuple[str, ...] = ("image", "video")
    linear_layers: tuple[int, ...] = ()
    no_cuts: str = ""
    actions: Literal["generated", "placeholders", "expert"] = "generated"
