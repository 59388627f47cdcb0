"""A command uses the valid tables of the user cache, and reports the others once and ignores them."""

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from plans import TABLE
from treewright.controller.pricing.latency_cache import cache_path, stored_table

KEY = {"pair": "toy", "threads": "1"}
STORED = replace(TABLE, key=KEY)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_stored_table_is_found_by_its_key_alone(caplog):
    STORED.save(cache_path(KEY))
    assert stored_table(KEY) == STORED
    assert stored_table({**KEY, "threads": "2"}) is None
    assert not caplog.records


def test_a_cache_that_is_a_file_holds_nothing(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert stored_table(KEY) is None
    assert not caplog.records


@pytest.mark.parametrize("content", ["{", '{"schema_version": 1}', "[]"])
def test_a_table_that_cannot_be_used_is_ignored_with_one_warning(content, caplog):
    STORED.save(cache_path(KEY))
    cache_path(KEY).write_text(content)
    with caplog.at_level(logging.WARNING, logger="treewright"):
        assert [stored_table(KEY), stored_table(KEY)] == [None, None]
    (record,) = caplog.records
    assert "run `treewright profile`" in record.message
    assert "ignored" in record.message


def test_a_table_of_another_key_is_ignored(caplog):
    STORED.save(cache_path({**KEY, "threads": "2"}))
    with caplog.at_level(logging.WARNING, logger="treewright"):
        assert stored_table({**KEY, "threads": "2"}) is None
    assert "'threads': '1'" in caplog.text


def test_a_cache_without_permission_is_ignored_with_one_warning(monkeypatch, caplog):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", refuse)
    with caplog.at_level(logging.WARNING, logger="treewright"):
        assert [stored_table({**KEY, "threads": threads}) for threads in "123"] == [None] * 3
    (record,) = caplog.records
    assert "(Permission denied)" in record.message


@pytest.mark.parametrize("letter", ["n", "é", "漢", "\udcff"])
def test_long_names_of_pairs_differ_by_the_digest_and_can_be_stored(letter):
    keys = [{**KEY, "pair": letter * 400 + end} for end in "ab"]
    paths = [cache_path(key) for key in keys]
    assert paths[0] != paths[1]
    for key in keys:
        replace(TABLE, key=key).save(cache_path(key))
        table = stored_table(key)
        assert table is not None
        assert table.key == key
