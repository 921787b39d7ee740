"""``vtc eval run`` and ``vtc eval tasks``: benchmarks through lmms-eval."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vtc.files import folder_to_write

from . import values
from .errors import debugging
from .evaluate import KEEP_HELP, plan
from .output import print_json, print_table

_NUMBER = 100
_METHODS_HELP = "Names with commas; `none` is the unpatched model. Options follow colons: vtc-cls:start_layer=1."


def tasks(
    number: Annotated[int, typer.Option(min=1, max=values.MOST, help="Questions per family.")] = _NUMBER,
    seed: Annotated[int, typer.Option(min=0, max=values.MOST, help="Which set of questions.")] = 0,
) -> None:
    """Print the folder with our own tasks, for `--include_path` of lmms-eval; write it when missing."""
    from vtc.eval.lmms.tasks import folder

    typer.echo(str(folder(number, seed)))


def run(
    model: Annotated[str, typer.Option(help="Embedded name, folder or Hub id.")] = "tiny-llava",
    methods: Annotated[str, typer.Option(help=_METHODS_HELP)] = "none,random,vtc-cls",
    keep: Annotated[str, typer.Option(help=KEEP_HELP)] = "0.25",
    tasks: Annotated[str, typer.Option(help="Names with commas; auto: ours, see `vtc eval tasks`.")] = "auto",
    config: Annotated[list[Path] | None, typer.Option(help="Saved configuration as one more line; repeatable.")] = None,
    base: Annotated[str | None, typer.Option(help="Class of lmms-eval, or `generic`; default: by model type.")] = None,
    model_args: Annotated[str, typer.Option(help="Further arguments of the base class: name=value,...")] = "",
    include_path: Annotated[list[Path] | None, typer.Option(help="Folder with tasks; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=values.MOST, help="Questions per task.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=values.MOST, help="Which set of our own questions.")] = 0,
    gen_kwargs: Annotated[str, typer.Option(help="Overrides for generation: name=value,...")] = "",
    simple: Annotated[bool, typer.Option("--simple", help="The base's simple class, as --force_simple.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    batch: Annotated[int, typer.Option(min=1, max=values.MOST, help="Questions per batch; most bases take 1.")] = 1,
    resume: Annotated[bool, typer.Option(help="Use what an earlier run with the same arguments finished.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/eval"),
) -> None:
    """Sweep methods x strengths x tasks through lmms-eval: scores, tokens, times; one table, CSV and a plot.

    Several GPUs: `torchrun --nproc_per_node N --no-python vtc eval run ...`, or `accelerate launch`.
    """
    lines = plan(methods, keep)
    names = _tasks(tasks, model)
    if not names:
        raise ValueError("Nothing to do: pass at least one task.")
    folder_to_write(out, "results")
    _need_lmms_eval()

    from vtc.eval.lmms import runner
    from vtc.eval.lmms.failure import EvaluationError

    args = _model_args(model, base, model_args, device, batch)
    ours = [name for name in names if name.split("_")[0] == "vtc"]
    include = [str(path) for path in include_path or []]
    if ours:
        from vtc.eval.lmms.tasks import folder

        include.append(str(folder(max(limit or 0, _NUMBER), seed)))
    sweep = runner.Plan(
        args,
        _settings(lines, config or []),
        names,
        include,
        defaults=len(ours) < len(names) and not include_path,
        limit=limit,
        simple=simple,
        gen_kwargs=gen_kwargs,
    )
    try:
        done = runner.run(sweep, out, resume, progress=_progress)
    except EvaluationError as error:
        _progress(str(error))  # with the traceback, which the closing line leaves out
        raise
    if done is not None:
        _finish(done, out, as_json)


def _tasks(tasks: str, model: str) -> list[str]:
    if tasks != "auto":
        return [name.strip() for name in tasks.split(",") if name.strip()]
    from vtc.eval.lmms.rows import GROUP

    return [GROUP]


def _need_lmms_eval() -> None:
    from importlib.util import find_spec

    if find_spec("lmms_eval") is None:
        raise ImportError("lmms-eval is not installed: pip install 'vtc[eval]'.")
    from .loading import be_quiet

    be_quiet()
    if not debugging():
        from loguru import logger

        logger.remove()
        logger.add(sys.stderr, level="ERROR")


def _model_args(model: str, base: str | None, further: str, device: str, batch: int) -> dict[str, Any]:
    """Arguments of the base class."""
    from lmms_eval.utils import simple_parse_args_string

    from vtc.demos.embedded import EMBEDDED

    args: dict[str, Any] = {"pretrained": model, "batch_size": batch}
    if model in EMBEDDED:
        from vtc.eval.lmms.embedded import arguments

        args |= arguments(model)
    if base is not None:
        args["base"] = base
    if device != "auto":
        args["device"] = str(values.device(device))
    return {**args, **simple_parse_args_string(further)}


def _settings(lines: Any, configs: list[Path]) -> list[Any]:
    from vtc.eval.lmms.arguments import Settings

    found = [Settings(method, keep, options).check() for method, keep, options in lines]
    return found + [Settings(config=str(path)).check() for path in configs]


def _progress(line: str) -> None:
    from vtc.eval.lmms.ranks import is_first

    if is_first():
        typer.echo(line, err=True)


def _finish(done: list[dict[str, Any]], out: Path, as_json: bool) -> None:
    from vtc.eval.lmms import table

    found = table.lines(done)
    table.write_csv(out / "results.csv", found)
    (out / "results.md").write_text(table.markdown(found))
    table.plot(out / "results.png", found)
    if as_json:
        print_json(found)
        return
    print_table(*table.scores(found), "Scores; retained: share of the unpatched model's mean")
    print_table(*table.costs(found), "Visual tokens per question, medians of times, KV cache after the prefill")
    typer.echo(f"Files: {out / 'results.csv'}, {out / 'results.md'}, {out / 'results.png'}, {out / 'cells'}")
