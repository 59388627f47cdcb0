"""Prompts from every kind of source."""

import json

import pytest
from treewright.collect.prompts import PromptConfig, load_prompts


def test_the_reference_prompts_have_no_document_in_both_splits():
    splits = [load_prompts(PromptConfig(split=split, limit=1000)) for split in ("tune", "bench")]
    documents = [{prompt.document for prompt in prompts} for prompts in splits]
    assert not documents[0] & documents[1]
    assert [len(prompts) for prompts in splits] == [900, 84]


def test_a_limit_spreads_evenly_over_the_source(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(f"line {number}" for number in range(10)))
    prompts = load_prompts(PromptConfig(str(tmp_path / "lines.txt"), limit=5))
    assert [prompt.text for prompt in prompts] == ["line 0", "line 2", "line 4", "line 6", "line 8"]


def test_a_line_without_a_split_belongs_to_every_split(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b", "split": "bench"}, {"prompt": "c", "split": "tune", "document": "d"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prompts = load_prompts(PromptConfig(str(tmp_path / "rows.jsonl"), "bench"))
    assert [prompt.text for prompt in prompts] == ["a", "b"]


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    return tmp_path / "data"


def test_a_dataset_gives_its_text_column(dataset):
    prompts = load_prompts(PromptConfig(str(dataset), "train"))
    assert [prompt.text for prompt in prompts] == ["one", "two"]


def test_a_split_the_dataset_lacks_is_refused(dataset):
    with pytest.raises(ValueError, match="cannot be read"):
        load_prompts(PromptConfig(str(dataset), "tune"))


def test_a_dataset_without_a_text_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"label": 1}\n')
    with pytest.raises(ValueError, match="column 'prompt' or 'text'"):
        load_prompts(PromptConfig(str(tmp_path), "train"))


def test_an_empty_limit_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        load_prompts(PromptConfig(limit=0))
