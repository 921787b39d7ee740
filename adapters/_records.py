"""What travels between the engine and a geometry: a feature call, the encoder it runs on, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from vtc.core.layout import Unit
from vtc.core.stage import FrameGrids, Need

from ._paths import follow

REMEDY = " Leave adapter= out, or declare another geometry (docs/write-a-family.md)."
"""What to do where a geometry and a model do not belong together."""


@dataclass
class FeatureCall:
    """One call of ``get_image_features`` or ``get_video_features``.

    ``kwargs`` are its arguments by name; ``output`` is None while the tower still runs; ``shape`` is
    (batch, patches) of the tower's hidden states.
    """

    modality: str
    kwargs: Mapping[str, Any]
    output: Any = None
    shape: tuple[int, int] | None = None

    @property
    def pixels(self) -> Tensor:
        """Pixel values; older releases of transformers name those of videos as those of images."""
        found = self.kwargs.get("pixel_values_videos") if self.modality == "video" else None
        return self.argument("pixel_values") if found is None else found

    @property
    def patches(self) -> tuple[int, int]:
        """Batch and patches of the tower's hidden states."""
        if self.shape is None:
            raise ValueError(f"The tower has not run for these {self.modality}s yet, so its patches are not known.")
        return self.shape

    def argument(self, name: str) -> Any:
        """Return an argument the geometry cannot do without.

        Raises
        ------
        ValueError
            The call came without it.
        """
        found = self.kwargs.get(name)
        if found is None:
            got = ", ".join(sorted(k for k, v in self.kwargs.items() if v is not None)) or "nothing"
            raise ValueError(
                f"get_{self.modality}_features was called without {name}, which tells where patches lie in this "
                f"family; it got {got}. Pass all that the processor returns, or patch with the adapter of another "
                "family (adapter=)."
            )
        return found


@dataclass
class EncodeRecord:
    """What one feature call tells the decoder side; it travels on the output object.

    ``stats`` hold one value per feature row (``[rows]`` fp32, NaN where a row has no patch).
    """

    modality: str
    units: list[Unit]
    stats: dict[Need, Tensor] = field(default_factory=dict)
    seconds: Any = None
    alive: Tensor | None = None
    """Bool [rows]: what an encoder stage left, None when there was none."""
    frames: FrameGrids | None = None
    """All frames of the call before pooling, where a stage asked for them."""

    @property
    def rows(self) -> int:
        """Feature rows in total."""
        return sum(u.length for u in self.units)

    def subset(self, keep: Tensor) -> EncodeRecord:
        """Record of the rows where ``keep`` (bool [rows], CPU) is true; emptied units vanish."""
        pieces = keep.split([u.length for u in self.units])
        units = [u.subset(k) for u, k in zip(self.units, pieces, strict=True) if bool(k.any())]
        stats = {need: values[keep.to(values.device)] for need, values in self.stats.items()}
        alive = None if self.alive is None else self.alive[keep.to(self.alive.device)]
        return EncodeRecord(self.modality, units, stats, self.seconds, alive)


@dataclass(frozen=True)
class FrameSeam:
    """Where the frames of videos can be read before the model pools them.

    Parameters
    ----------
    module : nn.Module
        Runs once per video call.
    takes : {"input", "output"}
        Which side of it holds the frames ``[T, H * W, C]``.
    grid, pooling, finish
        See :class:`~vtc.core.stage.FrameGrids`.
    """

    module: nn.Module
    takes: Literal["input", "output"]
    grid: tuple[int, int]
    pooling: Literal["bilinear", "average"]
    finish: Callable[[Tensor], Tensor]

    def grids(self, rows: Tensor) -> FrameGrids:
        """Frames that passed."""
        return FrameGrids(rows, self.grid, self.pooling, self.finish)


@dataclass(frozen=True)
class Encoder:
    """The seeing part of one model, as its geometries read it.

    Parameters
    ----------
    family : str
        For messages.
    config : PretrainedConfig
        Of the vision-language model; ``vision_config`` hangs below it.
    base, tower : nn.Module
        Model without its head; vision tower of the modality.
    has_class_token : bool
        The tower prepends a [CLS] token.
    """

    family: str
    config: Any
    base: Any
    tower: Any
    has_class_token: bool

    @property
    def side(self) -> int:
        """Patches per side of a square crop."""
        return self.image_size // self.patch_size

    @property
    def image_size(self) -> int:
        """Pixels per side of a square crop."""
        return self._of_config("vision_config.image_size")

    @property
    def patch_size(self) -> int:
        """Pixels per side of a patch."""
        return self._of_config("vision_config.patch_size")

    def number(self, source: float | str) -> float:
        """Return a number, or the field of the configuration that holds it (a dotted path)."""
        return self._of_config(source) if isinstance(source, str) else source

    def of_tower(self, path: str) -> Any:
        """Return an attribute of the vision tower.

        Raises
        ------
        ValueError
            The tower, or the attribute, is not there.
        """
        found = follow(self.tower, path)
        if found is None:
            tower = "no vision tower" if self.tower is None else f"a {type(self.tower).__name__} without {path}"
            raise ValueError(
                f"The geometry of family {self.family!r} does not fit this model, which has {tower}.{REMEDY}"
            )
        return found

    def _of_config(self, path: str) -> Any:
        found = follow(self.config, path)
        found = found[0] if isinstance(found, (list, tuple)) and found else found  # height and width, which are equal
        if not isinstance(found, (int, float)):
            raise ValueError(
                f"The geometry of family {self.family!r} does not fit this model, whose configuration has no number "
                f"{path!r} (it has {found!r}).{REMEDY}"
            )
        return found

    def full(self, call: FeatureCall) -> bool:
        """True when the call keeps [CLS] among the features (``vision_feature_select_strategy="full"``)."""
        name = "vision_feature_select_strategy"
        chosen = call.kwargs.get(name) or getattr(self.config, name, None)
        return chosen == "full" and self.has_class_token
