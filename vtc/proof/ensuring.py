"""``ensure``: no patch on an untested transformers without a proof that vtc is right there."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from .. import compat
from . import store
from .quiet import proving, undisturbed
from .verdict import Verdict

log = logging.getLogger("vtc")
STAND_IN = "llava"
"""Family that is proved for those without tiny models of their own: it follows transformers' conventions."""
_PROVED: dict[str, str] = {}
"""Versions of transformers families have been proved on in this process."""


class UnprovenError(ImportError):
    """vtc does not hold on this transformers; ``verdict`` has the details."""

    def __init__(self, message: str, verdict: Verdict | None = None) -> None:
        super().__init__(message)
        self.verdict = verdict


def ensure(family: str, model: Any = None) -> None:
    """Prove a family on a transformers that is newer than the tested ones, once per process and version.

    Does nothing up to the minor version of :data:`vtc.compat.TESTED`. The verdict is kept in the user's cache folder
    (``VTC_CACHE`` names another one), so that later processes go on at once; ``VTC_PROVE=0`` leaves the proof out and
    says so once.

    Parameters
    ----------
    family : str
        Name of the adapter.
    model : nn.Module, optional
        The model to be patched; it is named in the messages and stays untouched.

    Raises
    ------
    ImportError
        A promise does not hold (:class:`UnprovenError`): which, where, what is tested, and what to do.
    """
    found = compat.check_transformers()
    if proving() or compat.parse(found) <= compat.parse(compat.TESTED):
        return
    if os.environ.get("VTC_PROVE") == "0":
        _say_once(
            f"transformers {found} is newer than the tested {compat.FLOOR} to {compat.TESTED}, and VTC_PROVE=0 leaves "
            "out the proof that vtc is right there: unset it, or run `vtc doctor --prove`."
        )
        return
    if _PROVED.get(family) == found:
        return
    with undisturbed():  # other threads wait here and then find it done
        proved = _provable(family)
        if _PROVED.get(family) != found:
            _prove(proved, found, family if model is None else f"{type(model).__name__} ({family})")
            _PROVED[family] = found
    if proved != family:
        _say_once(
            f"transformers {found} is newer than the tested {compat.TESTED}, and vtc has no tiny model of family "
            f"{family!r}: the proof ran on {proved!r}, whose conventions it follows. Compare an answer at keep=1 with "
            "the unpatched model's."
        )


def _provable(family: str) -> str:
    from .models import cases_of
    from .proving import POLICY

    return family if family == POLICY or cases_of(family) else STAND_IN


def _prove(family: str, found: str, asked: str) -> None:
    from .proving import prove

    kept = store.read(family)
    if kept is not None and kept.holds:
        return
    verdict = prove(family)
    if not verdict.holds:
        what = str(verdict.differing[0]) if verdict.differing else "nothing could be compared"
        raise UnprovenError(
            f"vtc is not right on transformers {found}, so it does not patch this {asked}: {what}. It is tested on "
            f"{compat.FLOOR} to {compat.TESTED}: pip install 'transformers=={compat.TESTED}.*', or a newer vtc. "
            "`vtc doctor --prove` shows everything; VTC_PROVE=0 patches all the same.",
            verdict,
        )
    store.write(verdict)  # a failure is not kept: its cause may lie outside of the key


@functools.cache
def _say_once(text: str) -> None:
    log.warning(text)
