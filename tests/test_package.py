"""The house: floors, the package list, and help that answers at once."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

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


def test_the_root_module_imports_nothing_of_ours_until_a_public_name_is_used():
    code = (
        "import importlib.util as u, sys;"
        f"spec = u.spec_from_file_location('treewright', {str(ROOT / '__init__.py')!r},"
        f" submodule_search_locations=[{str(ROOT)!r}]);"
        "sys.modules['treewright'] = package = u.module_from_spec(spec); spec.loader.exec_module(package);"
        "heavy = {'torch', 'transformers', 'jsonargparse', 'numpy'};"
        "print(sorted(name for name in sys.modules if name.startswith('treewright.') or name in heavy));"
        "print(all(hasattr(package, name) for name in package.__all__), hasattr(package, 'lod'))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["[]", "True False"]


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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from the tracked files alone."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_contains_all_code_and_every_data_file_and_nothing_else(wheel):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shipped = {
        name for name in listed.splitlines() if name.startswith((*[f"{floor}/" for floor in FLOORS], "configs/"))
    }
    shipped |= {"__init__.py", "cli.py", "py.typed"}
    packed = {name.removeprefix("treewright/") for name in ZipFile(wheel).namelist() if name.startswith("treewright/")}
    assert packed == shipped


@pytest.mark.slow
def test_the_wheel_generates_from_another_folder(wheel, tmp_path):
    target = tmp_path / "site"
    options = ["--no-deps", "--quiet", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options], check=True)
    arguments = ["generate", "--prompt", "def main(", "--text.max_tokens", "4", "--pair.threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(target), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, str(target / "bin" / "treewright"), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout.splitlines()[-1])["tokens"] == 4


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed; make docs installs it")
def test_the_site_builds_without_a_warning(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)], cwd=ROOT, check=True
    )
