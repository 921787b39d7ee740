"""Kernels for the operators the methods share, each with a plain torch reference and one dispatch function."""
