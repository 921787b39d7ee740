"""Tokens, FLOPs, KV bytes and times of one patched prefill."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from .version import versions

if TYPE_CHECKING:
    from .engine.handle import Handle

FORMULA = "decoder prefill = sum over layers of 2 * weights * tokens + 4 * tokens * keys * query width (MAC = 2)"


@dataclass
class Report:
    """Numbers of one prefill with images; print it, or take ``to_dict``, ``to_json``, ``to_markdown``.

    Attributes
    ----------
    data : dict
        JSON-ready; times in seconds, memory in bytes, FLOPs as plain numbers.
    """

    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, handle: Handle) -> Report:
        """Collect the numbers of ``handle.last``; ValueError when nothing has run yet."""
        record = handle.last
        if record is None:
            raise ValueError("Nothing to report yet: run the patched model on an input with an image first.")
        layers = _per_layer(record.layers, handle.facts.decoder_layers)
        cached = record.cached
        full = [record.sequence] * len(layers)
        widths = _layer_weights(handle)
        vision = sum(sum(c.seconds().values()) for c in record.vision_clock if c is not None)
        seconds = {"vision": vision, **record.clock.seconds()}
        texts = text_config(handle)
        parameter = next(handle.model.parameters())
        return cls(
            {
                "config": handle.config.to_dict(),
                "model": type(handle.model).__name__,
                "family": handle.adapter.family,
                "device": str(parameter.device),
                "dtype": str(parameter.dtype).removeprefix("torch."),
                "attn_implementation": texts._attn_implementation,
                "versions": versions(),
                "images": [_image(i) for i in record.images],
                "visual_tokens": {
                    "before": record.before,
                    "after": record.after,
                    "mean_over_layers": sum(image.mean(len(layers)) for image in record.images),
                },
                "sequence": {"before": record.sequence, "after": layers[-1] if layers else record.sequence},
                "layers": [{"first": s, "tokens": t} for s, t in record.layers],
                "flops": {
                    "before": _flops(full, widths, cached),
                    "after": _flops(layers, widths, cached),
                    "formula": FORMULA,
                },
                "kv_bytes": {
                    "before": sum(record.kv_bytes_full),
                    "after": sum(record.kv_bytes),
                    "per_layer": record.kv_bytes,
                },
                "seconds": seconds,
                "decode": {"steps": record.decode_steps, "seconds": record.decode_seconds},
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary."""
        return self.data

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(self.data, indent=2)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """``(what, before, after, share)`` for tables."""
        d = self.data
        visual, flops, kv = d["visual_tokens"], d["flops"], d["kv_bytes"]
        rows = [_row("visual tokens", visual["before"], visual["after"], "{:,}")]
        for i in d["images"]:
            rows.append(_row(f"  row {i['row']}, {i['modality']} {i['image']}", i["before"], i["after"], "{:,}"))
        rows.append(_row("sequence (all rows)", sum(d["sequence"]["before"]), sum(d["sequence"]["after"]), "{:,}"))
        rows.append(_row("visual tokens, mean over layers", visual["before"], visual["mean_over_layers"], "{:,.1f}"))
        rows.append(_row("prefill GFLOPs (decoder)", flops["before"] / 1e9, flops["after"] / 1e9, "{:,.3f}"))
        if kv["before"]:
            rows.append(_row("KV cache KiB", kv["before"] / 1024, kv["after"] / 1024, "{:,.1f}"))
        return rows

    def times(self) -> list[tuple[str, str]]:
        """``(what, value)`` lines of the clock."""
        lines = [(name, f"{1000 * value:.1f} ms") for name, value in self.data["seconds"].items()]
        decode = self.data["decode"]
        if decode["steps"] and decode["seconds"] > 0:
            lines.append(("decode", f"{decode['steps'] / decode['seconds']:.1f} tokens/s ({decode['steps']} steps)"))
        return lines

    def to_markdown(self) -> str:
        """Table in Markdown."""
        lines = ["| | before | after | kept |", "|---|---:|---:|---:|"]
        lines += [f"| {a.strip()} | {b} | {c} | {d} |" for a, b, c, d in self.rows()]
        lines += ["", "Times: " + ", ".join(f"{a} {b}" for a, b in self.times())]
        return "\n".join(lines)

    def __str__(self) -> str:
        table = [("", "before", "after", "kept"), *self.rows()]
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        body = "\n".join(
            f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in table
        )
        segments = "  ".join(f"layer {s['first']}+: {s['tokens']}" for s in self.data["layers"])
        times = "  ".join(f"{a} {b}" for a, b in self.times())
        return f"{body}\ntokens per layer segment  {segments}\ntimes  {times}\nFLOPs: {self.data['flops']['formula']}"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{h}</th>" for h in ("", "before", "after", "kept"))
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in self.rows())
        times = html.escape(", ".join(f"{name} {value}" for name, value in self.times()))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{times}</p>"


def text_config(handle: Handle) -> Any:
    """Config of the language model."""
    return handle.adapter.decoder(handle.model).config


def _row(name: str, before: float, after: float, form: str) -> tuple[str, str, str, str]:
    share = f"{100 * after / before:.1f} %" if before else "-"
    whole = "{:,}" if isinstance(before, int) else form
    return name, whole.format(before), form.format(after), share


def _image(log: Any) -> dict[str, Any]:
    return {
        "row": log.row,
        "image": log.image,
        "modality": log.modality,
        "grid": log.unit.grid,
        "before": log.before,
        "entered": len(log.entered),
        "after": log.after,
        "cuts": [{"layer": layer, "tokens": len(kept)} for layer, kept in log.cuts],
    }


def _per_layer(segments: list[tuple[int, list[int]]], layers: int) -> list[list[int]]:
    return [[t for s, t in segments if s <= i][-1] for i in range(layers)]


def _layer_weights(handle: Handle) -> list[tuple[int, int]]:
    """Matrix weights and query width of every decoder layer."""
    text = text_config(handle)
    layers = handle.adapter.layers(handle.model)
    return [(_matrices(layer), _query_width(text, index)) for index, layer in enumerate(layers)]


def _query_width(text: Any, index: int) -> int:
    own = text.per_layer_config[index] if getattr(text, "is_heterogeneous", False) else text
    return (getattr(own, "head_dim", None) or own.hidden_size // own.num_attention_heads) * own.num_attention_heads


def _matrices(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters() if p.ndim >= 2)


def _flops(layers: list[list[int]], widths: list[tuple[int, int]], cached: list[int]) -> int:
    total = 0
    for tokens, (weights, width) in zip(layers, widths, strict=True):
        for n, past in zip(tokens, cached, strict=True):
            total += 2 * weights * n + 4 * n * (n + past) * width
    return total
