"""``prove``: every obligation on every tiny model of a family."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vtc.adapters import list_families

from ..methods import make_method
from ..methods.base import Method
from .models import cases_of, too_old
from .models.pi0 import build_pi0
from .obligations import OBLIGATIONS, Refused, tolerance
from .probes import probes
from .quiet import undisturbed
from .setups import Acting, Setup, Talking
from .verdict import Finding, Verdict

POLICY = "pi0"
"""Family that acts instead of talking."""


@dataclass(frozen=True)
class Probe:
    """One way to prune; an optional one that a family refuses is left out, and nothing is claimed of it."""

    name: str
    method: Method
    optional: bool = False


def prove(
    what: Any, methods: Sequence[str | Method] | None = None, obligations: Sequence[str] | None = None
) -> Verdict:
    """Prove that vtc is right on this machine with the versions installed.

    Parameters
    ----------
    what : str, model or config
        A family of :func:`vtc.list_families`, proved on tiny random models of its own; or a model or config of
        transformers, which is shrunk first (see :func:`vtc.proof.shrink.shrunk`).
    methods : sequence of str or Method, optional
        What to prune with; default: drops by norm before and inside the language model, with positions kept and closed
        up, and methods that read attention.
    obligations : sequence of str, optional
        Some of :data:`OBLIGATIONS`; default: all.

    Returns
    -------
    Verdict
        A proof that crashes is a finding that differs, with the error as its reason.

    Raises
    ------
    ValueError
        Unknown family, method or obligation, or a config that cannot be shrunk.
    TypeError
        Neither a family nor a model nor a config.

    Notes
    -----
    Runs in float32 on the CPU, about a second, and leaves the state of the process as it is. Threads wait for one
    another.
    """
    names = _chosen(obligations)
    chosen = None if methods is None else [_probe(m) for m in methods]
    start = time.perf_counter()
    with undisturbed():
        family, missing, setups = _setups(what)
        findings = [Finding(o, family, "any", "refused", reason=missing) for o in names] if missing else []
        findings += [f for build in setups for f in _findings(build, names, chosen)]
    return Verdict(family, findings, time.perf_counter() - start)


def _chosen(obligations: Sequence[str] | None) -> list[str]:
    names = list(OBLIGATIONS) if obligations is None else list(obligations)
    for name in names:
        if name not in OBLIGATIONS:
            hint = _near(name, OBLIGATIONS)
            raise ValueError(f"Unknown obligation {name!r}.{hint} Choose of {', '.join(OBLIGATIONS)}.")
    if not names:
        raise ValueError(f"obligations=() proves nothing; choose of {', '.join(OBLIGATIONS)}.")
    return names


# what these methods ask for, or wait for, by default: scores of frames, and the attention of earlier calls
_OPTIONS: dict[str, dict[str, Any]] = {"quota": {"frame_scores": "uniform"}, "vla-pruner": {"warmup": "semantic"}}


def _probe(method: str | Method) -> Probe:
    made = make_method(method, **_OPTIONS.get(method, {})) if isinstance(method, str) else replace(method)
    return Probe(made.name, made)


def _near(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _setups(what: Any) -> tuple[str, str, list[tuple[str, Any]]]:
    """Family, why it cannot be proved (or ""), and names and builders of its set-ups."""
    if not isinstance(what, str):
        from .shrink import shrunk

        case = shrunk(getattr(what, "config", what))
        return case.family, "", [(case.name, lambda: Talking(case))]
    if what not in list_families():
        raise ValueError(f"Unknown family {what!r}.{_near(what, list_families())} Known: {', '.join(list_families())}.")
    if what in too_old():
        from importlib.metadata import version

        return what, f"Needs transformers >= {too_old()[what]}, found {version('transformers')}.", []
    if what == POLICY:
        return what, "", [(what, lambda: Acting(what, what, build_pi0()))]
    made = [(case.name, (lambda case=case: Talking(case))) for case in cases_of(what)]
    return what, "" if made else "An installed package brings this family, and vtc has no tiny model of it.", made


def _findings(named: tuple[str, Any], names: list[str], chosen: list[Probe] | None) -> Iterator[Finding]:
    name, build = named
    start = time.perf_counter()
    try:
        setup: Setup = build()
        plans = {o: chosen if chosen is not None else _default(o, setup) for o in names}
    except Exception as error:
        # a model that cannot be built or read proves nothing, which must not look like a proof
        seconds = time.perf_counter() - start
        yield from (Finding(o, name, "any", "differs", seconds=seconds, reason=_text(error)) for o in names)
        return
    for obligation in names:
        for probe in plans[obligation]:
            finding = _check(obligation, setup, probe)
            if not (probe.optional and finding.outcome == "refused"):
                yield finding


def _default(obligation: str, setup: Setup) -> list[Probe]:
    """Ways to prune for one obligation; those that read attention where a choice by it can be compared."""
    made = [Probe(name, method) for name, method in probes(setup.facts.decoder_layers).items()]
    if setup.facts.keeps_positions or obligation not in ("masking", "cache", "batch"):
        made = [p for p in made if p.name != "renumbered"]  # nothing closes up there, or it makes no difference
    if obligation in ("identical", "masking", "unpatch"):
        made += [Probe(name, make_method(name, keep=0.4), optional=True) for name in ("vtc-cls", "fastv")]
    return made


def _check(obligation: str, setup: Setup, probe: Probe) -> Finding:
    start, allowed, size = time.perf_counter(), 0.0, None
    try:
        allowed = tolerance(obligation, setup)
        size = OBLIGATIONS[obligation](setup, probe.method)
        outcome, reason = ("holds" if size <= allowed else "differs"), ""
    except Refused as error:
        outcome, reason = "refused", str(error)
    except Exception as error:  # a crash is a promise that was not kept
        outcome, reason = "differs", _text(error)
    seconds = time.perf_counter() - start
    return Finding(obligation, setup.name, probe.name, outcome, size, allowed, seconds, reason)  # type: ignore[arg-type]


def _text(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:400]
