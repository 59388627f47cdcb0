"""The latency table is a staircase, stored and read back whole."""

import errno
import json
import resource
from dataclasses import replace
from itertools import count

import faults
import pytest
from treewright.controller import latency
from treewright.controller.errors import InputError
from treewright.controller.latency import LatencyTable

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
        monkeypatch.setattr(latency, "os", faults.FailingOs(failing, errno.ENOSPC))
        try:
            TABLE.save(tmp_path / "table.json")
            break
        except InputError as refusal:
            refusals.append(str(refusal))
        assert [path.name for path in tmp_path.iterdir()] == ["table.json"]
        assert LatencyTable.load(tmp_path / "table.json") == OLDER
    assert len(refusals) == 2  # the file reaches the disk, then takes its name
    assert all("cannot be written (No space left on device)" in refusal for refusal in refusals)
    assert LatencyTable.load(tmp_path / "table.json") == TABLE


def test_a_place_that_cannot_be_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        TABLE.save(tmp_path / "file" / "table.json")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("not json", "cannot|no latency table"), ("{}", "no latency table"), ('{"schema_version": 99}', "schema 99")],
)
def test_a_damaged_or_newer_table_is_refused(tmp_path, content, complaint):
    (tmp_path / "table.json").write_text(content)
    with pytest.raises(ValueError, match=complaint):
        LatencyTable.load(tmp_path / "table.json")


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan")])
def test_a_table_with_a_price_that_no_step_can_have_is_refused(tmp_path, price):
    replace(TABLE, root_ms=((1.2, price), (3.2, 3.7))).save(tmp_path / "table.json")
    with pytest.raises(InputError, match="a price is not above 0"):
        LatencyTable.load(tmp_path / "table.json")


def test_a_table_with_a_missing_field_is_refused(tmp_path):
    fields = TABLE.as_dict()
    del fields["nodes"]
    (tmp_path / "table.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="no latency table can be read"):
        LatencyTable.load(tmp_path / "table.json")
