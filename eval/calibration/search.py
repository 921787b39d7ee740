"""``vtc calibrate``: find VFlowOpt's ratios, threshold, entropy weight and cell for a model and a budget."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vtc.config import Config
from vtc.core.words import shown
from vtc.engine.handle import Handle
from vtc.eval.calibration.flow import Flow, Sample
from vtc.eval.calibration.study import Bounds, Study
from vtc.methods.vflowopt import VFlowOpt
from vtc.methods.vflowopt.ratios import Ratios, mean_share, solve_first, solve_last

TOLERANCE = 0.005


@dataclass
class Calibration:
    """What a search found.

    Attributes
    ----------
    method : VFlowOpt
    value, default : float
        Mean cosine of the best point, and of the untuned parameters, which are the first trial.
    trials : list of dict
    """

    method: VFlowOpt
    value: float
    default: float
    trials: list[dict[str, Any]]

    @property
    def config(self) -> Config:
        """What :func:`vtc.load` reads and :func:`vtc.patch` takes."""
        return Config([self.method.to_dict()])


def default_bounds(keep: float, entropy: bool = True) -> dict[str, tuple[float, float]]:
    """Box of the search for a budget; without ``entropy`` alpha is fixed at 0."""
    first, alpha = (keep, min(1.0, 1.5 * keep)), (-1.0, 1.0) if entropy else (0.0, 0.0)
    return {"r1": first, "r2": (0.53, 1.0), "t": (0.0, 50.0), "cell": (3.0, 24.0), "alpha": alpha}


def calibrate(
    model: nn.Module,
    samples: Sequence[Sample],
    keep: float = 0.25,
    *,
    processor: Any = None,
    iterations: int = 50,
    initial: int = 15,
    seed: int = 42,
    bounds: Bounds | None = None,
    study: str | Path | None = None,
    progress: bool | None = None,
    stop: Callable[[int], bool] | None = None,
) -> Calibration:
    """Maximise the mean cosine of the last prompt token's final state with and without pruning.

    The point is ``(r1, r2, t, cell, alpha)``; r3 follows from the budget. Points whose budget misses ``keep`` by more
    than 0.5 % are penalised and cost no forward. The first point is the untuned one. Under ``accelerate launch`` the
    samples are shared between the processes, and the result is that of one process.

    Parameters
    ----------
    model : nn.Module
        Not patched, in eval mode.
    samples : sequence of dict
        Inputs of one prompt each, without labels.
    keep : float
        Budget: mean share of the visual tokens over the decoder layers.
    processor : optional
        The model's processor, whose mean and standard deviation restore the pixels whose entropy alpha weighs.
        Without it alpha stays 0.
    iterations, initial, seed : int
        Trials in all, random ones at the start, seed of the proposals.
    bounds : dict, optional
        Replaces entries of :func:`default_bounds`; equal bounds fix a value.
    study : path, optional
        JSON file of the trials; an interrupted search goes on from it and ends as if it had not been interrupted.
    progress : bool, optional
        Progress bar; default: on a terminal.
    stop : callable, optional
        Asked with the number of trials before each one; True ends the search early.

    Raises
    ------
    ValueError
        No samples, a budget that is no share below 1, a decoder without three thirds, another search's file.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object
    from tqdm import tqdm

    check_budget(keep)
    if not samples:
        raise ValueError("No samples: pass at least one prompt with an image (30 are usual).")
    box = {**default_bounds(keep, processor is not None), **(bounds or {})}
    layers = _layers(model, keep)
    state = PartialState()
    settings = {"keep": keep, "model": type(model).__name__, "layers": layers, "samples": _digest(samples)}
    search = Study(box, seed, initial, None if study is None else Path(study), settings)
    state.wait_for_everyone()  # nobody writes before all have read
    mine = range(state.process_index, len(samples), state.num_processes)
    flow = Flow(model, [samples[i] for i in mine], processor) if len(search.trials) < iterations else None
    quiet = not state.is_main_process or not (sys.stderr.isatty() if progress is None else progress)
    with tqdm(total=iterations, initial=len(search.trials), disable=quiet, desc="calibrate") as bar:
        while flow is not None and len(search.trials) < iterations and not (stop and stop(len(search.trials))):
            point = search.propose() if search.trials else _start(keep, layers, box)
            ratios, penalty = spend(point["r1"], point["r2"], keep, layers)
            value = penalty
            if penalty == 0.0:
                pairs = gather_object(list(zip(mine, flow.cosines(_method(keep, point, ratios)), strict=True)))
                value = sum(cosine for _, cosine in sorted(pairs)) / len(samples)
            search.tell(point, value, state.is_main_process, r3=ratios.r3, feasible=penalty == 0.0)
            bar.update()
            bar.set_postfix(best=f"{search.best['value']:.4f}")
    best = search.best
    found = _method(keep, best["point"], Ratios(best["point"]["r1"], best["point"]["r2"], best["r3"]))
    return Calibration(found, best["value"], search.trials[0]["value"], search.trials)


def check_budget(keep: float) -> None:
    """Raise a ValueError unless ``keep`` is a share below 1."""
    if not isinstance(keep, float) or not 0.0 < keep < 1.0:
        raise ValueError(f"keep={shown(keep)} is not allowed: a budget is a share between 0 and 1, such as 0.25.")


def spend(r1: float, r2: float, keep: float, layers: int) -> tuple[Ratios, float]:
    """Ratios with the third solved from the budget, and a negative penalty where the budget is missed (else 0)."""
    r3 = solve_last(r1, r2, keep, layers)
    ratios = Ratios(r1, r2, min(1.0, max(r3, 0.0)))
    off = abs(mean_share(ratios, layers) - keep)
    return ratios, -off / keep if r3 <= 0 or off > TOLERANCE else 0.0


def _method(keep: float, point: dict[str, float], ratios: Ratios) -> VFlowOpt:
    return VFlowOpt(
        keep=keep,
        t=point["t"],
        alpha=point["alpha"],
        cell=point["cell"],
        r1=min(1.0, ratios.r1),
        r2=ratios.r2,
        r3=ratios.r3,
    )


def _start(keep: float, layers: int, box: Bounds) -> dict[str, float]:
    """The untuned parameters, brought into the box."""
    ratios = solve_first(keep, 1.0, 0.6, layers)
    point = {"r1": ratios.r1, "r2": ratios.r2, "t": 5.0, "cell": 16.0, "alpha": 0.0}
    return {name: min(max(point[name], low), high) for name, (low, high) in box.items()}


def _layers(model: nn.Module, keep: float) -> int:
    """Decoder layers; patching for a moment tells whether the method can run on the model at all."""
    import vtc

    handle: Handle
    with vtc.patched(model, VFlowOpt(keep=keep)) as handle:
        stages, layers = handle.methods[0].stages(handle.facts), handle.facts.decoder_layers
    if len(stages) < 3:
        raise ValueError(
            f"{type(model).__name__} has {layers} decoder layers that VFlowOpt cannot cut in (fewer than 3, or linear "
            "attention): there are no ratios to search."
        )
    return layers


def _digest(samples: Sequence[Sample]) -> str:
    """Short fingerprint of the prompts."""
    known = hashlib.sha256()
    for inputs in samples:
        known.update(inputs["input_ids"].cpu().numpy().tobytes())
    return f"{len(samples)}:{known.hexdigest()[:16]}"
