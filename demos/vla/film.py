"""A film of one episode under several settings: the tokens each of them kept, drawn on every frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vtc import viz
from vtc.viz.sheet import lay_out

from .comparison import pruned
from .env import PickPlaceEnv
from .model import Policy
from .rollout import act

SIZE = 384
HOLD = 4
"""Frames the end stays on screen."""


def frames_of(policy: Policy, method: str, keep: float, seed: int) -> tuple[str, list[Image.Image], bool]:
    """Instruction, one picture per policy call and one of the end, and whether it was a success."""
    env = PickPlaceEnv(render_mode="rgb_array", size=SIZE)
    observation, _ = env.reset(seed=seed)
    frames: list[Image.Image] = []
    over, info = False, {"success": False}
    with pruned(policy, method, keep) as handle:
        while not over:
            picture = Image.fromarray(env.render())
            actions = act(policy, _batched(observation))
            assert handle.last is not None
            frames.append(viz.overlay(picture, handle.last.images[0], legend=False))
            observation, _, done, cut, info = env.step(actions[0])
            over = done or cut
    frames.append(Image.fromarray(env.render()))
    return env.task.text, frames, info["success"]


def _batched(observation: dict[str, Any]) -> dict[str, Any]:
    return {"image": observation["image"][None], "instruction": (observation["instruction"],)}


def write_film(path: Path, policy: Policy, settings: Sequence[tuple[str, float]], seed: int) -> None:
    """Write a GIF of one episode, settings (method, keep) side by side; each stops where it ends."""
    films = [frames_of(policy, method, keep, seed) for method, keep in settings]
    count = max(len(frames) for _, frames, _ in films) + HOLD
    sheets = []
    for i in range(count):
        captions, pictures = [], []
        for (method, keep), (_, frames, success) in zip(settings, films, strict=True):
            at = min(i, len(frames) - 1)
            name = "all tokens" if keep == 1 else f"{method} {100 * keep:.3g} %"
            end = "" if at < len(frames) - 1 else ": done" if success else ": failed"
            captions.append(name + end)
            pictures.append(frames[at])
        sheets.append(lay_out(pictures, len(pictures), captions).convert("RGB"))
    small = [sheet.quantize(64, dither=Image.Dither.NONE) for sheet in sheets]
    path.parent.mkdir(parents=True, exist_ok=True)
    small[0].save(path, save_all=True, append_images=small[1:], duration=350, loop=0, optimize=True)
