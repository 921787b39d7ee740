"""``vtc doctor``: versions and device, and proof that vtc is right with them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from .output import print_json, print_table
from .proofs import as_dict, show, skipped, verdicts_on

_NEEDED = ("torch", "transformers", "safetensors", "numpy", "pillow", "typer", "rich")
_OPTIONAL = (
    "triton",
    "torchvision",
    "accelerate",
    "timm",
    "gradio",
    "lmms-eval",
    "matplotlib",
    "scikit-optimize",
)


def doctor(
    prove: Annotated[bool, typer.Option("--prove", help="Prove vtc on tiny models, in seconds.")] = False,
    family: Annotated[str | None, typer.Option(help="Prove this family alone; see `vtc models`.")] = None,
    model: Annotated[str | None, typer.Option(help="Prove this model's config, shrunk: folder or Hub id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Show versions, the device and the tested range; exit status 1 when something needed is wrong.

    With --prove: build tiny random models of every family and compare vtc with brute force on this machine: keep=1 is
    bit-identical, dropping equals masking, cached decoding equals uncached, a padded batch equals its rows, unpatching
    leaves nothing, KV bytes are right. Exit status 1 when anything differs.
    """
    if (family or model) and not prove:
        raise typer.BadParameter("--family and --model belong to --prove: vtc doctor --prove --family llava")
    if family and model:
        raise typer.BadParameter("Choose --family or --model, not both: a model brings its family.")
    problems = _problems()
    result = {
        "vtc": _version("vtc"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in (*_NEEDED, *_OPTIONAL)},
        "transformers_range": _tested_range(),
        "device": _device(),
        "problems": problems,
    }
    # what is missing would fail every proof for a reason that is told already
    verdicts = verdicts_on(family, model) if prove and not problems else []
    if prove:
        result["proof"] = as_dict(verdicts)
    if as_json:
        print_json(result)
    else:
        _show(result)
        show(verdicts)
    if problems or not all(verdict.holds for verdict in verdicts if not skipped(verdict)):
        raise typer.Exit(1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _tested_range() -> dict[str, str]:
    from vtc.compat import FLOOR, TESTED

    return {"floor": FLOOR, "tested": TESTED}


def _problems() -> list[str]:
    """Sentences about what stands in the way."""
    from vtc.compat import check_transformers

    missing = [name for name in _NEEDED if _version(name) is None]
    found = [f"{name} is not installed: pip install {name}" for name in missing]
    if "transformers" not in missing:
        try:
            check_transformers()
        except ImportError as error:
            found.append(str(error))
    return found


def _device() -> dict[str, Any]:
    if _version("torch") is None:
        return {"name": "unknown"}
    import torch

    if not torch.cuda.is_available():
        return {"name": "cpu", "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "cuda": torch.version.cuda,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "count": torch.cuda.device_count(),
    }


def _show(result: dict[str, Any]) -> None:
    span = result["transformers_range"]
    rows = [("vtc", result["vtc"], ""), ("python", result["python"], "")]
    for name, found in result["packages"].items():
        remark = "" if found else "missing" if name in _NEEDED else "not installed (optional)"
        if name == "transformers" and found:
            remark = f"needs {span['floor']} or newer, tested to {span['tested']}"
        rows.append((name, found, remark))
    device = dict(result["device"])
    rows.append(("device", device.pop("name"), ", ".join(f"{k} {v}" for k, v in device.items())))
    print_table(["", "version", ""], rows)
    for problem in result["problems"]:
        typer.echo(f"Problem: {problem}", err=True)
