"""Pictures of any mode as 8-bit RGB: values scaled by what the file says their range is, never clipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .limits import Refused

if TYPE_CHECKING:
    from PIL.Image import Image

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
_SLACK = 1 + 1 / 512
_LEAST = 1 / 16
_ADVICE = "write it anew with 8 or 16 bits per value, or as floats from 0 to 1"


def as_rgb(image: Image) -> Image:
    """Convert a picture of any mode to 8-bit RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        16-bit, 32-bit and float values are scaled by :func:`eight_bit`; what is transparent shows white, as on paper.

    Returns
    -------
    PIL.Image.Image
        RGB; the same object where it was RGB without transparency.

    Raises
    ------
    ValueError
        Values whose range cannot be told, NaN or infinite ones.
    """
    image = eight_bit(image)
    if image.mode == "La":  # Pillow converts it to nothing else
        image = image.convert("LA")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("PA", "RGBa") or image.has_transparency_data:
        from PIL import Image as pillow

        image = image.convert("RGBA")
        paper = pillow.new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        image = paper
    return image.convert("RGB")


def upright(image: Image) -> Image:
    """Turn a picture as its EXIF orientation says, and make it RGB by :func:`as_rgb`.

    Processors ignore the orientation of a PIL image; give them this one, and :func:`vtc.viz.overlay` the same.
    """
    from PIL import ImageOps

    # a turned copy has lost what the file says about the range of its values
    return as_rgb(ImageOps.exif_transpose(eight_bit(image, keep_exif=True)))


def eight_bit(image: Image, keep_exif: bool = False) -> Image:
    """Scale a picture with more than 8 bits per value to 8 bits; others are returned as they are.

    Parameters
    ----------
    image : PIL.Image.Image
        Modes ``I;16``, ``I`` and ``F`` are scaled. 16-bit values use the whole range unless a TIFF names fewer bits;
        of 32-bit integers and floats the range is the smallest of 0 to 1 (floats only), 0 to 255 and 0 to 65535 that
        holds them.
    keep_exif : bool
        Carry the orientation over to the scaled picture.

    Raises
    ------
    ValueError
        Values that are NaN, infinite, negative, beyond 65535, or too small for the range they would be taken for.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    import numpy as np
    from PIL import Image as pillow

    values = np.asarray(image)
    tags: Any = getattr(image, "tag_v2", {})
    top = _declared(image, tags) or _range(values, floats=image.mode == "F")
    # one row after the other: the picture may be large
    levels = np.empty(values.shape, dtype=np.uint8)
    for row, out in zip(values, levels, strict=True):
        out[:] = np.clip(np.rint(row.astype(np.float64) * (255 / top)), 0, 255)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns these only where they have 8 bits
        levels = 255 - levels
    scaled = pillow.fromarray(levels)
    if keep_exif:
        scaled.info["exif"] = image.getexif().tobytes()
    return scaled


def _declared(image: Image, tags: Any) -> int | None:
    """Largest value the file can hold, None where it does not say."""
    if image.mode.startswith("I;16"):
        bits = tags.get(_BITS, (16,))[0]
        return (1 << bits) - 1 if bits <= 16 else 65535
    # Pillow reads 16-bit greys of these as 32-bit integers, scaled to 16 bits
    return 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _range(values: Any, floats: bool) -> int:
    low, high = float(values.min()), float(values.max())
    if not (low > -float("inf") and high < float("inf")):  # NaN as well
        raise Refused(f"Some values of the picture are NaN or infinite: replace them, then {_ADVICE}.")
    if low < 0:
        raise Refused(f"The picture holds negative values (down to {low:.4g}): {_ADVICE}.")
    for top in (1, 255, 65535) if floats else (255, 65535):
        if high <= top * _SLACK:
            if 0 < high < top * _LEAST and top > 1:
                break
            return top
    raise Refused(
        f"The values of the picture reach from {low:.4g} to {high:.4g}, which fits none of the ranges 0 to 1, 0 to 255 "
        f"and 0 to 65535: {_ADVICE}."
    )
