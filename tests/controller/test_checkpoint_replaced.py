"""A checkpoint is replaced whole or not at all, wherever the process that replaces it dies."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import CONFIG, files, write
from treewright.controller.checkpoint import Checkpoint, save_checkpoint
from treewright.controller.checkpoint.folder import retired_name
from treewright.controller.errors import InputError

NEW = replace(CONFIG, pair="newer")
# Renames and removals of one replacement: an older leftover goes, the old one is renamed, the new one takes its name,
# the old one goes, the temporary folder goes.
NUM_CALLS = 5


def save_new(folder):
    save_checkpoint(folder, NEW, files(), "# newer")


def dying_at(number, folder):
    """Replace the checkpoint in a child process that is gone just before its n-th rename or removal; its exit code."""
    child = os.fork()
    if child == 0:
        calls = 0

        def counted(real):
            def call(*arguments, **keywords):
                nonlocal calls
                calls += 1
                if calls == number:
                    os._exit(9)
                return real(*arguments, **keywords)

            return call

        Path.rename, shutil.rmtree = counted(Path.rename), counted(shutil.rmtree)
        save_new(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("number", range(1, NUM_CALLS + 1))
def test_after_a_crash_anywhere_either_the_old_or_the_new_one_is_complete(number, tmp_path):
    folder = write(tmp_path / "selector")
    assert dying_at(number, folder) == 9
    assert Checkpoint.read(folder).config.pair == ("newer" if number > 3 else CONFIG.pair)
    save_new(folder)
    assert Checkpoint.read(folder).config == NEW
    leftovers = {path.name for path in tmp_path.iterdir()} - {"selector"}
    assert all(name.startswith(".selector-") for name in leftovers)  # what was being filled; nothing reads it


def test_a_replacement_makes_a_known_number_of_renames_and_removals(tmp_path):
    assert dying_at(NUM_CALLS + 1, write(tmp_path / "selector")) == 0


def test_a_disk_that_refuses_the_new_one_leaves_the_old_one(tmp_path, monkeypatch):
    folder = write(tmp_path / "selector")
    real = Path.rename

    def rename(path, target):
        if path.name.startswith(".selector-"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(InputError, match="cannot be written \\(No space left on device\\); choose another folder"):
        save_new(folder)
    assert Checkpoint.read(folder).config == CONFIG
    assert [path.name for path in tmp_path.iterdir()] == ["selector"]


def test_an_empty_folder_is_taken_and_a_link_is_followed(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    save_new(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "empty" / "config.json").read_text())["pair"] == "newer"
    (tmp_path / "empty").rename(retired_name(tmp_path / "empty"))
    assert Checkpoint.read(tmp_path / "link").config == NEW


def test_a_folder_with_a_long_name_can_be_replaced(tmp_path):
    folder = write(tmp_path / ("n" * 250))
    save_new(folder)
    assert Checkpoint.read(folder).config == NEW
