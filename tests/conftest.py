"""Binds the name `treewright` to this checkout, whatever is installed."""

import os
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="treewright-tests-")  # the user's latency tables stay untouched
ROOT = Path(__file__).resolve().parent.parent
spec = spec_from_file_location("treewright", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
assert spec is not None
assert spec.loader is not None
package = module_from_spec(spec)
sys.modules["treewright"] = package
spec.loader.exec_module(package)
sys.path.insert(0, str(ROOT / "tests"))
torch.set_num_threads(1)  # tiny models run fastest on one


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where there is one: the tests are of the order of writes, not of the disk's speed."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)
