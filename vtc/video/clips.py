"""The clips of a call, before any encoder has run: which pixels belong to which frame of which row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vtc.adapters import FeatureCall

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ClipPixels:
    """Frames of one video, or the images of one row.

    Parameters
    ----------
    row : int
    modality : {"image", "video"}
    pixels : Tensor [T, ...] or [patches, C]
        One picture (or its crops) per frame, or packed patches where there is a ``grid``.
    grid : LongTensor [T, 3] or None
        Patches (1, h, w) of every frame.
    extra : dict of str to Tensor [T, ...]
        Further arguments per frame.
    """

    row: int
    modality: str
    pixels: Tensor
    grid: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """T; where the encoder joins frames, temporal patches."""
        return len(self.pixels) if self.grid is None else len(self.grid)

    def take(self, start: int, stop: int) -> dict[str, Tensor]:
        """Arguments of the model that make each of the frames ``start .. stop - 1`` an image or video of its own."""
        name = "pixel_values_videos" if self.modality == "video" else "pixel_values"
        out = {key: values[start:stop] for key, values in self.extra.items()}
        if self.grid is None:
            chosen = self.pixels[start:stop]
            return {name: chosen[:, None] if self.modality == "video" else chosen, **out}
        ends = torch.nn.functional.pad(self.grid.prod(1).cumsum(0), (1, 0)).tolist()
        return {
            name: self.pixels[ends[start] : ends[stop]],
            f"{self.modality}_grid_thw": self.grid[start:stop],
            **out,
        }

    def pictures(self, handle: Any, frame: int, processor: Any) -> list[Image]:
        """Pictures behind a frame, the processor's normalisation undone: one, or as many as a temporal patch joins."""
        images = getattr(processor, "image_processor", processor)
        images = (getattr(processor, "video_processor", None) or images) if self.modality == "video" else images
        chosen = self.take(frame, frame + 1)
        pixels = next(iter(chosen.values())).detach().float().cpu()
        if self.grid is None:
            flat = pixels.reshape(-1, *pixels.shape[-3:])[:1]  # of tiles, the view of the whole image comes first
        else:
            flat = _unpacked(handle, self.modality, chosen, pixels)
        return [_picture(p, images) for p in flat]


def find_clips(handle: Any, inputs: Mapping[str, Any]) -> list[ClipPixels]:
    """Clips of a call in order of rows and places: every video, and the images of every row without video.

    Raises
    ------
    ValueError
        The pixels are packed in a way this function does not know, or do not fit the placeholders.
    """
    clips, seen = [], set()
    for row, clip in sorted(_units(handle, inputs, "video"), key=lambda pair: pair[0]):
        clips.append(clip)
        seen.add(row)
    images: dict[int, list[ClipPixels]] = {}
    for row, clip in _units(handle, inputs, "image"):
        if row not in seen:
            images.setdefault(row, []).append(clip)
    clips += [_joined(parts) for parts in images.values()]
    return sorted(clips, key=lambda clip: clip.row)


def _units(handle: Any, inputs: Mapping[str, Any], modality: str) -> list[tuple[int, ClipPixels]]:
    """Images or videos of the call, each with its row."""
    pixels = inputs.get("pixel_values_videos" if modality == "video" else "pixel_values")
    if not isinstance(pixels, Tensor) or not len(pixels):
        return []
    grid = inputs.get(f"{modality}_grid_thw")
    if grid is None:
        if pixels.ndim not in ((5,) if modality == "video" else (4, 5)):
            raise ValueError(
                f"{modality.capitalize()}s of family {handle.adapter.family!r} come as {tuple(pixels.shape)}, and this "
                "scorer does not know where their frames lie. Rate the frames yourself and pass frame_scores=... ."
            )
        made = [ClipPixels(0, modality, p if modality == "video" else p[None]) for p in pixels]
    else:
        sizes = grid.prod(1).tolist()
        made = [ClipPixels(0, modality, p, _per_frame(g)) for p, g in zip(pixels.split(sizes), grid, strict=True)]
    for name in (f"{modality}_merge_sizes", f"{modality}_sizes"):
        if isinstance(inputs.get(name), Tensor):
            for clip, value in zip(made, inputs[name], strict=False):
                clip.extra[name] = value[None].repeat_interleave(clip.frames, 0)
    rows = _rows(handle, inputs, modality, made)
    return [(row, ClipPixels(row, modality, c.pixels, c.grid, c.extra)) for row, c in zip(rows, made, strict=True)]


def _per_frame(grid: Tensor) -> Tensor:
    frame = grid.clone()
    frame[0] = 1
    return frame[None].repeat_interleave(int(grid[0]), 0)


def _rows(handle: Any, inputs: Mapping[str, Any], modality: str, units: list[ClipPixels]) -> list[int]:
    """Row of every unit, from the placeholders; ``[0] * len(units)`` for a batch of one."""
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.shape[0] == 1:
        return [0] * len(units)
    places = ids == handle.adapter.token_ids(handle.model)[modality]
    counts = places.sum(1).tolist()
    if units[0].grid is not None:
        patches = [int(u.grid.prod(1).sum()) for u in units if u.grid is not None]
        scale = sum(patches) / max(1, sum(counts))
        sizes = [n / scale for n in patches]
    elif units[0].pixels.ndim == 5:
        # tiles: lengths differ, but every image is a run of its own
        starts = places & ~torch.nn.functional.pad(places, (1, 0))[:, :-1]
        counts, sizes = starts.sum(1).tolist(), [1.0] * len(units)
    else:
        sizes = [sum(counts) / len(units)] * len(units)
    return _dealt(counts, sizes, modality)


def _dealt(counts: list[int], sizes: list[float], modality: str) -> list[int]:
    rows, row, left = [], 0, list(map(float, counts))
    for size in sizes:
        while row < len(left) and left[row] < 0.5:
            row += 1
        if row == len(left) or left[row] < size - 0.5:
            raise ValueError(
                f"The {modality} placeholders of the rows ({counts}) do not fit the {len(sizes)} {modality}s of the "
                "batch: the prompts and the pixels do not belong together."
            )
        left[row] -= size
        rows.append(row)
    return rows


def _joined(parts: list[ClipPixels]) -> ClipPixels:
    first = parts[0]
    extra = {key: torch.cat([p.extra[key] for p in parts]) for key in first.extra}
    grid = None if first.grid is None else torch.cat([p.grid for p in parts if p.grid is not None])
    return ClipPixels(first.row, first.modality, torch.cat([p.pixels for p in parts]), grid, extra)


def _unpacked(handle: Any, modality: str, chosen: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Pictures [pictures, 3, H, W] of one frame's packed patches, which lie merge group by merge group."""
    adapter, model = handle.adapter, handle.model
    merge = adapter.geometry(modality).merges(adapter.encoder(model, modality), FeatureCall(modality, chosen))[0]
    side = adapter.tower(model, modality).config.patch_size
    _, h, w = chosen[f"{modality}_grid_thw"][0].tolist()
    patches = pixels.view(h // merge, w // merge, merge, merge, 3, -1, side, side)
    return patches.permute(5, 4, 0, 2, 6, 1, 3, 7).reshape(-1, 3, h * side, w * side)


def _picture(pixels: Tensor, processor: Any) -> Image:
    from PIL import Image

    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    if mean is None or std is None:
        raise ValueError(
            f"{type(processor).__name__} has no image_mean and image_std, so pixels cannot be shown to it."
        )
    shape = (3, 1, 1)
    levels = (pixels * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)) * 255
    return Image.fromarray(levels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())
