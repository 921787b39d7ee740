"""Time and extra memory of the selectors themselves, without a model."""

from __future__ import annotations

import ctypes
import gc
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtc.core.layout import Unit
from vtc.core.stage import ModelFacts, Need, Stage, View
from vtc.methods import make_method

SELECTORS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "pool": {"method": "pool"},
    "vtc-cls": {"method": "vtc-cls"},
    "hired": {"method": "hired"},
    "visionzip": {"method": "visionzip"},
    "vflowopt": {"method": "vflowopt"},
    "todre": {"method": "todre"},
    "todre k_center": {"method": "todre", "objective": "k_center"},
    "divprune": {"method": "divprune"},
    "divprune centered": {"method": "divprune", "geometry": "centered"},
    "vidcom2": {"method": "vidcom2"},
}
"""What is measured: label -> method and its options."""

# a native-resolution model with [CLS]: every selector can run, and vflowopt recycles
_FACTS = ModelFacts("bench", 24, 22, True, tuple(range(24)), 32, True)


def run(
    sizes: Sequence[int] = (576, 2304, 2880, 16384),
    dims: Sequence[int] = (1024,),
    keeps: Sequence[float] = (0.1, 0.25),
    repeats: int = 3,
    selectors: Sequence[str] | None = None,
    device: str = "cpu",
    scatter: float = 0.5,
    frames: int = 1,
) -> list[dict[str, Any]]:
    """Measure every selector on one synthetic image or video per size.

    Parameters
    ----------
    sizes, dims : sequence of int
        Tokens N and width D of their features.
    keeps : sequence of float
    repeats : int
        Timed calls after one warm-up.
    selectors : sequence of str or None
        Labels of :data:`SELECTORS`; None: all.
    device : str
    scatter : float
        Spread of the tokens around 40 directions; from about 3 on they are plain Gaussian, which is hardest.
    frames : int
        1: an image. More: a video of so many frames, which the sizes are multiples of.

    Returns
    -------
    list of dict
        ``selector``, ``n``, ``d``, ``keep``, ``kept``, ``ms`` (median), ``ms_min``, ``extra_mib`` (peak above
        what was held before the call; None where the system does not tell), ``device``, ``threads``.

    Raises
    ------
    ValueError
        Unknown label.
    """
    labels = list(SELECTORS) if selectors is None else list(selectors)
    unknown = [label for label in labels if label not in SELECTORS]
    if unknown:
        raise ValueError(f"Unknown selector {unknown[0]!r}; choose from {', '.join(SELECTORS)}.")
    rows = []
    for n in sizes:
        for d in dims:
            features = synthetic_features(n, d, scatter).to(device)
            for keep in keeps:
                rows += [_row(label, features, keep, repeats, frames) for label in labels]
    return rows


def synthetic_features(n: int, d: int, scatter: float = 0.5) -> Tensor:
    """Tokens around 40 directions with a large common component, as projected tokens have, fp32 [n, d]."""
    generator = torch.Generator().manual_seed(n)
    centres = torch.randn(40, d, generator=generator)
    noise = scatter * torch.randn(n, d, generator=generator)
    return centres[torch.randint(40, (n,), generator=generator)] + noise + torch.randn(d, generator=generator)


def _row(label: str, features: Tensor, keep: float, repeats: int, frames: int) -> dict[str, Any]:
    options = dict(SELECTORS[label])
    # cuts inside the language model are not measured here: the first stage is the one before it
    stage = make_method(options.pop("method"), keep=keep, **options).stages(_FACTS)[0]
    view = _view(stage, features, frames)
    extra = peak_extra(lambda: stage.select(view), features.device)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        kept = len(stage.select(view).keep)
        if features.is_cuda:
            torch.cuda.synchronize(features.device)
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    return {
        "selector": label,
        "n": features.shape[0],
        "d": features.shape[1],
        "keep": keep,
        "kept": kept,
        "ms": times[len(times) // 2],
        "ms_min": times[0],
        "extra_mib": None if extra is None else extra / 2**20,
        "device": str(features.device),
        "threads": torch.get_num_threads(),
    }


def _view(stage: Stage, features: Tensor, frames: int = 1) -> View:
    n, device = features.shape[0], features.device
    if n % frames:
        raise ValueError(
            f"{n} tokens cannot be {frames} frames of equal size; pass sizes that are multiples of {frames}."
        )
    size = n // frames
    height = max(h for h in range(1, math.isqrt(size) + 1) if size % h == 0)
    unit = Unit("image" if frames == 1 else "video", n, (frames, height, size // height)).filled()
    assert unit.part is not None and unit.cell is not None and unit.role is not None
    generator = torch.Generator().manual_seed(1)
    stats: dict[Need, Tensor] = {
        need: torch.randn(n, generator=generator).softmax(0).to(device) for need in stage.needs
    }
    return View(
        features=features,
        unit=torch.zeros(n, dtype=torch.long, device=device),
        part=unit.part.to(device),
        cell=unit.cell.to(device),
        role=unit.role.to(device),
        units=[unit],
        keep_count=stage.keep_count,
        stats=stats,
    )


def peak_extra(call: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes held at the peak of ``call`` above those held before it; None where this cannot be told.

    On the CPU that is resident memory (Linux), matrix library included; on a GPU the allocator's own count.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not refs.exists():
        call()
        return None
    gc.collect()
    # memory the allocator holds back would hide what the call asks for
    ctypes.CDLL(None).malloc_trim(0)
    refs.write_text("5")
    before = _kib(status, "VmRSS")
    call()
    return max(0, _kib(status, "VmHWM") - before) * 1024


def _kib(status: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return int(found.group(1)) if found else 0
