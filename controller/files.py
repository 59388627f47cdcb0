"""Files on the disk: replaced whole or not at all, and there for good once a call returns."""

import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from .errors import InputError

# Files with this ending are what a killed `atomic_write` left behind.
TEMPORARY = ".tmp"


def atomic_write(path: Path, content: bytes) -> None:
    """Replace a file by temporary, fsync and rename; when this returns, a power cut cannot undo it.

    OSError where the disk refuses; then an older file stays as it was. Each call has a temporary file of its own, so
    two processes may write one path: the later rename wins.
    """
    temporary = path.with_name(f".{token_hex(8)}{TEMPORARY}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            append_synced(descriptor, content)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def append_synced(descriptor: int, content: bytes) -> None:
    """Write at the descriptor's end and wait for the disk."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def create_synced(path: Path) -> int:
    """The descriptor of a new, empty file that the folder lists for good."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
    try:
        sync_folder(path.parent)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_synced(path: Path) -> None:
    os.unlink(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its parents; one that exists is fine."""
    os.makedirs(path, exist_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames, creations and removals in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_file(path: Path) -> int:
    """The descriptor that holds the lock of the file's folder until it is closed or the process dies, however it dies;
    InputError while another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise InputError(
                f"{path.parent} is being written by another `treewright` command; wait for it or choose another folder"
            ) from error
        raise
    return descriptor


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
