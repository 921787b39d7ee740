"""The models of the demo: loaded once, on first use, and run by one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vtc.cli.loading import Loaded, load

from ..embedded import EMBEDDED


class Shelf:
    """Models by the name the page shows; a folder is shown by its last part only.

    Parameters
    ----------
    extra : sequence of str
        Folders or Hub ids beside the embedded models; the first one becomes the choice at the start.
    device : str
    """

    def __init__(self, extra: Sequence[str] = (), device: str = "auto") -> None:
        self.device = device
        self._sources: dict[str, str] = {}
        for source in extra:
            self._sources[_free(_shown(source), {*self._sources, *EMBEDDED})] = source
        self._sources |= {name: name for name in EMBEDDED}
        self._locks = {name: threading.Lock() for name in self._sources}
        self._loaded: dict[str, Loaded] = {}

    @property
    def names(self) -> list[str]:
        """Names in the order of the list on the page."""
        return list(self._sources)

    def quick(self, name: str) -> bool:
        """Whether a model is small enough to run at every move of a slider."""
        return name in EMBEDDED

    def repeats(self, name: str) -> int:
        """Runs beside the shown one for a steady time to the first token: small models are cheap and jitter."""
        return 4 if self.quick(name) else 0

    def note(self, name: str) -> str:
        """What the answers of a model are worth."""
        return EMBEDDED[name].note if name in EMBEDDED else ""

    @contextmanager
    def use(self, name: str) -> Iterator[Loaded]:
        """Hold a model for one request; others wait.

        Raises
        ------
        ValueError
            No such model.
        """
        if name not in self._sources:
            raise ValueError(f"There is no model {name!r} here; choose one of {', '.join(self.names)}.")
        with self._locks[name]:
            if name not in self._loaded:
                self._loaded[name] = load(self._sources[name], self.device)
            yield self._loaded[name]


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken: ``model (2)``."""
    number = 2
    while name in taken and f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})" if name in taken else name


def _shown(source: str) -> str:
    return Path(source).expanduser().resolve().name if Path(source).expanduser().exists() else source
