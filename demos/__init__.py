"""Embedded models, bundled pictures, and the job behind ``make demo``."""
