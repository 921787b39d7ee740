"""How well a pruned model answers: the benchmark of the embedded models on generated scenes."""

from .answers import is_exact, normalise
from .bench import BLANK, NO_METHOD, Benchmark, Row, evaluate

__all__ = ["BLANK", "NO_METHOD", "Benchmark", "Row", "evaluate", "is_exact", "normalise"]
