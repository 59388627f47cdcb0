"""Draft heads: small networks that read the target's hidden states; config.json of a folder names its kind."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ....controller.contract import Scheme
from ....controller.errors import InputError
from ...engines.transformers.model import TransformersModel
from ...target import Target
from ..base import Drafter
from .eagle import EagleDrafter
from .eagle_head import load_eagle_head
from .folder import files_sha256, read_settings
from .medusa import MedusaDrafter, load_medusa_heads

EAGLE = "an EAGLE-3 head"
MEDUSA = "a Medusa head"


class DraftHead(NamedTuple):
    """A head that fits a target."""

    kind: str
    fingerprint: str  # a hash of its files
    hidden_layers: tuple[int, ...]  # what it reads, see `CachedModel`
    max_depth: int | None  # of the trees it can fill, if there is a limit
    make_drafter: Callable[[Target, Scheme], Drafter]


def head_kind(name: str) -> str | None:
    """Which kind of head lies at a folder; None where it is something else. InputError for an unsupported one."""
    settings = read_settings(Path(name))
    kind = settings.get("speculators_model_type")
    if kind == "eagle3":
        return EAGLE
    if kind is not None:
        raise InputError(f"head {name!r} is of the kind {kind!r}, which is not supported; use one of kind 'eagle3'")
    if "medusa_num_heads" in settings:
        return MEDUSA
    if "draft_vocab_size" in settings:
        raise InputError(f"head {name!r} is not in the layout of `speculators`; convert it with that library")
    return None


def no_model(name: str, kind: str) -> InputError:
    """The error where a drafter model is needed and a head was given."""
    return InputError(f"drafter {name!r} is {kind}, which drafts in `generate` and `serve` only; give a drafter model")


def load_head(name: str, target: TransformersModel) -> DraftHead:
    """The head at a folder, in the target's number format and on its device; InputError where it does not fit."""
    folder, settings = Path(name), read_settings(Path(name))
    sha256 = files_sha256(folder)
    if head_kind(name) == MEDUSA:
        heads = load_medusa_heads(folder, settings, target)
        # What the target's last norm makes, as its own output layer reads it.
        return DraftHead(MEDUSA, sha256, (-1,), len(heads), lambda of, scheme: MedusaDrafter(heads, of, scheme))
    config, head = load_eagle_head(folder, settings, target)
    return DraftHead(EAGLE, sha256, config.hidden_layers, None, lambda of, scheme: EagleDrafter(head, of, scheme))
