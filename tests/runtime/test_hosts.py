"""The `engines` command: what is installed, and what to do where something is not."""

import json
import re
from dataclasses import replace

import pytest
from treewright import cli
from treewright.runtime.hosts import HOSTS

TRANSFORMERS = HOSTS[0]


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
