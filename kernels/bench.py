"""Entry of ``python -m vtc.kernels.bench``; see :mod:`vtc.kernels.tools.bench`."""

import sys

from .tools.bench import main

if __name__ == "__main__":
    sys.exit(main())
