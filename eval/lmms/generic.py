"""A base for families without a class in lmms-eval: Auto classes and the processor's own chat template."""

from __future__ import annotations

from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from tqdm import tqdm

from vtc.core.fields import fit
from vtc.media import Spread, eight_bit, read_film
from vtc.pretrained import from_pretrained

DEFAULTS = {"max_new_tokens": 128, "num_beams": 1}


class Generic(lmms):
    """Chat model through ``AutoModelForImageTextToText`` and ``AutoProcessor``.

    Parameters
    ----------
    pretrained : str
        Folder or model id.
    device : str
        ``"cuda"``, ``"cpu"``, ...; with several processes each takes the GPU of its local rank.
    device_map : str
        For ``from_pretrained``, such as ``"auto"``; empty: everything on ``device``.
    dtype : str
        ``"auto"`` or the name of a torch dtype.
    batch_size : int
        Questions per call of ``generate``.
    attn_implementation, revision, trust_remote_code
        As in ``from_pretrained``.
    max_frames : int
        Frames taken of a video, evenly spread.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        device: str = "cuda",
        device_map: str = "",
        dtype: str = "auto",
        batch_size: int | str = 1,
        attn_implementation: str | None = None,
        revision: str = "main",
        trust_remote_code: bool = False,
        max_frames: int = 32,
    ) -> None:
        super().__init__()
        from accelerate import Accelerator
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.accelerator = Accelerator()
        spread = self.accelerator.num_processes > 1 and device.startswith("cuda")
        self.device = torch.device(f"cuda:{self.accelerator.local_process_index}" if spread else device)
        passed = {"revision": revision, "trust_remote_code": fit("trust_remote_code", trust_remote_code, bool)}
        kind = dtype if dtype == "auto" else getattr(torch, dtype)
        self._model = from_pretrained(
            AutoModelForImageTextToText,
            pretrained,
            dtype=kind,
            attn_implementation=attn_implementation,
            device_map=None if spread or device_map in ("", "cpu") else device_map,
            **passed,
        ).eval()
        if spread or device_map in ("", "cpu"):
            self._model.to(self.device)
        self.processor = from_pretrained(AutoProcessor, pretrained, **passed)
        self.batch_size, self.max_frames = int(batch_size), max_frames

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def config(self) -> Any:
        """Configuration of the model."""
        return self._model.config

    def generate_until(self, requests: list[Any]) -> list[GenerationResult]:
        """Answer in batches of requests with equal generation arguments."""
        answers: list[Any] = [None] * len(requests)
        bar = tqdm(total=len(requests), disable=self.rank != 0, desc="Model Responding")
        for indices in _batches(requests, self.batch_size):
            for index, answer in zip(indices, self._answer([requests[i].args for i in indices]), strict=True):
                answers[index] = answer
            bar.update(len(indices))
        bar.close()
        return answers

    def _answer(self, batch: list[tuple]) -> list[GenerationResult]:
        prompts, images, videos = [], [], []
        for _, to_messages, _, doc_id, task, part in batch:
            messages = ChatMessages(messages=to_messages(self.task_dict[task][part][doc_id]))
            pictures, clips, _ = messages.extract_media()
            # alpha is dropped as in lmms-eval's own classes, so that answers stay comparable
            images += [eight_bit(picture).convert("RGB") for picture in pictures]
            videos += [read_video(clip, self.max_frames) for clip in clips]
            prompts.append(self._prompt(messages))
        inputs = self.processor(
            text=prompts,
            images=images or None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            **_video_arguments(videos),
        ).to(self.device, self._model.dtype)
        out = self._model.generate(**inputs, **_generation(batch[0][2]))
        new = out[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(new, skip_special_tokens=True)
        return [GenerationResult(text, TokenCounts(output_tokens=new.shape[1])) for text in texts]

    def _prompt(self, messages: ChatMessages) -> str:
        turns = [{"role": m.role, "content": [_placeholder(part) for part in m.content]} for m in messages.messages]
        return self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Refuse: multiple choice by likelihood is not offered."""
        raise NotImplementedError("The generic base answers by generating; it has no loglikelihood.")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Refuse: tasks of several rounds are not offered."""
        raise NotImplementedError("The generic base has no tasks of several rounds.")


def _batches(requests: list[Any], size: int) -> list[list[int]]:
    """Positions of requests, ``size`` at a time, split where the generation arguments change."""
    batches: list[list[int]] = []
    last = None
    for index, request in enumerate(requests):
        wanted = request.args[2]
        if not batches or wanted != last or len(batches[-1]) == size:
            batches.append([])
        batches[-1].append(index)
        last = wanted
    return batches


def _generation(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments for ``generate``: greedy unless the task asks for a temperature."""
    wanted = {**DEFAULTS, **{k: v for k, v in given.items() if k not in ("until", "do_sample")}}
    heat = wanted.pop("temperature", None) or 0
    if heat > 0:
        return {**wanted, "do_sample": True, "temperature": heat}
    return {**{k: v for k, v in wanted.items() if k not in ("top_p", "top_k")}, "do_sample": False}


def _placeholder(part: Any) -> dict[str, str]:
    return {"type": "text", "text": part.text} if part.type == "text" else {"type": part.type}


def _video_arguments(videos: list[tuple[Any, float]]) -> dict[str, Any]:
    if not videos:
        return {}
    facts = [{"fps": rate, "total_num_frames": len(frames)} for frames, rate in videos]
    return {"videos": [frames for frames, _ in videos], "video_metadata": facts}


def read_video(path: str, most: int) -> tuple[Any, float]:
    """Evenly spread frames of a video file, uint8 [T, H, W, 3], and how many of them make a second."""
    import numpy as np

    film = read_film(path, Spread(int(most), repeat=False))
    return np.stack([np.asarray(frame) for frame in film.frames]), film.fps * len(film.frames) / film.total
