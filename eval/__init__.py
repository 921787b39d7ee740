"""Measuring methods: generated scenes with exact answers, and the quality benchmark over them."""
