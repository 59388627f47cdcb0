"""All access to the Hugging Face hub: one repository per checkpoint, only the files of a checkpoint."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import validate_repo_id

from ..errors import InputError, first_line
from .saving import FILES, MAX_FILE_BYTES


def is_hub_id(name: str) -> bool:
    """Does it read `user/name`?"""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def download(repo_id: str, revision: str | None) -> Path:
    """The hub cache's folder of one commit, which its name is, not verified yet; sizes are checked before any fetch.

    Offline, a commit that was fetched before is taken from the cache.
    """
    with _as_sentences(repo_id, revision):
        if not constants.is_offline_mode():
            repository = HfApi().model_info(repo_id, revision=revision, files_metadata=True)
            sizes = {file.rfilename: file.size or 0 for file in repository.siblings or ()}
            revision = repository.sha
            for name in FILES:
                if sizes.get(name, 0) > MAX_FILE_BYTES:
                    raise InputError(f"{name} of {repo_id!r} is larger than {MAX_FILE_BYTES >> 20} MiB: no selector")
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES)))


def upload(repo_id: str, folder: Path, *, private: bool) -> str:
    """One commit with the files of a checkpoint folder; its address."""
    with _as_sentences(repo_id, None):
        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Upload treewright selector",
        )
    return str(commit.commit_url)


def upload_saved(save: Callable[[Path], None], repo_id: str, *, private: bool) -> str:
    """The same of a checkpoint that `save` writes to a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        save(Path(scratch) / "checkpoint")
        return upload(repo_id, Path(scratch) / "checkpoint", private=private)


@contextmanager
def _as_sentences(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turns the exceptions of the hub's client into InputError."""
    if not is_hub_id(repo_id):
        raise InputError(f"{repo_id!r} is no hub id; give user/name")
    try:
        yield
    except InputError:
        raise
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise InputError(
            f"the hub shows no repository {repo_id!r} to this machine; check the name, or log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"the hub's {repo_id!r} has no revision {revision!r}; give a commit, tag or branch") from error
    except (OSError, ValueError, HTTPError) as error:  # ValueError: a login page where JSON should be
        if constants.is_offline_mode():
            problem = f"the hub cannot be asked for {repo_id!r} because HF_HUB_OFFLINE is set, and no copy is cached"
            raise InputError(f"{problem}; unset it") from error
        raise InputError(f"the hub does not answer for {repo_id!r} ({first_line(error)}); try again later") from error
