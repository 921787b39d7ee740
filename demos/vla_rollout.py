"""Roll out the embedded robot policy with and without pruning: ``python demos/vla_rollout.py --episodes 20``.

The same episodes of a simulated pick-and-place are played by the policy as it is and with its image tokens pruned by
several methods at equal budgets; success, tokens, FLOPs and times are printed, and a GIF shows what was kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

COLUMNS = ("method", "keep", "success %", "95 %", "steps", "tokens", "mean over layers", "MFLOPs", "ms per call")


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    from vtc.demos.vla.comparison import FIRST_SEED, KEEPS, METHODS
    from vtc.demos.vla.model import ASSETS

    options = argparse.ArgumentParser(prog="vla_rollout.py", description=__doc__)
    options.add_argument("--episodes", type=int, default=20, help="episodes per setting")
    options.add_argument("--batch", type=int, default=1, help="environments side by side")
    options.add_argument("--methods", default=",".join(METHODS), help="names, separated by commas")
    options.add_argument("--keeps", default=",".join(map(str, KEEPS)), help="shares of the image tokens")
    options.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first episode")
    options.add_argument("--policy", type=Path, default=ASSETS, help="folder of another policy")
    options.add_argument("--gif", type=Path, default=Path("out/vla_rollout.gif"), help="where the film goes")
    options.add_argument("--no-gif", action="store_true", help="no film")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return options


def cells(row: Any) -> tuple[str, ...]:
    """One row of the table as text."""
    return (
        row.method,
        f"{100 * row.keep:.3g} %",
        f"{100 * row.success:.0f}",
        f"{100 * row.low:.0f} - {100 * row.high:.0f}",
        f"{row.steps:.1f}",
        f"{row.tokens:.1f}",
        f"{row.mean_tokens:.1f}",
        f"{row.mflops:.0f}",
        f"{row.milliseconds:.0f}",
    )


def checked(args: argparse.Namespace) -> tuple[list[str], list[float]]:
    """Methods and shares that were asked for.

    Raises
    ------
    ValueError
        A number that makes no sense, or no such method.
    """
    from vtc.core.budget import check_keep
    from vtc.methods import method_class

    for name in ("episodes", "batch"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)} is not allowed: pass a number of at least 1.")
    methods = [name.strip() for name in args.methods.split(",") if name.strip()]
    for name in methods:
        method_class(name)
    keeps = [float(check_keep(_share(text))) for text in args.keeps.split(",")]
    return methods, keeps


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--keeps {text!r} is no number: pass shares of the image tokens such as 0.5,0.25.") from None


def run(args: argparse.Namespace) -> None:
    """Play, print, film."""
    import torch

    import vtc
    from vtc.demos.vla.comparison import compare
    from vtc.demos.vla.film import write_film
    from vtc.demos.vla.model import load_policy
    from vtc.files import file_to_write

    methods, keeps = checked(args)
    if not args.no_gif:
        file_to_write(args.gif, "film")
    policy = load_policy(args.policy)
    rows = []
    for row in compare(policy, args.episodes, args.batch, methods, keeps, args.seed):
        rows.append(row)
        if not args.json:
            head = [_line(COLUMNS), _line(("---",) * len(COLUMNS))] if len(rows) == 1 else []
            print(*head, _line(cells(row)), sep="\n", flush=True)
    if not args.no_gif:
        settings = [("random", 1.0), *((methods[0], keep) for keep in keeps)] if methods else [("random", 1.0)]
        write_film(args.gif, policy, settings, args.seed)
    if args.json:
        facts = {"episodes": args.episodes, "batch": args.batch, "seed": args.seed, "image_tokens": policy.image_length}
        versions = {"vtc": vtc.__version__, "torch": torch.__version__}
        film = None if args.no_gif else str(args.gif)
        print(
            json.dumps({**facts, "versions": versions, "gif": film, "rows": [row.to_dict() for row in rows]}, indent=2)
        )
    elif not args.no_gif:
        print(f"\nWhat {methods[0] if methods else 'no method'} kept, frame by frame: {args.gif}")


def _line(texts: tuple[str, ...]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(text.rjust(len(name)) for text, name in zip(texts, COLUMNS, strict=True)) + " |"


def main(argv: list[str] | None = None) -> int:
    """Run; errors are one line on stderr."""
    try:
        import gymnasium  # noqa: F401
        import timm  # noqa: F401
    except ImportError as error:
        print(f"vla_rollout: it needs {error.name}: pip install 'vtc[demo]'", file=sys.stderr)
        return 1
    args = parser().parse_args(argv)
    try:
        run(args)
    except (ValueError, TypeError, OSError) as error:
        print(f"vla_rollout: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
