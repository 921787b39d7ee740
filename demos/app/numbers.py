"""The committed benchmark, and sentences and tables of numbers."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtc.files import read_json

from ..embedded import ASSETS
from .answers import Partial

if TYPE_CHECKING:
    import pandas as pd

QUALITY = ASSETS / "quality.json"
HOW_TO = """\
This checkout holds no benchmark yet. Make one with the command line (minutes on a laptop), and copy it to
`demos/assets/quality.json`:

```bash
vtc eval quality --model tiny-llava --methods none,random,pool,vtc-cls,todre --keep 32,16,8,4 --out out
```
"""
_NEEDED = {"model", "method", "keep", "family", "n", "accuracy", "retained"}
DASHES = "\u2013"


def read_quality(path: Path = QUALITY) -> list[dict[str, Any]]:
    """Rows of the committed benchmark; none when the file is missing.

    Raises
    ------
    ValueError
        The file is not a list of rows of ``vtc eval quality``.
    """
    if not path.is_file():
        return []
    data = read_json(path, "benchmark")
    rows = data.get("rows", []) if isinstance(data, dict) else data
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path.name} holds no list of rows; write it with `vtc eval quality --out`.")
    lacking = [sorted(_NEEDED - set(row)) for row in rows if _NEEDED - set(row)]
    if lacking:
        raise ValueError(f"Rows of {path.name} lack {', '.join(lacking[0])}; write it with `vtc eval quality --out`.")
    return rows


def curve(rows: list[dict[str, Any]], model: str, family: str) -> pd.DataFrame:
    """Accuracy over the share of kept tokens (both in %), one line per method; ``none`` is a level line."""
    import pandas as pd

    mine = [row for row in rows if row["model"] == model and row["family"] == family]
    least = min((row["retained"] for row in mine), default=1.0)
    mine += [{**row, "retained": least} for row in mine if row["method"] == "none" and least < 1]
    columns = ["method", "tokens kept (%)", "accuracy (%)", "questions"]
    data = [(row["method"], round(100 * row["retained"], 2), round(100 * row["accuracy"], 1), row["n"]) for row in mine]
    return pd.DataFrame(data, columns=columns).sort_values(["method", "tokens kept (%)"], ignore_index=True)


def numbers_table(partial: Partial | None, visual: int | None, kv: int | None, against: Partial | None = None) -> str:
    """Numbers of one answer as an HTML table; ``against`` adds the change of the times."""
    first = None if partial is None or partial.first is None else 1000 * partial.first
    base = None if against is None or against.first is None else 1000 * against.first
    rows = [
        ("Visual tokens", DASHES if visual is None else f"{visual:,}"),
        ("First token", _ms(first) + _change(first, base)),
        ("Decoding", f"{partial.rate:.0f} tokens/s" if partial is not None and partial.rate else DASHES),
        ("Answer", f"{partial.tokens} tokens" if partial is not None else DASHES),
        ("KV cache", DASHES if kv is None else f"{kv / 1024:,.1f} KiB"),
    ]
    body = "".join(f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table class='vtc-numbers'><tbody>{body}</tbody></table>"


def _ms(value: float | None) -> str:
    return DASHES if value is None else f"{value:.1f} ms"


def _change(value: float | None, base: float | None) -> str:
    return "" if value is None or not base else f" ({100 * (value / base - 1):+.0f} %)"
