"""Version of vtc."""

__version__ = "0.1.0"
