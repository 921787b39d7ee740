"""A seeded Gaussian-process search that can stop and go on at any point: each proposal depends on the trials alone."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtc.files import file_to_write, read_json

Bounds = Mapping[str, tuple[float, float]]


@dataclass
class Study:
    """Trials of a search for a maximum, and the file they are kept in.

    Parameters
    ----------
    bounds : dict of name to (low, high)
        Equal bounds fix a value.
    seed : int
    initial : int
        Random proposals before the model of the objective takes over.
    path : Path or None
        JSON file; read if it exists, rewritten after every trial.
    settings : dict
        What the trials depend on; a file with other settings is refused.

    Raises
    ------
    ValueError
        The file belongs to another search.
    """

    bounds: Bounds
    seed: int = 42
    initial: int = 15
    path: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take up earlier trials."""
        bounds = {k: list(v) for k, v in self.bounds.items()}
        self.settings = {**self.settings, "seed": self.seed, "initial": self.initial, "bounds": bounds}
        if self.path is None or not file_to_write(self.path, "trials").exists():
            return
        stored = read_json(self.path, "file of trials")
        forms = {"settings": dict, "trials": list}
        if not isinstance(stored, dict) or any(not isinstance(stored.get(k), form) for k, form in forms.items()):
            raise ValueError(f"{self.path} is no file of trials; pass another, or delete this one.")
        keys = {*self.settings, *stored["settings"]}
        differ = sorted(k for k in keys if stored["settings"].get(k) != self.settings.get(k))
        if differ:
            raise ValueError(
                f"{self.path} holds trials of another search: {', '.join(differ)} differ. Pass the same values to go "
                "on with it, another file, or delete this one."
            )
        self.trials = stored["trials"]

    def propose(self) -> dict[str, float]:
        """Next point, by expected improvement under a Gaussian process with a Matern kernel."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        free = {k: optuna.distributions.FloatDistribution(a, b) for k, (a, b) in self.bounds.items() if a < b}
        # a sampler of its own for every trial: nothing is carried over that a file does not hold
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the objective is deterministic
            sampler = optuna.samplers.GPSampler(
                seed=self.seed + len(self.trials), n_startup_trials=self.initial, deterministic_objective=True
            )
        search = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in self.trials:
            point = {k: trial["point"][k] for k in free}
            search.add_trial(optuna.create_trial(params=point, distributions=dict(free), value=trial["value"]))
        found = search.ask(dict(free)).params
        return {k: found.get(k, a) for k, (a, _) in self.bounds.items()}

    def tell(self, point: Mapping[str, float], value: float, write: bool = True, **notes: Any) -> None:
        """Note a trial; ``write`` is for the one process that keeps the file."""
        self.trials.append({"point": dict(point), "value": value, **notes})
        if self.path is not None and write:
            fresh = self.path.with_name(self.path.name + ".part")
            fresh.write_text(json.dumps({"settings": self.settings, "trials": self.trials}, indent=1) + "\n")
            fresh.replace(self.path)

    @property
    def best(self) -> dict[str, Any]:
        """Trial of the largest value, the earliest of equal ones."""
        return max(self.trials, key=lambda trial: trial["value"])
