"""Slow, obvious float64 versions of what the methods compute, and views made by hand."""

from hypothesis import settings

modest = settings(max_examples=25, deadline=None)
