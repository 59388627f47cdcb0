"""The house: floors, the package list, and help that answers at once."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ["controller", "runtime", "collect", "train"]
SOURCES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def imported_floors(path):
    """(floor, module) of every relative import of a file that leaves its own floor."""
    folder = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(name.name.split(".")[0] in (*FLOORS, "treewright", "cli") for name in node.names), path
        if isinstance(node, ast.ImportFrom):
            assert node.level or (node.module or "").split(".")[0] not in (*FLOORS, "treewright", "cli"), path
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - node.level + 1]
            module = [*base, *(node.module or "").split(".")]
            yield module[0], ".".join(module)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    for target, module in imported_floors(path):
        assert target in FLOORS[: floor + 1], f"{path} imports {module}"


def test_training_knows_no_language_model():
    allowed = ("controller.", "train.", "collect.trace")
    for path in (ROOT / "train").rglob("*.py"):
        for _, module in imported_floors(path):
            assert module.startswith(allowed), f"{path} imports {module}"


def test_the_package_list_names_every_folder_of_code():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {path.parent.relative_to(ROOT) for floor in (*FLOORS, "configs") for path in (ROOT / floor).rglob("*.py")}
    assert listed == {"treewright"} | {".".join(("treewright", *folder.parts)) for folder in found}


def test_the_root_module_is_a_docstring_only():
    assert [type(node) for node in ast.parse((ROOT / "__init__.py").read_text()).body] == [ast.Expr]


def test_only_the_roof_lies_at_the_root():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "cli.py"}


def test_bare_help_imports_nothing_heavy():
    code = (
        "import importlib.util, sys;"
        f"spec = importlib.util.spec_from_file_location('roof', {str(ROOT / 'cli.py')!r});"
        "roof = importlib.util.module_from_spec(spec); spec.loader.exec_module(roof);"
        "roof.main(['--help']); print(sorted({'torch', 'transformers', 'jsonargparse', 'numpy'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[0].startswith("usage: treewright COMMAND")
    assert output.splitlines()[-1] == "[]"
