"""GLM-4.1V: images and video behind the same placeholder, M-RoPE, a convolution that merges 2 x 2 patches."""

from __future__ import annotations

from typing import Any, ClassVar

from ._grid import GridAdapter


class Glm4vAdapter(GridAdapter):
    """A call holds images or videos, not both: the model itself cannot tell them apart."""

    family: ClassVar[str] = "glm4v"
    model_types: ClassVar[tuple[str, ...]] = ("glm4v",)
    notes: ClassVar[str] = "images or video (one placeholder for both), M-RoPE"

    def token_ids(self, model: Any) -> dict[str, int]:
        """Videos use the image placeholder, too."""
        token = int(model.config.image_token_id)
        return {"image": token, "video": token}
