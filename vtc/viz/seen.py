"""What part of a picture the model sees."""

from __future__ import annotations

from typing import Any

from PIL import Image


def seen(image: Image.Image, processor: Any) -> Image.Image:
    """Cut a picture to what a processor with a centre crop (CLIP, LLaVA 1.5) lets the model see.

    Parameters
    ----------
    image : PIL.Image.Image
    processor : transformers processor
        One without a centre crop, or one that cuts tiles, leaves the picture as it is.
    """
    settings = getattr(processor, "image_processor", processor)
    short = (getattr(settings, "size", None) or {}).get("shortest_edge")
    tiled = getattr(settings, "image_grid_pinpoints", None)  # the crop acts on tiles that have its size already
    if tiled or not getattr(settings, "do_center_crop", False) or not short:
        return image
    scale = min(image.size) / short
    width = min(image.width, round(settings.crop_size["width"] * scale))
    height = min(image.height, round(settings.crop_size["height"] * scale))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
