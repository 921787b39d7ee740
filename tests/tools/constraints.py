"""Write down what an environment holds as constraints for the next one: ``make constraints`` runs it in a fresh one.

Lines hold for the versions of Python the suite runs on; packages that exist for one platform only say so, so that
other systems are not asked for them.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

OURS = {"vtc", "pip", "uv", "setuptools", "wheel"}
LINUX_ONLY = re.compile(r"^(nvidia-|cuda-|triton$|decord$)")
PYTHON = 'python_version >= "3.11"'
LINUX = 'sys_platform == "linux" and platform_machine == "x86_64"'
HEAD = [
    "# Exact versions that the whole suite has passed on; `make demo` and `make test` install these.",
    "# Made by `make constraints`, which takes the newest of everything that pyproject.toml allows.",
]


def canonical(name: str) -> str:
    """Name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(found: list[Distribution] | None = None) -> dict[str, str]:
    """Version of every distribution, without our own and the installers."""
    names: dict[str, str] = {}
    for one in found or distributions():
        # the first on the path counts: setuptools adds copies of its own behind it once it is imported
        names.setdefault(canonical(one.metadata["Name"]), one.version.split("+")[0])
    return {name: version for name, version in sorted(names.items()) if name not in OURS}


def line(name: str, version: str) -> str:
    """One constraint."""
    marker = f"{PYTHON} and {LINUX}" if LINUX_ONLY.match(name) else PYTHON
    return f"{name}=={version} ; {marker}"


def main() -> None:
    """Print the file."""
    sys.stdout.write("\n".join([*HEAD, *(line(*pair) for pair in installed().items())]) + "\n")


if __name__ == "__main__":
    main()
