"""Tiny random models of every family, built from transformers' configs in code, with inputs for them."""

from .cases import all_cases, cases_of, too_old
from .parts import Case, Inputs

__all__ = ["Case", "Inputs", "all_cases", "cases_of", "too_old"]
