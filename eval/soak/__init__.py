"""Hours of mixed calls, every answer compared with the one that was computed alone: ``python -m vtc.eval.soak``."""
