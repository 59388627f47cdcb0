"""A pair is made of one library with one set of settings, or refused before anything is trained."""

import json

import pytest
from treewright import cli

FIT = {"target_steps": 50, "drafter_steps": 50, "batch_size": 1, "window": 16}
SMALL = [word for name, value in FIT.items() for word in (f"--fit.{name}", str(value))]


def write_library(folder, count):
    """So many modules, long enough in each domain; with forty some are held out."""
    folder.mkdir()
    function = 'def f{}(a, b):\n    """Adds two numbers that were given, and does nothing else."""\n    return a\n'
    for number in range(count):
        functions = "".join(function.format(each) for each in range(30))
        (folder / f"m{number}.py").write_text(f'"""{f"About module {number}. " * 60}"""\n{functions}')
    return folder


def refused(arguments, capsys):
    assert cli.main(["make-pair", *map(str, arguments)]) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("count", "complaint"),
    [(0, "holds no Python modules"), (1, "too small to be split into a training part")],
)
def test_a_library_too_small_is_refused_before_anything_is_written(tmp_path, capsys, count, complaint):
    library = write_library(tmp_path / "library", count)
    assert complaint in refused(["--out", tmp_path / "pair", "--library", library, *SMALL], capsys)
    assert not (tmp_path / "pair").exists()


def test_an_unfinished_pair_of_other_settings_is_not_gone_on_with(tmp_path, capsys):
    library, scratch = write_library(tmp_path / "library", 40), tmp_path / "pair" / "scratch"
    (scratch / "target").mkdir(parents=True)
    (scratch / "target" / "last.ckpt").write_bytes(b"")
    (scratch / "identity.json").write_text(json.dumps({"fit": FIT}))
    said = refused(["--out", tmp_path / "pair", "--library", library, *SMALL], capsys)
    assert "holds an unfinished pair of other settings or another library" in said


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, capsys):
    library = write_library(tmp_path / "library", 40)
    (tmp_path / "file").write_text("")
    said = refused(["--out", tmp_path / "file", "--library", library, *SMALL], capsys)
    assert "cannot be written (Not a directory)" in said
