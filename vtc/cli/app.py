"""Entry point of ``vtc``."""

from __future__ import annotations

import typer

from . import bench, calibrate, demo, doctor, evaluate, families, inspecting, methods, models, path, run, sweep, viz
from .errors import SafeGroup
from .output import print_banner

app = typer.Typer(
    cls=SafeGroup,
    help="Cut the visual tokens of Hugging Face vision-language models.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("viz")(viz.viz)
app.command("demo")(demo.demo)
app.command("methods")(methods.methods)
app.command("models")(models.models)
app.command("families")(families.families)
app.command("inspect")(inspecting.inspect)
app.command("doctor")(doctor.doctor)
app.command("path")(path.path)
app.command("calibrate")(calibrate.calibrate)
evaluate.app.command("run")(sweep.run)
evaluate.app.command("tasks")(sweep.tasks)
app.add_typer(evaluate.app, name="eval")
app.add_typer(bench.app, name="bench")


@app.callback()
def _bare(ctx: typer.Context) -> None:
    """Cut the visual tokens of Hugging Face vision-language models."""
    if ctx.invoked_subcommand is None:
        print_banner()


def main() -> None:
    """Run the command line; exit status 0, 1 (an error, one line on stderr) or 2 (wrong usage)."""
    app(prog_name="vtc")
