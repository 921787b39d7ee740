"""No file of the product imports, through whatever others, itself."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"vtc": ROOT / "vtc", **{f"vtc.{room}": ROOT / room for room in ("adapters", "kernels", "eval", "demos")}}
FILES = {
    ".".join((name, *file.relative_to(room).with_suffix("").parts)).removesuffix(".__init__"): file
    for name, room in ROOMS.items()
    for file in room.rglob("*.py")
}


def imports(name: str, file: Path) -> Iterator[str]:
    """Modules of the product that a file imports when it is loaded; imports inside of functions are no circle."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base


def graph(files: dict[str, Path]) -> dict[str, set[str]]:
    return {name: {m for m in imports(name, file) if m in FILES and m != name} for name, file in files.items()}


def test_no_circle():
    order = list(graphlib.TopologicalSorter(graph(FILES)).static_order())
    assert set(order) == set(FILES) and len(order) > 200
    assert order.index("vtc.engine.seams") < order.index("vtc.engine.decoder") < order.index("vtc.engine.handle")


def test_a_circle_would_be_found(tmp_path):
    seams = tmp_path / "seams.py"
    seams.write_text("from .handle import Handle\n")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph({**FILES, "vtc.engine.seams": seams})).prepare()
