"""Command: run mixed calls for some minutes and write what came out into ``docs/reliability.md``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .page import render
from .run import soak


def main() -> int:
    """Run; 1 when an answer was wrong or memory grew."""
    parser = argparse.ArgumentParser(prog="python -m vtc.eval.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=3, help="how many call at once where several do")
    parser.add_argument("--page", type=Path, help="file to write the figures to, such as docs/reliability.md")
    options = parser.parse_args()
    result = soak(options.minutes * 60, options.seed, threads=options.threads)
    page = render(result)
    print(page)
    for fault in result.faults:
        print(fault, file=sys.stderr)
    if options.page is not None:
        options.page.write_text(page, encoding="utf-8")
    return int(bool(result.faults))


if __name__ == "__main__":
    sys.exit(main())
