"""How the rows of a vision tower become feature rows: one :class:`Geometry` per modality of a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from vtc.core.layout import Unit
from vtc.core.stage import Need

from ._paths import follow
from ._records import REMEDY, Encoder, EncodeRecord, FeatureCall, FrameSeam


@dataclass(frozen=True, repr=False)
class Geometry:
    """How encoder patches become feature rows; a family declares one per modality, with its options.

    Parameters
    ----------
    kept_by : str
        Argument of the base model with a flag per feature row or per image: rows whose flag is off are encoded and do
        not enter the prompt. Empty: all do.
    """

    kept_by: str = field(default="", kw_only=True)

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Geometry of every image or video of a feature call, in feature order."""
        raise NotImplementedError

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """Rows of the tower, flattened over the batch, that make each feature row: LongTensor [rows, m].

        -1 in all m places: a row without a patch (newline). ``call.shape`` is known.

        Raises
        ------
        ValueError
            Feature rows are not made of whole patches; the message says why.
        """
        raise NotImplementedError

    def index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """:meth:`patch_index`, checked.

        Raises
        ------
        ValueError
            It names rows the tower does not have.
        """
        index, (crops, width) = self.patch_index(encoder, call), call.patches
        if index.numel() and int(index.max()) >= crops * width:
            raise ValueError(
                f"{self!r} of family {encoder.family!r} names row {int(index.max())} of the tower, which has {crops} x "
                f"{width}: it is not the geometry of this model.{REMEDY}"
            )
        return index

    def keeps_class(self, encoder: Encoder, call: FeatureCall) -> bool:
        """True when [CLS] is one of the features."""
        return encoder.full(call)

    def cut(self, encoder: Encoder, call: FeatureCall) -> int:
        """Rows of the tower at the start of every crop that are no feature: 1 for a [CLS] that goes, else 0."""
        return int(encoder.has_class_token and not self.keeps_class(encoder, call))

    def lengths(self, encoder: Encoder, call: FeatureCall) -> list[int]:
        """Feature rows of every image or video; before the features exist, from the shape of the tower's rows."""
        if call.output is not None:
            return [f.reshape(-1, f.shape[-1]).shape[0] for f in call.output.pooler_output]
        crops = call.patches[0]
        return [self.patch_index(encoder, call).shape[0] // crops] * crops

    def merges(self, encoder: Encoder, call: FeatureCall) -> list[int]:
        """Side of the merge groups of every image, in patches, where the tower takes packed patches.

        Raises
        ------
        ValueError
            It takes pictures.
        """
        raise ValueError(
            f"Family {encoder.family!r}: vtc does not know how its patches are packed, so they cannot be turned back "
            "into pictures. Rate the frames yourself and pass frame_scores=... ."
        )

    def carry(self, encoder: Encoder, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Statistic of the encoder's patches as one value per feature row ``[rows]``, NaN for a [CLS] row.

        Parameters
        ----------
        raw : list of Tensor [images, patches]
            Results of the kernel calls, in call order; some lack the column of [CLS] (``need.statistic.class_column``).

        Raises
        ------
        ValueError
            The family's features do not correspond to patches one to one.
        """
        if encoder.has_class_token and not need.statistic.class_column:
            raw = [torch.cat([r.new_full((r.shape[0], 1), torch.nan), r], 1) for r in raw]
        same = len({r.shape[-1] for r in raw}) == 1
        batch = sum(r.shape[0] for r in raw) if same else 1
        flat = torch.cat([r.reshape(-1) for r in raw])
        placed = FeatureCall(call.modality, call.kwargs, call.output, (batch, flat.numel() // batch))
        index, rows = self.index(encoder, placed), sum(self.lengths(encoder, call))
        if index.shape[0] != rows:
            raise ValueError(
                f"Family {encoder.family!r}: {flat.numel()} encoder patches became {rows} feature rows, and its "
                f"adapter does not know how; {need.stat!r} of layer {need.layer} cannot be carried over. Use a method "
                "that needs no encoder attention, or pass adapter= with a geometry of its own (docs/write-a-family.md)."
            )
        index = index.to(flat.device)
        return flat[index.clamp_min(0)].mean(-1).masked_fill(index[:, 0] < 0, torch.nan)

    def patches_of(self, encoder: Encoder, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Statistic of the patches that may become features, [CLS] cut: [crops, N]."""
        cut = self.cut(encoder, call) if need.statistic.class_column else 0
        return torch.cat([r[:, cut:] for r in raw])

    def part_stats(self, encoder: Encoder, call: FeatureCall, need: Need, raw: list[Tensor]) -> list[list[Tensor]]:
        """Statistic of every partition before packing, per unit, for families whose packing drops patches; else []."""
        return []

    def pixels(self, encoder: Encoder, call: FeatureCall) -> list[Tensor]:
        """Normalised pixels behind every patch, per crop: list of [N, 3, pixels].

        Raises
        ------
        ValueError
            The family's pixels do not come as crops of one size.
        """
        pixels, side = call.kwargs.get("pixel_values"), follow(encoder.tower, "config.patch_size")
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or not isinstance(side, int):
            raise ValueError(f"Family {encoder.family!r}: cannot tell which pixels lie behind a patch.")
        patches = torch.nn.functional.unfold(pixels.float(), side, stride=side)  # [B, 3 * side^2, N]
        return list(patches.transpose(1, 2).unflatten(2, (3, side * side)))

    def place_pixels(self, encoder: Encoder, call: FeatureCall, need: Need, values: list[Tensor]) -> Tensor:
        """Values made of :meth:`pixels`, one [N] per crop, as one value per feature row."""
        return self.carry(encoder, call, need, [v[None] for v in values])

    def seam(self, encoder: Encoder) -> FrameSeam | None:
        """Where to read video frames before the model's own pooling; None: it does not pool, or not readably."""
        return None

    def scattered(self, record: EncodeRecord, inputs: Mapping[str, Any]) -> EncodeRecord:
        """Rows of ``record`` that the base model, called with ``inputs``, puts into the prompt.

        Raises
        ------
        ValueError
            The flags fit neither the rows nor the images.
        """
        given = inputs.get(self.kept_by) if self.kept_by else None
        if given is None:
            return record
        flags, lengths = torch.as_tensor(given).flatten().bool().cpu(), [u.length for u in record.units]
        if len(flags) == len(lengths):
            flags = flags.repeat_interleave(torch.tensor(lengths))
        if len(flags) != record.rows:
            raise ValueError(
                f"{self.kept_by} has {len(flags)} flags, and {len(lengths)} {record.modality}s of {record.rows} tokens "
                "were encoded: pass one flag for each of them, as the processor does."
            )
        return record.subset(flags)

    def __repr__(self) -> str:
        """Name, and the options that are not the defaults."""
        told = ((f, getattr(self, f.name)) for f in fields(self))
        changed = [f"{f.name}={value!r}" for f, value in told if value != f.default and value != {}]
        return f"{type(self).__name__}({', '.join(changed)})"


__all__ = ["EncodeRecord", "Encoder", "FeatureCall", "FrameSeam", "Geometry"]
