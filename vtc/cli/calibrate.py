"""``vtc calibrate``: search VFlowOpt's parameters for a model and a budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vtc.files import file_to_write

from .values import MOST


def calibrate(
    model: Annotated[str, typer.Option(help="Embedded name, folder or Hub id.")],
    data: Annotated[Path, typer.Option(help='JSON lines {"image": path, "question": text}, or a folder with them.')],
    out: Annotated[Path, typer.Option(help="Configuration to write; the trials go beside it.")] = Path("vflowopt.json"),
    keep: Annotated[float, typer.Option(help="Budget: mean share of visual tokens over the layers.")] = 0.25,
    iterations: Annotated[int, typer.Option(min=1, max=MOST, help="Trials in all.")] = 50,
    initial: Annotated[int, typer.Option(min=1, max=MOST, help="Random trials at the start.")] = 15,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="Samples to use.")] = 30,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Seed of the proposals.")] = 42,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Find VFlowOpt's ratios, threshold, entropy weight and cell; run again to go on after an interruption.

    Several processes share the samples under `accelerate launch` or `torchrun`.
    """
    from vtc.eval.calibration.samples import prepare, read_samples
    from vtc.eval.calibration.search import calibrate as search
    from vtc.eval.calibration.search import check_budget

    from .loading import load

    check_budget(keep)
    file_to_write(out, "configuration")
    trials = file_to_write(out.with_suffix(".trials.json"), "trials")
    samples = read_samples(data, limit)
    loaded = load(model, device)
    inputs = prepare(loaded.processor, samples, loaded.model.device)
    found = search(
        loaded.model,
        inputs,
        keep,
        processor=loaded.processor,
        iterations=iterations,
        initial=initial,
        seed=seed,
        study=trials,
    )
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    found.config.save(out)
    if as_json:
        typer.echo(json.dumps({**found.config.to_dict(), "value": found.value, "default": found.default}))
        return
    typer.echo(f"mean cosine {found.value:.4f} (untuned {found.default:.4f}) over {len(samples)} samples")
    typer.echo(f"wrote {out} and {trials}")
