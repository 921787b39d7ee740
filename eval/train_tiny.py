"""Old name of ``python -m vtc.eval.training``; goes with the next release."""

from __future__ import annotations

import warnings

from .training.__main__ import main

if __name__ == "__main__":
    warnings.warn("vtc.eval.train_tiny is now vtc.eval.training.", DeprecationWarning, stacklevel=1)
    main()
