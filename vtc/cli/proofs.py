"""The proof of ``vtc doctor --prove``: run it, and print it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from .errors import one_line
from .output import print_table

if TYPE_CHECKING:
    from vtc.proof import Verdict


def verdicts_on(family: str | None, model: str | None) -> list[Verdict]:
    """Prove one family, one model's config, or all families, one after another."""
    import torch

    from vtc.proof import Finding, Verdict

    from .loading import be_quiet, load_config

    be_quiet()
    try:
        from vtc.adapters import list_families
        from vtc.proof import prove
    except Exception as error:  # a release whose names the engine does not know fails here already
        reason = f"{type(error).__name__}: {one_line(error)}"
        return [Verdict(family or "all", [Finding("import", "vtc", "any", "differs", reason=reason)])]
    torch.set_num_threads(1)  # too small to gain from more threads, which only wait for one another
    if model is not None:
        return [prove(load_config(model))]
    return [prove(name) for name in _watched([family] if family else list_families())]


def _watched(names: list[str]) -> Any:
    """Names, with a bar on stderr where somebody looks."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(names, "proving", console=console, transient=True, disable=not console.is_terminal)


def skipped(verdict: Verdict) -> bool:
    """Whether there was nothing to prove: the installed transformers does not have the family."""
    return not verdict.differing and not any(f.outcome == "holds" for f in verdict.findings)


def as_dict(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """JSON-ready: whether all hold, and everything that was found."""
    holds = bool(verdicts) and all(v.holds for v in verdicts if not skipped(v))
    return {"holds": holds, "families": [v.to_dict() for v in verdicts]}


def show(verdicts: Sequence[Verdict]) -> None:
    """Print one table of families, or of all findings on a single one; reasons below, differences on stderr."""
    if not verdicts:
        return
    if len(verdicts) == 1:
        _show_one(verdicts[0])
    else:
        _show_all(verdicts)
    for reason, where in _refusals(verdicts).items():
        typer.echo(f"Refused, {', '.join(where)}: {reason}")
    for verdict in verdicts:
        for finding in verdict.differing:
            typer.echo(f"Differs: {verdict.family}: {finding}", err=True)


def _show_all(verdicts: Sequence[Verdict]) -> None:
    names = list(dict.fromkeys(f.obligation for v in verdicts for f in v.findings))
    rows = [[v.family, *(_cell(v.outcomes().get(n)) for n in names), round(v.seconds, 1)] for v in verdicts]
    print_table(["family", *names, "s"], rows, "Proof on tiny models: outcome and largest relative difference")


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    size = "" if found["difference"] is None else f" {found['difference']:.0e}" if found["difference"] else " exactly"
    if found["outcome"] == "holds":
        return f"holds{size}"
    if found["outcome"] == "differs":
        return f"DIFFERS{size}"
    return f"refused {found['of'] - found['held']} of {found['of']}{size}" if found["held"] else "refused"


def _show_one(verdict: Verdict) -> None:
    rows = [
        [f.obligation, f.setup, f.method, f.outcome, f.difference, f.tolerance, round(1000 * f.seconds)]
        for f in verdict.findings
    ]
    columns = ["obligation", "tiny model", "pruned by", "outcome", "difference", "allowed", "ms"]
    print_table(columns, rows, f"Proof of {verdict.family} in {verdict.seconds:.1f} s")


def _refusals(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """Which obligations of which families were refused for each reason."""
    found: dict[str, list[str]] = {}
    for verdict in verdicts:
        reasons: dict[str, list[str]] = {}
        for f in verdict.findings:
            if f.outcome == "refused" and f.obligation not in reasons.setdefault(f.reason, []):
                reasons[f.reason].append(f.obligation)
        for reason, names in reasons.items():
            found.setdefault(reason, []).append(f"{verdict.family} ({', '.join(names)})")
    return found
