"""The latency table is a staircase, stored and read back whole."""

import errno
import json
import resource
from dataclasses import replace
from itertools import count

import faults
import pytest
from treewright.controller import files
from treewright.controller.errors import InputError
from treewright.controller.pricing.latency import LatencyTable

TABLE = LatencyTable(
    key={"pair": "toy", "threads": "1"},
    batches=(1, 4),
    contexts=(100, 200),
    root_ms=((1.2, 1.7), (3.2, 3.7)),
    widths=(1, 4),
    draft_ms=(((1.0, 2.0), (1.5, 2.5)), ((3.0, 4.0), (3.5, 4.5))),
    nodes=(0, 2, 4),
    verify_ms=(((10.0, 12.0, 11.0), (20.0, 22.0, 24.0)), ((30.0, 32.0, 34.0), (40.0, 42.0, 44.0))),
)


def test_a_size_between_two_measured_ones_costs_as_much_as_the_larger():
    assert TABLE.verify_costs(4, batch=1, context=100).tolist() == [10.0, 12.0, 12.0, 11.0, 11.0]


def test_the_last_slope_is_carried_on_but_never_falls():
    assert TABLE.verify_costs(6, batch=1, context=150).tolist() == [20.0, 22.0, 22.0, 24.0, 24.0, 25.0, 26.0]
    assert TABLE.verify_costs(6, batch=1, context=100)[-1] == 11.0


def test_batch_and_context_take_the_next_measured_bucket():
    assert TABLE.draft_costs(1, level=1, batch=2, context=101).tolist() == [0.0, 3.5]
    assert TABLE.draft_costs(1, level=1, batch=9, context=999).tolist() == [0.0, 3.5]


@pytest.mark.parametrize(
    ("num_unread", "batch", "context", "ms"),
    [
        (0, 1, 100, 10.0),
        (1, 1, 200, 21.0),
        (0, 2, 101, 20.0 + 20.0 / 3),
        (6, 3, 150, (22.0 + 2 * 42.0) / 3),  # two tokens a text
        (32, 4, 200, 48.0),
        (6, 1, 100, 11.0),
        (0, 7, 999, 60.0),
    ],
)
def test_a_plain_step_lies_on_a_line_between_measured_sizes(num_unread, batch, context, ms):
    assert TABLE.plain_ms(num_unread, batch=batch, context=context) == pytest.approx(ms)


def test_a_batch_is_measured_by_the_next_size_or_the_largest():
    assert [TABLE.measured_batch(batch) for batch in (1, 2, 4, 9)] == [1, 4, 4, 4]


def test_a_step_costs_its_levels_and_its_verification():
    assert TABLE.step_ms([1, 3], 2, batch=1, context=100) == 1.2 + 2.0 + 12.0
    assert TABLE.step_ms([], 0, batch=1, context=100) == 10.0


def test_a_stored_table_reads_back_equal(tmp_path):
    TABLE.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == TABLE


OLDER = replace(TABLE, contexts=(100, 300))


def test_a_write_cut_short_is_a_sentence_and_leaves_the_older_table_alone(tmp_path):
    OLDER.save(tmp_path / "table.json")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InputError, match=r"table.json cannot be written \(File too large\)"):
            TABLE.save(tmp_path / "table.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]
    assert LatencyTable.load(tmp_path / "table.json") == OLDER


def test_whichever_operation_fails_the_older_table_or_the_new_one_is_there(tmp_path, monkeypatch):
    OLDER.save(tmp_path / "table.json")
    refusals = []
    for failing in count(1):
        monkeypatch.setattr(files, "os", faults.FailingOs(failing, errno.ENOSPC))
        try:
            TABLE.save(tmp_path / "table.json")
            break
        except InputError as refusal:
            refusals.append(str(refusal))
        assert [path.name for path in tmp_path.iterdir()] == ["table.json"]
        assert LatencyTable.load(tmp_path / "table.json") in (OLDER, TABLE)
    assert len(refusals) == 6  # the file is made, filled and synced, takes its name, and its folder is synced
    assert all("cannot be written (No space left on device)" in refusal for refusal in refusals)
    assert LatencyTable.load(tmp_path / "table.json") == TABLE


def test_an_impossible_path_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        TABLE.save(tmp_path / "file" / "table.json")


def damaged(**changes):
    return json.dumps(TABLE.as_dict() | changes)


DAMAGED = {
    "cut off": (damaged()[:100], "Expecting"),
    "empty": ("", "Expecting value"),
    "not utf-8": (b"\xff\xfe", "codec|BOM|Expecting"),
    "a list": ("[]", "no JSON object"),
    "nested without end": ("[" * 100_000, "recursion"),
    "an older schema": (damaged(schema_version=1), "schema 1, this build reads"),
    "no schema": ("{}", "schema None"),
    "an unknown field": (damaged(colour="red"), "its fields are .*colour"),
    "a price of zero": (damaged(root_ms=[[1.2, 0.0], [3.2, 3.7]]), "root_ms is not 2x2 finite prices above 0"),
    "a negative price": (damaged(root_ms=[[1.2, -1.0], [3.2, 3.7]]), "root_ms"),
    "a price that is no number": (damaged(root_ms=[[1.2, float("nan")], [3.2, 3.7]]), "root_ms"),
    "an endless price": (damaged(root_ms=[[1.2, float("inf")], [3.2, 3.7]]), "root_ms"),
    "a price in words": (damaged(root_ms=[[1.2, "2"], [3.2, 3.7]]), "root_ms"),
    "a null price": (damaged(root_ms=[[1.2, None], [3.2, 3.7]]), "root_ms"),
    "a true price": (damaged(root_ms=[[1.2, True], [3.2, 3.7]]), "root_ms"),
    "too few batches": (damaged(draft_ms=[[[1.0, 2.0], [1.5, 2.5]]]), "draft_ms is not 2x2x2"),
    "too few contexts": (damaged(draft_ms=[[[1.0, 2.0]]] * 2), "draft_ms is not 2x2x2"),
    "too few nodes": (damaged(verify_ms=[[[10.0, 12.0]] * 2] * 2), "verify_ms is not 2x2x3"),
    "too flat": (damaged(verify_ms=[[10.0, 12.0]] * 2), "verify_ms is not 2x2x3"),
    "no sizes": (damaged(batches=[]), "batches of a latency table are ascending"),
    "sizes that fall": (damaged(contexts=[200, 100]), "contexts of a latency table are ascending"),
    "sizes twice": (damaged(widths=[1, 1]), "widths of a latency table are ascending"),
    "a width of nothing": (damaged(widths=[0, 4]), "widths of a latency table are ascending whole numbers from 1 up"),
    "a half size": (damaged(widths=[1, 2.5]), "widths"),
    "a size in words": (damaged(widths=[1, "4"]), "widths"),
    "sizes that are a number": (damaged(widths=4), "widths"),
    "no plain step": (damaged(nodes=[1, 2, 4]), "nodes of a latency table begin with 0"),
    "a key that is a list": (damaged(key=["toy"]), "key of a latency table"),
    "a key that counts": (damaged(key={"threads": 1}), "key of a latency table"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_is_refused(tmp_path, name):
    content, complaint = DAMAGED[name]
    (tmp_path / "table.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=f"(?s)no latency table can be read from .*{complaint}"):
        LatencyTable.load(tmp_path / "table.json")


@pytest.mark.parametrize("field", [name for name in TABLE.as_dict() if name != "schema_version"])
def test_a_table_with_a_missing_field_is_refused(tmp_path, field):
    fields = TABLE.as_dict()
    del fields[field]
    (tmp_path / "table.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="its fields are"):
        LatencyTable.load(tmp_path / "table.json")
