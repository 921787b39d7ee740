"""Entry of ``python -m vtc.kernels.aot``; see :mod:`vtc.kernels.tools.aot`."""

import sys

from .tools.aot import main

if __name__ == "__main__":
    sys.exit(main())
