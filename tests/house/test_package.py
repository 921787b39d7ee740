"""The package as it is installed: what pyproject lists is what lies on disk, and which room may import which."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# the folders of the root that are product; the package vtc itself lies in a folder of its name
ROOMS = ("vtc", "adapters", "kernels", "eval", "demos")


def section(heading: str) -> str:
    """Text of one table of pyproject.toml (Python 3.10 has no reader of TOML)."""
    return (ROOT / "pyproject.toml").read_text().split(f"[{heading}]\n", 1)[1].split("\n[", 1)[0]


def listed() -> list[str]:
    return re.findall(r'"(vtc[\w.]*)"', section("tool.setuptools").split("packages = [", 1)[1].split("]", 1)[0])


def package_of(folder: Path) -> str:
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "vtc" else ("vtc", *parts))


def product_files() -> list[Path]:
    return sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def test_every_folder_with_code_is_installed_and_nothing_else():
    names = listed()
    assert len(names) == len(set(names)) > len(ROOMS)
    on_disk = {package_of(file.parent) for file in product_files()}
    assert set(names) == on_disk
    without = [p for p in {file.parent for file in product_files()} if not (p / "__init__.py").exists()]
    assert not without, f"code in folders that are no packages: {without}"


def test_every_room_beside_the_package_is_mapped_into_it():
    found = dict(re.findall(r'^"?(vtc[\w.]*)"? = "(\w+)"$', section("tool.setuptools.package-dir"), re.MULTILINE))
    assert found == {package_of(ROOT / room): room for room in ROOMS}


@pytest.mark.parametrize("word", ["use_triton", "launching_on", "kernels._", "VTC_KERNELS"])
def test_only_the_kernels_decide_which_code_runs(word):
    users = [file for file in product_files() if file.parent != ROOT / "kernels" and word in file.read_text()]
    outside = [str(file.relative_to(ROOT)) for file in users if ROOT / "kernels" not in file.parents]
    assert not outside


def imports_of(file: Path) -> set[str]:
    """Modules that a file of the product imports, by their full names; functions' own imports count."""
    package = package_of(file.parent).split(".")
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(("room", "below"), [("vtc.kernels", ()), ("vtc.core", ("vtc.kernels",))])
def test_the_lowest_rooms_import_nothing_from_above(room, below):
    files = [file for file in product_files() if f"{package_of(file.parent)}.".startswith(f"{room}.")]
    assert len(files) > 15
    for file in files:
        ours = {name for name in imports_of(file) if name == "vtc" or name.startswith("vtc.")}
        above = {name for name in ours if not any(f"{name}.".startswith(f"{r}.") for r in (room, *below))}
        assert not above, f"{file.relative_to(ROOT)} imports {sorted(above)}"


@pytest.mark.parametrize("room", ["kernels", "vtc/core"])
def test_files_of_the_lowest_rooms_stay_short(room):
    lengths = {file: len(file.read_text().splitlines()) for file in (ROOT / room).rglob("*.py")}
    assert lengths and max(lengths.values()) <= 300


def test_operators_have_their_published_form_and_their_kernel():
    operators = [p for p in (ROOT / "kernels").iterdir() if (p / "triton.py").exists()]
    assert len(operators) == 7
    for folder in operators:
        assert (folder / "naive.py").exists() and (folder / "__init__.py").exists()


TESTS = ROOT / "tests"
FREE = ("support", "tools", "third_party")  # rooms of the tests that hold no tests


def modules_of_tests() -> list[Path]:
    return sorted(TESTS.rglob("*.py"))


def names_imported(file: Path) -> set[tuple[str, str]]:
    """Module and name of everything that a test file takes from somewhere, functions' own imports included."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {(getattr(node, "module", None) or "", alias.name) for node in nodes for alias in node.names}


def test_what_tests_share_lies_in_support():
    for file in modules_of_tests():
        room = file.relative_to(TESTS).parts[0]
        assert room in FREE or file.name == "conftest.py" or file.name.startswith("test_"), f"{file} is no test"


def test_no_test_file_imports_from_another_and_nothing_private_is_shared():
    for file in modules_of_tests():
        for module, name in names_imported(file):
            last = (module or name).split(".")[-1]
            assert not last.startswith("test_"), f"{file} imports {last}"
            assert not (module.split(".")[0] in FREE and name.startswith("_")), f"{file} imports {module}.{name}"
