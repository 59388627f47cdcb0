"""A pair is made of one library with one set of settings, or refused before anything is trained."""

import json
from typing import Any

import pytest
from tiny import SIZES as TINY
from tiny import network
from transformers import LlamaConfig, LlamaForCausalLM
from treewright import cli
from treewright.collect.make_pair.corpus import read_documents
from treewright.collect.make_pair.tokenizer import train_tokenizer
from treewright.runtime.pair import PairConfig, load_pair

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


def test_a_middle_model_is_distilled_from_a_target_and_has_its_tokenizer(tmp_path, capsys):
    library = write_library(tmp_path / "library", 40)
    sizes_of_target: dict[str, Any] = TINY | {"vocab_size": 300}
    target = LlamaForCausalLM(LlamaConfig(**sizes_of_target))
    target.save_pretrained(tmp_path / "target")
    train_tokenizer(read_documents(library), 300).save_pretrained(tmp_path / "target")
    size = {"num_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 1, "num_key_value_heads": 1}
    arguments = ["--out", tmp_path / "middle", "--library", library, "--middle", tmp_path / "target"]
    sizes = [word for name, value in size.items() for word in (f"--shape.middle.{name}", value)]
    assert cli.main(["make-pair", *map(str, [*arguments, *sizes]), *SMALL[2:]]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["size"] == size
    assert 0 < report["overlap"] <= 1
    middle = load_pair(PairConfig(str(tmp_path / "target"), str(tmp_path / "middle"))).drafter
    assert sum(weights.numel() for weights in network(middle).parameters()) == report["parameters"]
    assert "with --middle the following does nothing: shape.vocabulary_size, prompts" in refused(
        [*arguments, "--shape.vocabulary_size", 400, "--prompts.tune", 3], capsys
    )


def test_the_size_of_a_middle_that_is_not_trained_is_refused(tmp_path, capsys):
    said = refused(["--out", tmp_path / "pair", "--shape.middle.num_layers", 3], capsys)
    assert "without --middle the following does nothing: shape.middle" in said
