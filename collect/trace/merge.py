"""Many machines, one run: the folders of all its shards copied into one."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ...controller.errors import InputError
from .folder import TraceFolder
from .schema import TraceHeader


def parse_shard(shard: str) -> tuple[int, int]:
    """(i, n) of "i/n", 1 <= i <= n."""
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"a shard is written i/n with i from 1 to n, such as 2/8, got {shard!r}")
    return int(number), int(count)


def merge(out: Path, paths: Sequence[Path]) -> TraceFolder:
    """Copy the folders of all n shards of one run to `out`; a merge that was cut short is resumed.

    InputError in one sentence where a shard is missing, unfinished, damaged, there twice or of another run.
    """
    folders = [TraceFolder.open(path) for path in paths]
    shards = [parse_shard(folder.header.shard) for folder in folders]
    run, count = _run(folders[0].header), shards[0][1]
    for folder in folders[1:]:
        if differing := _run(folder.header).differences(run):
            raise InputError(
                f"{folder.path} is of another run than {folders[0].path}, which differs in {', '.join(differing)}; "
                "merge the shards of one run"
            )
    by_number = {number: folder for (number, _), folder in zip(shards, folders, strict=True)}
    if len(by_number) < len(folders):
        raise InputError(
            f"the folders to merge hold shards {_list(number for number, _ in shards)}; give each shard once"
        )
    missing = set(range(1, count + 1)) - set(by_number)
    if missing:
        raise InputError(f"of {count} shards {_list(missing)} is missing; collect it and merge all {count} folders")
    ordered = [by_number[number] for number in sorted(by_number)]
    _refuse_repeats(ordered)
    with TraceFolder.create(out, run) as merged:
        sources = [(folder, number) for folder in ordered for number in range(len(folder.shards))]
        for folder, number in sources[len(merged.shards) :]:
            shard = folder.shards[number]
            contents = {table: _read(folder.shard_file(table, number), shard.sha256) for table in run.schemas}
            merged.add_shard(contents, shard.num_rows)
        for name in sorted(ordered[0].files.keys() - merged.files.keys()):
            merged.attach(name, _read(ordered[0].path / name, ordered[0].files))
        merged.finish()
    return merged


def _run(header: TraceHeader) -> TraceHeader:
    """The header all shards of a run share."""
    return replace(header, shard=f"*/{parse_shard(header.shard)[1]}")


def _refuse_repeats(folders: list[TraceFolder]) -> None:
    seen = set()
    for folder in folders:
        for batch in folder.iterate("texts", ["text_id"]):
            for text_id in batch["text_id"].to_pylist():
                if text_id in seen:
                    raise InputError(f"{folder.path} holds text {text_id}, which is there already; collect it again")
                seen.add(text_id)


def _read(path: Path, hashes: dict[str, str]) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); repair the disk or collect again") from error
    if hashlib.sha256(content).hexdigest() != hashes[path.name]:
        raise InputError(f"{path} changed while it was copied; merge again")
    return content


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
