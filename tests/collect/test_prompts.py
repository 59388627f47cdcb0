"""Prompts from every kind of source: what a row becomes, and which sentence names the one that becomes none."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from treewright.collect.prompts.sources import PromptConfig, load_prompts
from treewright.controller.errors import InputError


def test_the_reference_prompts_have_no_document_in_both_splits():
    splits = [load_prompts(PromptConfig(split=split, limit=1000)) for split in ("tune", "bench")]
    documents = [{prompt.document for prompt in prompts} for prompts in splits]
    assert not documents[0] & documents[1]
    assert [len(prompts) for prompts in splits] == [900, 84]


def test_a_limit_spreads_evenly_over_the_source(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(f"line {number}" for number in range(10)))
    prompts = load_prompts(PromptConfig(str(tmp_path / "lines.txt"), limit=5))
    assert [prompt.text for prompt in prompts] == ["line 0", "line 2", "line 4", "line 6", "line 8"]


def test_a_row_without_a_split_or_with_a_null_one_belongs_to_every_split(tmp_path):
    splits = [{}, {"split": "bench"}, {"split": "tune", "document": "d"}, {"split": None}]
    rows = [{"prompt": letter, **split} for letter, split in zip("abcd", splits, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prompts = load_prompts(PromptConfig(str(tmp_path / "rows.jsonl"), "bench"))
    assert [prompt.text for prompt in prompts] == ["a", "b", "d"]


CHAT = [{"role": "user", "content": "hi"}]
ANSWERED = [*CHAT, {"role": "assistant", "content": "hello"}]

TEXTS = {  # file: its content, texts
    "separators.txt": ("a\u2028b\nc\x0cd\x1ce\x85f\n", ["a\u2028b", "c\x0cd\x1ce\x85f"]),
    "carriage returns.txt": ("a\r\nb\rc\r\n", ["a", "b\rc"]),
    "blank lines.txt": ("a\n\n \nb\n\n", ["a", "b"]),
    "mark.txt": ("\ufeffa\nb\n", ["a", "b"]),
    "nul.txt": ("a\x00b\n", ["a\x00b"]),
    "UPPER.TXT": ("a\n", ["a"]),
    "separators.jsonl": ('{"prompt": "a\u2028b\x85c"}\n{"prompt": "d"}\n', ["a\u2028b\x85c", "d"]),
    "carriage returns.jsonl": ('{"prompt": "a"}\r\n{"prompt": "b"}\r\n', ["a", "b"]),
    "blank lines.jsonl": ('{"prompt": "a"}\n\n{"prompt": "b"}\n\n', ["a", "b"]),
    "mark.jsonl": ('\ufeff{"prompt": "a"}\n', ["a"]),
    "text.jsonl": ('{"text": "a"}\n{"prompt": "b", "text": "c"}\n{"prompt": null, "text": "d"}\n', ["a", "b", "d"]),
    "whole pair.jsonl": ('{"prompt": "\\ud83d\\ude00"}\n', ["\U0001f600"]),
    "other keys.jsonl": ('{"prompt": "a", "score": NaN}\n', ["a"]),
    "UPPER.JSONL": ('{"prompt": "a"}\n', ["a"]),
    "list.json": ('[{"prompt": "a"},\n {"text": "b"}]', ["a", "b"]),
    "lines.json": ('{"prompt": "a"}\n{"prompt": "b"}\n', ["a", "b"]),
    "header.csv": ("\ufeffprompt,document\r\na,1\r\n", ["a"]),
    "words.csv": ('text\nnull\nNA\n17\n"a, ""b""\nc\u2028d"\n', ["null", "NA", "17", 'a, "b"\nc\u2028d']),
    "gaps.csv": ("prompt,text\n,a\nb,\n", ["a", "b"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_gives_its_texts(tmp_path, name):
    content, texts = TEXTS[name]
    (tmp_path / name).write_bytes(content.encode())
    assert [prompt.text for prompt in load_prompts(PromptConfig(str(tmp_path / name)))] == texts


@pytest.mark.parametrize(
    ("names", "domain", "document"),
    [
        ({}, "text", "line 1"),
        ({"domain": None, "document": None}, "text", "line 1"),
        ({"domain": "code", "document": "a.py"}, "code", "a.py"),
        ({"document": 17}, "text", "17"),
    ],
    ids=str,
)
def test_a_row_names_its_domain_and_document_or_neither(tmp_path, names, domain, document):
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "a", **names}))
    (prompt,) = load_prompts(PromptConfig(str(tmp_path / "p.jsonl")))
    assert (prompt.domain, prompt.document, prompt.location) == (domain, document, f"{tmp_path / 'p.jsonl'} line 1")


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"messages": CHAT}, CHAT),
        ({"prompt": CHAT}, CHAT),
        ({"messages": ANSWERED}, CHAT),
        ({"messages": [*ANSWERED, *CHAT]}, [*ANSWERED, *CHAT]),
        ({"messages": [{**CHAT[0], "name": None}]}, CHAT),
        ({"messages": [{**CHAT[0], "name": "Ann"}]}, [{**CHAT[0], "name": "Ann"}]),
    ],
    ids=str,
)
def test_a_chat_keeps_its_messages_up_to_the_one_to_answer(tmp_path, row, messages):
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    (prompt,) = load_prompts(PromptConfig(str(tmp_path / "p.jsonl")))
    assert (prompt.text, list(prompt.messages)) == ("", messages)


REFUSED = {  # file: its content, what is said behind its name
    "utf-16.jsonl": ('{"prompt": "a"}'.encode("utf-16"), r"\('utf-8' codec .*store it as UTF-8"),
    "null.jsonl": ('{"prompt": "a"}\n{"prompt": null}', "line 2 has no 'prompt', 'text' or 'messages', or null there"),
    "nothing.jsonl": ('{"label": 1}', "line 1 has no 'prompt'"),
    "blank.jsonl": ('\n{"prompt": " "}', "line 2 has an empty 'prompt'"),
    "number.jsonl": ('{"prompt": 3}', "line 1: 'prompt' is a string or a list of messages, got int"),
    "array.jsonl": ('[{"prompt": "a"}]', "line 1 is no object with a key 'prompt'"),
    "cut.jsonl": ('{"prompt": "a"}\n{"prompt"', "line 2 is no JSON"),
    "deep.jsonl": ("[" * 100_000, "line 1 is no JSON"),
    "half a pair.jsonl": ('{"prompt": "\\ud83d a"}', "line 1: 'prompt' holds half of a surrogate pair"),
    "half a pair in a chat.jsonl": (
        '{"messages": [{"role": "user", "content": "\\udc00"}]}',
        "line 1: 'messages' holds half of a surrogate pair",
    ),
    "half a pair in a name.jsonl": ('{"prompt": "a", "domain": "\\udc00"}', "line 1: 'domain' holds half"),
    "document.jsonl": (
        '{"prompt": "a", "document": ["b"]}',
        "line 1: 'document' is a string or .* number, got list",
    ),
    "true document.jsonl": ('{"prompt": "a", "document": true}', "'document' .* got bool"),
    "domain.jsonl": ('{"prompt": "a", "domain": 1.5}', "'domain' .* got float"),
    "split.jsonl": ('{"prompt": "a", "split": {}}', "'split' .* got dict"),
    "messages.jsonl": ('{"messages": "a"}', "'messages' is a list of messages, got str"),
    "no role.jsonl": ('{"messages": [{"content": "a"}]}', "every message of 'messages' has a 'role' and a 'content'"),
    "parts.jsonl": ('{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "every message"),
    "strings.jsonl": ('{"prompt": ["a"]}', "every message of 'prompt'"),
    "no messages.jsonl": ('{"messages": []}', "holds no message to answer"),
    "answer alone.jsonl": ('{"messages": [{"role": "assistant", "content": "a"}]}', "holds no message to answer"),
    "empty.txt": ("", "holds no prompts"),
    "empty.json": ("[]", "holds no prompts"),
    "cut.json": ('[{"prompt": "a"},', "is no JSON"),
    "strings.json": ('["a"]', "entry 1 is no object"),
    "columns.csv": ("a,b\n1,2\n", "has the columns a, b, but a column 'prompt', 'text' or 'messages' is needed"),
    "empty.csv": ("", "has the columns"),
    "wide.csv": ("prompt\na,b\n", "row 1 has more cells than the header"),
    "empty cell.csv": ("prompt,domain\n,b\n", "row 1 has no 'prompt'"),
    "quotes.csv": ('prompt\n"a"b\n', "is no CSV behind line 1"),
    "bad.parquet": ("PAR1" + "x" * 100, "Parquet magic bytes not found"),
    "page.md": ("a\n", r"files of prompts end in \.txt, \.jsonl, \.json, \.csv, \.parquet"),
    "no suffix": ("a\n", "files of prompts end in"),
    "split.csv": ("prompt,split\na,train\nb,test\n", "has no prompts of split 'tune'; its splits are test, train"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_prompt_is_refused_by_name(tmp_path, name):
    content, complaint = REFUSED[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=f"{name} ?.*{complaint}") as refusal:
        load_prompts(PromptConfig(str(tmp_path / name)))
    assert "\n" not in str(refusal.value)


def test_a_cell_too_long_for_csv_is_a_sentence(tmp_path):
    (tmp_path / "long.csv").write_text("prompt\n" + "a" * (csv.field_size_limit() + 1))
    with pytest.raises(InputError, match=r"is no CSV behind line 1 \(field larger"):
        load_prompts(PromptConfig(str(tmp_path / "long.csv")))


@pytest.mark.parametrize("name", ["missing.txt", "missing.jsonl", "missing.parquet", "missing"])
def test_a_file_that_does_not_exist_is_a_sentence(tmp_path, name):
    with pytest.raises(InputError, match=f"cannot be read from .*{name}"):
        load_prompts(PromptConfig(str(tmp_path / name)))


def dataset(folder, **columns):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "train-00000.parquet")
    return PromptConfig(str(folder), "train")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where `datasets` keeps what it has read."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_dataset_gives_prompts_by_the_same_keys(tmp_path, cache):
    config = dataset(
        tmp_path / "mixed",
        prompt=pa.array(["a", None, None]),
        text=pa.array(["x", "b", None]),
        messages=pa.array([None, None, ANSWERED]),
        document=pa.array([1, 2, None]),
    )
    prompts = load_prompts(config)
    assert [(prompt.text, list(prompt.messages)) for prompt in prompts] == [("a", []), ("b", []), ("", CHAT)]
    assert [(prompt.domain, prompt.document) for prompt in prompts] == [
        (config.source, "1"),
        (config.source, "2"),
        (config.source, "row 2"),
    ]


def test_a_parquet_file_is_read_without_its_folder(tmp_path):
    dataset(tmp_path, text=pa.array(["a", "b"]))
    prompts = load_prompts(PromptConfig(str(tmp_path / "train-00000.parquet")))
    assert [(prompt.text, prompt.document) for prompt in prompts] == [("a", "row 1"), ("b", "row 2")]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (["a", None], "row 1 has no 'prompt', 'text' or 'messages'"),
        (["a", ""], "row 1 has an empty 'text'"),
        ([1, 2], "row 0: 'text' is a string or a list of messages, got int"),
    ],
    ids=str,
)
def test_a_row_of_a_dataset_that_is_no_prompt_is_refused_by_name(tmp_path, cache, values, complaint):
    with pytest.raises(InputError, match=f"dataset .*rows' {complaint}"):
        load_prompts(dataset(tmp_path / "rows", text=pa.array(values)))


def test_a_column_of_several_types_is_a_sentence(tmp_path, cache):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "a"}\n{"text": {"b": 1}}\n{"text": [1]}\n')
    with pytest.raises(InputError, match="row 1: 'text' is a string or a list of messages, got dict"):
        load_prompts(PromptConfig(str(tmp_path / "data"), "train"))


def test_a_split_that_the_dataset_lacks_is_refused_with_those_it_has(tmp_path, cache):
    config = dataset(tmp_path / "data", text=pa.array(["a"]))
    with pytest.raises(InputError, match="no prompts of split 'tune'; its splits are train"):
        load_prompts(PromptConfig(config.source))


def test_a_dataset_without_a_column_of_prompts_is_refused(tmp_path, cache):
    with pytest.raises(InputError, match=r"has the columns label, but a column 'prompt', .* is needed"):
        load_prompts(dataset(tmp_path / "data", label=pa.array([1])))


def test_damaged_and_empty_folders_are_a_sentence(tmp_path, cache):
    config = dataset(tmp_path / "data", text=pa.array(["a"]))
    (tmp_path / "data" / "train-00000.parquet").write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(InputError, match="Parquet magic bytes"):
        load_prompts(config)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="doesn't contain any data files"):
        load_prompts(PromptConfig(str(tmp_path / "empty"), "train"))


@pytest.mark.parametrize(("field", "value"), [("limit", 0), ("limit", -1), ("source", " "), ("split", "")])
def test_settings_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"prompts.{field} is"):
        PromptConfig(**{field: value})
