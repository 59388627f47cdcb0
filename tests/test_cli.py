"""Every command on the reference pair, and bad input: one sentence, exit code 2, nothing half-written."""

import errno
import json
import shutil

import faults
import pytest
import torch
from checkpoints import reseal
from safetensors.torch import load_file, save_file
from treewright import cli
from treewright.collect.trace import TABLES, TraceFolder
from treewright.controller import files
from treewright.runtime.pair import PairConfig, load_pair
from treewright.runtime.pair_config import reference_folder

FEW = ["--pair.threads", "1", "--prompts.limit", "6", "--texts.max_tokens", "12", "--profile.repeats", "1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with small traces and the selector trained on them."""
    folder = tmp_path_factory.mktemp("runs")
    assert cli.main(["collect", "--out", str(folder / "traces"), *FEW]) == 0
    assert cli.main(["train", "--traces", str(folder / "traces"), "--out", str(folder / "selector"), *EPOCHS]) == 0
    return folder


EPOCHS = ["--fit.max_epochs", "2"]
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")  # of an added token


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_generate_continues_a_prompt_with_the_trained_selector(runs, capsys):
    arguments = ["generate", "--prompt", "def f(", "--text.max_tokens", "12", "--pair.threads", "1"]
    assert cli.main(arguments) == 0
    plain = last_line(capsys)
    assert cli.main([*arguments, "--speculation.selector", str(runs / "selector")]) == 0
    learned = last_line(capsys)
    assert cli.main([*arguments, "--speculation.tree", "[(0,), (1,), (0, 0)]"]) == 0
    static = last_line(capsys)
    assert plain["text"] == learned["text"] == static["text"]
    assert static["steps"] < plain["steps"] == 12


def test_profile_measures_every_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sizes = ["--sizes.repeats", "1", "--sizes.nodes", "[0, 2]", "--sizes.widths", "[1, 2]", "--sizes.contexts", "[32]"]
    assert cli.main(["profile", "--pair.threads", "1", "--sizes.batches", "[1, 2]", *sizes]) == 0
    table = last_line(capsys)
    assert all(ms > 0 for batch in table["verify_ms"] for ms in batch[0])
    assert [len(batch[0]) for batch in table["draft_ms"]] == [2, 2]


def test_profile_of_several_thread_counts_settles_on_the_fastest(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    sizes = ["--sizes.repeats", "1", "--sizes.nodes", "[0]", "--sizes.widths", "[1]", "--sizes.contexts", "[32]"]
    try:
        assert cli.main(["profile", "--threads", "[1, 2]", *sizes]) == 0
        fastest = int(last_line(capsys)["key"]["threads"])
        torch.set_num_threads(3 - fastest)
        load_pair(PairConfig())
        assert torch.get_num_threads() == fastest
        monkeypatch.setenv("OMP_NUM_THREADS", str(3 - fastest))  # the user's word counts for more
        torch.set_num_threads(3 - fastest)
        load_pair(PairConfig())
        assert torch.get_num_threads() == 3 - fastest
    finally:
        torch.set_num_threads(before)
    assert cli.main(["profile", "--threads", "[0]", *sizes]) == 2
    assert "threads is between 1 and " in capsys.readouterr().err


def test_a_table_that_cannot_be_stored_is_refused_after_profiling(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    sizes = ["--sizes.repeats", "1", "--sizes.nodes", "[0]", "--sizes.widths", "[1]", "--sizes.contexts", "[32]"]
    assert cli.main(["profile", "--pair.threads", "1", *sizes]) == 2
    output = capsys.readouterr()
    assert "cannot be written (Not a directory)" in output.err.splitlines()[-1]
    assert output.out == ""


def test_bench_ends_with_one_json_document_on_every_policy(runs, capsys):
    small = ["--measure.tune_prompts", "0", "--measure.bench_prompts", "2", "--profile.repeats", "1"]
    small += ["--measure.assisted_prompts", "0"]
    arguments = ["bench", "--selector", str(runs / "selector"), "--pair.threads", "1", *small]
    assert cli.main([*arguments, "--measure.temperatures", "[1.0]", "--measure.max_tokens", "6"]) == 0
    of_temperature = last_line(capsys)["temperatures"]["1"]
    assert of_temperature["table_fit"].keys() == {"drafting", "verifying", "fits"}
    assert of_temperature["learned_over_fastest_other"]["ratio"] > 0
    report = of_temperature["policies"]
    named = {(row["policy"], row["scheme"]) for row in report}
    families = {"chain", "static", "static, thresholds", "Sequoia", "EMA length", "online threshold"}
    families |= {"EAGLE-2", "OPT-Tree", "choice, confidence", "choice, fused"}
    assert named == {(family, scheme) for family in families for scheme in ("coupled", "fixed")} | {
        ("learned", "coupled"),
        ("learned, not recalibrated", "coupled"),
        ("learned, guarded", "coupled"),
    } | {(family, "-") for family in ("plain", "transformers.generate", "transformers assisted")}
    assert all(row["texts_unlike_plain"] == 0 for row in report if "texts_unlike_plain" in row)


def test_collect_again_changes_nothing(runs, capsys):
    before = {path.name: path.read_bytes() for path in (runs / "traces").iterdir()}
    assert cli.main(["collect", "--out", str(runs / "traces"), *FEW]) == 0
    assert {path.name: path.read_bytes() for path in (runs / "traces").iterdir()} == before


def test_two_machines_collect_what_one_does(runs, tmp_path, capsys):
    machines = [tmp_path / "1", tmp_path / "2"]
    for number, machine in enumerate(machines, 1):
        assert cli.main(["collect", "--out", str(machine), "--shard", f"{number}/2", *FEW]) == 0
    capsys.readouterr()
    merged = ["collect", "--out", tmp_path / "merged", "--merge"]
    refused([*merged, "[]"], "merge names nothing", capsys)
    refused([*merged, f"[{machines[1]}]"], "of 2 shards 1 is missing", capsys)
    assert cli.main([*map(str, merged), f"[{machines[0]}, {machines[1]}]"]) == 0
    both, alone = (TraceFolder.open(path) for path in (tmp_path / "merged", runs / "traces"))
    assert both.files.keys() == alone.files.keys()
    for table in TABLES:
        columns = [name for name in TABLES[table].names if name != "decode_ms"]
        ours, theirs = (folder.read(table, columns).to_pylist() for folder in (both, alone))
        assert sorted(ours, key=lambda row: row["text_id"]) == theirs


def test_traces_without_tokens_and_names_train_a_selector(tmp_path, capsys):
    arguments = ["collect", "--out", str(tmp_path / "traces"), "--privacy", "features", *FEW]
    assert cli.main(arguments) == 0
    traces = TraceFolder.open(tmp_path / "traces")
    assert "tokens" not in traces.read("texts").column_names
    assert all(name.startswith("document ") for name in traces.read("texts")["document"].to_pylist())
    assert cli.main(["train", "--traces", str(traces.path), "--out", str(tmp_path / "selector"), *EPOCHS]) == 0


@pytest.mark.parametrize("failing", [1, 30])
def test_a_full_disk_is_a_sentence_and_the_run_resumes(failing, runs, tmp_path, monkeypatch, capsys):
    arguments = ["collect", "--out", str(tmp_path / "traces"), *FEW, "--batch", "2"]
    monkeypatch.setattr(files, "os", faults.FailingOs(failing, errno.ENOSPC))
    assert cli.main(arguments) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(files, "os", faults.os)
    assert cli.main(arguments) == 0
    assert last_line(capsys)["texts"] == 6


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--privacy", "odd"], "privacy is one of tokens, features"),
        (["--shard", "3/2"], "a shard is written i/n"),
        (["--shard", "7/7"], "6 texts cannot be shared among 7 machines"),
    ],
)
def test_an_impossible_collection_is_refused(arguments, complaint, tmp_path, capsys):
    refused(["collect", "--out", tmp_path / "out", *FEW, *arguments], complaint, capsys)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def damaged(runs, tmp_path):
    """Copies of the traces and the selector, to be spoilt."""
    shutil.copytree(runs, tmp_path / "copy")
    return tmp_path / "copy"


def refused(arguments, complaint, capsys):
    """The command exits with 2 and one sentence that holds `complaint`."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert complaint in output.err
    assert "Traceback" not in output.err
    assert len(output.err.strip().splitlines()) == 1
    assert output.out == ""


def test_missing_prompts_are_refused(tmp_path, capsys):
    source = tmp_path / "none.jsonl"
    refused(["collect", "--out", tmp_path / "out", "--prompts.source", source], "cannot be read", capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff\xfe\x00bad", "UTF-8"),
        (b"not json\n", "line 1 is no JSON"),
        (b'{"label": "x"}\n', "line 1 has no 'prompt', 'text' or 'messages'"),
        (b'{"prompt": "  "}\n', "line 1 has an empty 'prompt'"),
        (b"", "no prompts"),
        (b'{"prompt": "x", "split": "other"}\n', "no prompts of split 'tune'"),
    ],
)
def test_unreadable_prompts_are_refused(content, complaint, tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_bytes(content)
    arguments = ["collect", "--out", tmp_path / "out", "--prompts.source", tmp_path / "bad.jsonl"]
    refused(arguments, complaint, capsys)
    assert not (tmp_path / "out").exists()


def test_a_prompt_beyond_the_context_is_refused_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "long.txt").write_text("word " * 4000)
    arguments = ["collect", "--out", tmp_path / "out", "--prompts.source", tmp_path / "long.txt"]
    refused(arguments, "context holds 2048", capsys)
    assert not (tmp_path / "out").exists()


def test_an_empty_prompt_is_refused(capsys):
    refused(["generate", "--prompt", ""], "prompt is empty", capsys)


def test_different_tokenizers_are_refused(tmp_path, capsys):
    shutil.copytree(reference_folder() / "drafter", tmp_path / "other")
    tokenizer = json.loads((tmp_path / "other" / "tokenizer.json").read_text())
    first, second = list(tokenizer["model"]["vocab"])[300:302]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(tokenizer))
    arguments = ["generate", "--prompt", "x", "--pair.drafter", tmp_path / "other"]
    refused(arguments, "different tokenizers", capsys)


def test_a_missing_model_is_refused(tmp_path, capsys):
    refused(["generate", "--prompt", "x", "--pair.target", tmp_path / "none"], "there is no folder", capsys)


def test_a_drafter_that_was_not_given_is_asked_for(tmp_path, capsys):
    shutil.copytree(reference_folder() / "target", tmp_path / "target")
    tokenizer = json.loads((tmp_path / "target" / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 4096, "content": "<new>", **dict.fromkeys(FLAGS, False)})
    (tmp_path / "target" / "tokenizer.json").write_text(json.dumps(tokenizer))
    arguments = ["generate", "--prompt", "x", "--pair.target", tmp_path / "target"]
    refused(arguments, "pair.drafter is not given", capsys)


def test_a_drafter_that_nothing_uses_is_said(tmp_path, capsys, caplog):
    drafter = str(reference_folder() / "drafter")
    assert cli.main(["generate", "--prompt", "x", "--pair.drafter", drafter, "--text.max_tokens", "1"]) == 0
    assert "nothing is drafted, for neither a selector nor a tree is asked for" in caplog.text


def test_no_traces_are_refused(tmp_path, capsys):
    refused(["train", "--traces", tmp_path, "--out", tmp_path / "out"], "is no trace folder", capsys)
    assert not (tmp_path / "out").exists()


def test_newer_traces_are_refused(damaged, capsys):
    manifest = json.loads((damaged / "traces" / "manifest.json").read_text())
    manifest["header"]["schema_version"] = 99
    (damaged / "traces" / "manifest.json").write_text(json.dumps(manifest))
    refused(["train", "--traces", damaged / "traces", "--out", damaged / "out"], "trace schema 99", capsys)
    assert not (damaged / "out").exists()


def test_a_flipped_bit_in_a_trace_is_refused(damaged, capsys):
    shard = damaged / "traces" / "positions-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    refused(["train", "--traces", damaged / "traces", "--out", damaged / "out"], "SHA-256", capsys)


def test_a_foreign_output_folder_is_left_alone(runs, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    refused(["train", "--traces", runs / "traces", "--out", tmp_path], "is no checkpoint folder", capsys)
    refused(["collect", "--out", tmp_path, *FEW], "is no trace folder", capsys)
    refused(["checkpoint", "verify", "--folder", tmp_path], "is no checkpoint folder", capsys)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_traces_of_another_run_are_not_mixed(runs, capsys):
    refused(["collect", "--out", runs / "traces", *FEW, "--texts.seed", "77"], "run, which differs in texts;", capsys)
    refused(["collect", "--out", runs / "traces", *FEW, "--pair.dtype", "bfloat16"], "which differs in dtype;", capsys)


def test_traces_of_other_weights_under_the_same_names_are_not_mixed(runs, tmp_path, capsys):
    for role in ("target", "drafter"):
        shutil.copytree(reference_folder() / role, tmp_path / role)
    weights = load_file(tmp_path / "drafter" / "model.safetensors")
    save_file(
        {name: weight + 0.01 for name, weight in weights.items()},
        tmp_path / "drafter" / "model.safetensors",
        metadata={"format": "pt"},
    )
    pair = ["--pair.target", tmp_path / "target", "--pair.drafter", tmp_path / "drafter"]
    refused(["collect", "--out", runs / "traces", *FEW, *pair], "another run, which differs in drafter_sha256;", capsys)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda config: config.update(schema_version=99), "schema 99"),
        (lambda config: config.update(feature_version=99), "needs feature set 99"),
        (lambda config: config.update(tokenizer_sha256="0" * 64), "tokenizer differs"),
    ],
)
def test_a_foreign_or_newer_checkpoint_is_refused(change, complaint, damaged, capsys):
    reseal(damaged / "selector", change)
    arguments = ["generate", "--prompt", "x", "--speculation.selector", damaged / "selector"]
    refused(arguments, complaint, capsys)


def test_an_edited_checkpoint_is_refused(damaged, capsys):
    config = damaged / "selector" / "config.json"
    config.write_text(config.read_text().replace('"budget": 32', '"budget": 33'))
    refused(["serve", "--port", "0", "--speculation.selector", damaged / "selector"], "its own SHA-256", capsys)


def test_a_damaged_checkpoint_is_refused(damaged, capsys):
    graph = damaged / "selector" / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    arguments = ["generate", "--prompt", "x", "--speculation.selector", damaged / "selector"]
    refused(arguments, "SHA-256", capsys)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--pair.dtype", "int3"], "dtype is one of"),
        (["--pair.device", "cuda"], "no CUDA"),
        (["--text.temperature", "-1"], "temperature"),
        (["--text.max_tokens", "0"], "max_tokens is at least 1"),
        (["--speculation.tree", "[(0, 0)]"], "without its parent"),
        (["--speculation.tree", "[(0,)]", "--speculation.scheme", "odd"], "no drafting scheme"),
        (["--speculation.tree", "[(0,)]", "--speculation.selector", "x"], "choose one"),
        (["--speculation.selector", "nowhere"], "is no checkpoint folder"),
    ],
)
def test_an_impossible_option_is_refused(arguments, complaint, capsys):
    refused(["generate", "--prompt", "x", *arguments], complaint, capsys)


def test_an_unknown_command_is_refused(capsys):
    refused(["colect"], "no command is called 'colect'", capsys)


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion_knows_commands_and_their_options(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*cli.COMMANDS, "speculation.dynamic", "revision"):
        assert word in script


def test_completion_of_an_unknown_shell_is_refused(capsys):
    refused(["completion", "dash"], "give one shell of bash, zsh, fish", capsys)


def test_check_prints_what_goes_together(capsys):
    assert cli.main(["check"]) == 0
    assert last_line(capsys) == {"command": "check", "combinations": 270, "sound": 52}


def test_check_proves_a_sound_combination_and_shows_what_an_unsound_one_does(capsys):
    assert cli.main(["check", "--scheme", "iid-paths", "--verifier", "specinfer", "--growth", "stop-siblings"]) == 0
    proved = last_line(capsys)
    assert proved["sound"] is True
    assert proved["total_variation"] < 1e-12
    assert cli.main(["check", "--scheme", "iid-paths", "--verifier", "spectr", "--growth", "stop-siblings"]) == 0
    disproved = last_line(capsys)
    assert disproved["sound"] is False
    assert disproved["reason"].endswith("use verifier 'traversal' instead")
    assert disproved["total_variation"] > 1e-3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--scheme", "lucky"], "no drafting scheme is called 'lucky'"),
        (["--verifier", "lucky"], "no verifier is called 'lucky'"),
        (["--scheme", "iid-paths", "--verifier", "block", "--growth", "lucky"], "no growth rule is called 'lucky'"),
        (["--scheme", "coupled", "--verifier", "walk"], "check 'fixed'"),
        (["--scheme", "fixed", "--verifier", "walk", "--growth", "stop-siblings"], "take growth 'static'"),
        (["--scheme", "iid-paths", "--verifier", "block", "--toy.width", "9"], "too many to enumerate"),
        (["--scheme", "iid-paths", "--verifier", "block", "--toy.width", "0"], "toy.width is at least 1, got 0"),
        (["--scheme", "iid-paths", "--verifier", "block", "--toy.trunk", "0", "--toy.branch", "0"], "needs a level"),
        (["--scheme", "fixed", "--verifier", "walk", "--toy.branch", "1000000"], "too many to enumerate"),
        (["--scheme", "iid-paths", "--verifier", "block", "--toy.width", f"{10**400}"], "too many to enumerate"),
        (["--scheme", "iid-paths", "--growth", "stop-siblings"], "of one scheme with one verifier; give both"),
        (["--toy.models", "5"], "of one scheme with one verifier; give both"),
    ],
)
def test_an_impossible_check_is_refused(arguments, complaint, capsys):
    assert cli.main(["check", *arguments]) == 2
    output = capsys.readouterr()
    assert complaint in output.err.splitlines()[-1]
    assert output.out == ""


def test_bench_of_texts_side_by_side_reports_every_concurrency(runs, capsys):
    few = ["--measure.bench_prompts", "2", "--measure.temperatures", "[1.0]", "--measure.max_tokens", "4"]
    arguments = ["bench", "--selector", str(runs / "selector"), "--pair.threads", "1", "--profile.repeats", "1", *few]
    assert cli.main([*arguments, "--measure.concurrency", "[1, 3]"]) == 2
    assert "add them to profile.batches" in capsys.readouterr().err
    arguments += ["--measure.concurrency_rounds", "1"]
    assert cli.main([*arguments, "--measure.concurrency", "[1, 3]", "--profile.batches", "[1, 4]"]) == 0
    rows = last_line(capsys)["temperatures"]["1"]
    ways = ["plain", "transformers.generate", "learned", "learned, guarded"]
    assert [(row["concurrency"], row["way"]) for row in rows] == [(number, way) for number in (1, 3) for way in ways]
    assert all(row["texts_unlike_plain"] == 0 for row in rows if "texts_unlike_plain" in row)


@pytest.mark.parametrize("settings", ["server:", "server: 3", "pair: {llamacpp: null}", "speculation: {memory: 0.5}"])
def test_a_group_of_settings_that_is_no_group_is_refused(settings, tmp_path, capsys):
    (tmp_path / "serve.yaml").write_text(f"port: -1\n{settings}\n")
    assert cli.main(["serve", "--config", str(tmp_path / "serve.yaml")]) == 2
    assert "; give some of its settings or leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings", ["max_batch: null", "server: {allowed_hosts: null}", "speculation: {verifier: null}"]
)
def test_null_is_refused_of_a_setting_that_takes_none(settings, tmp_path, capsys):
    (tmp_path / "serve.yaml").write_text(f"{settings}\n")
    assert cli.main(["serve", "--config", str(tmp_path / "serve.yaml")]) == 2
    assert "Got value: None" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "a\nb", "\udcff"])
def test_a_served_name_that_no_request_can_say_is_refused(name, capsys):
    assert cli.main(["serve", "--served_model_name", name]) == 2
    assert f"requests cannot name a model {name!r}; give a served_model_name" in capsys.readouterr().err
