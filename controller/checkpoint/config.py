"""`config.json`: what a selector is for, the hash of every file beside it, and a hash of itself."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Protocol

from ..contract import RANKED_SCHEMES
from ..errors import InputError
from ..learned.features import FEATURE_VERSION, FEATURES
from ..memory import MemoryConfig
from ..trees.limits import LARGEST, TreeLimits
from .strict_json import parse_object

SCHEMA_VERSION = 6  # 5 knew no memory
OLDEST_SCHEMA = 5  # 4 said "law" for the drafting scheme and "clairvoyant" for the oracle
CONFIG_FILE = "config.json"
HASHED_FILES = ("model.safetensors", "model.onnx", "golden.safetensors", "baselines.json", "metrics.json")
MAX_NAME_LENGTH = 200
SHAPES_KIND = "shapes"  # of a checkpoint that `shapes` reads


@dataclass(frozen=True)
class SelectorConfig:
    """`config.json`, less the hashes."""

    pair: str
    scheme: str
    tokenizer_sha256: str
    limits: TreeLimits
    provenance: dict[str, Any]
    features: tuple[str, ...] = FEATURES
    feature_version: int = FEATURE_VERSION
    schema_version: int = SCHEMA_VERSION
    memory: MemoryConfig | None = None  # of the drafter's errors, of its traces or from `fit-memory`


class SavedConfig(Protocol):
    """A frozen dataclass that becomes `config.json`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def config_json(config: SavedConfig, files: dict[str, bytes]) -> bytes:
    """`config.json` for `files`, sealed."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return json.dumps(seal({**asdict(config), "sha256": hashes}), indent=1).encode()


def seal(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with a hash that covers all of them, the files' hashes included."""
    hashes = {name: digest for name, digest in fields["sha256"].items() if name != CONFIG_FILE}
    fields = {**fields, "sha256": hashes}
    own = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return {**fields, "sha256": {**hashes, CONFIG_FILE: own}}


def parse_config(content: bytes) -> tuple[SelectorConfig, dict[str, str]]:
    """The config and the hash of each file; versions are checked before all fields that depend on them."""
    fields = parse_object(content, CONFIG_FILE)
    if fields.get("kind") == SHAPES_KIND:
        raise InputError(
            "it chooses the shapes of sampled trees, not those of the walk; name the verifier they are for, such as "
            "speculation.verifier=traversal"
        )
    hashes = open_seal(fields, range(OLDEST_SCHEMA, SCHEMA_VERSION + 1), FEATURE_VERSION, FEATURES)
    try:
        memory = fields.pop("memory", None)
        config = SelectorConfig(**{**fields, "limits": TreeLimits(**fields["limits"])})
        if memory is not None:
            config = replace(config, memory=_memory(memory))
    except (KeyError, TypeError) as error:
        raise InputError(f"config.json has missing or unknown fields ({error}); the folder is damaged") from error
    _check(config)
    return config, hashes


def open_seal(fields: dict[str, Any], schemas: range, feature_version: int, names: Sequence[str]) -> dict[str, str]:
    """The hash of each file, taken out of the `fields` of a config; InputError unless all is sealed, of one of the
    `schemas` and of this version of the features, which have these names."""
    schema, features = fields.get("schema_version"), fields.get("feature_version")
    if not isinstance(schema, int) or not isinstance(features, int):
        raise InputError("config.json names no versions; the folder is damaged or no checkpoint")
    if schema not in schemas:
        reads = f"{schemas[0]} to {schemas[-1]}" if len(schemas) > 1 else f"{schemas[0]}"
        raise InputError(
            f"the folder has schema {schema}, this build reads {reads}; "
            f"{'update treewright' if schema > schemas[-1] else 'retrain the selector'}"
        )
    hashes = fields.get("sha256")
    if not isinstance(hashes, dict) or set(hashes) != {*HASHED_FILES, CONFIG_FILE}:
        raise InputError("config.json does not list the hash of every file; the folder is damaged")
    if features != feature_version or fields.get("features") != list(names):
        raise InputError(
            f"it needs feature set {features}, this build computes {feature_version}; retrain the selector"
        )
    if seal(fields)["sha256"] != hashes:
        raise InputError("config.json does not match its own SHA-256; the folder is damaged")
    del fields["sha256"]
    fields["features"] = tuple(fields["features"])
    return hashes


def check_pair(pair: object, tokenizer_sha256: object, provenance: object) -> None:
    """InputError for the first of these that is not what a checkpoint of any kind says about its pair."""
    if not isinstance(pair, str) or not pair.isprintable() or len(pair) > MAX_NAME_LENGTH:
        raise InputError(f"the pair's name is a printable line of at most {MAX_NAME_LENGTH} letters; retrain")
    if not isinstance(tokenizer_sha256, str) or not re.fullmatch("[0-9a-f]{64}", tokenizer_sha256):
        raise InputError("tokenizer_sha256 is no SHA-256; retrain")
    if not isinstance(provenance, dict):
        raise InputError("provenance is no JSON object; retrain")


def _memory(fields: dict[str, Any]) -> MemoryConfig:
    """InputError for settings of the wrong kind or out of their ranges."""
    memory = MemoryConfig(**fields)
    for name, usual in asdict(MemoryConfig()).items():
        if type(getattr(memory, name)) is not type(usual):
            raise InputError(f"memory.{name} is of another kind than {usual!r}; fit the memory again")
    return memory


def _check(config: SelectorConfig) -> None:
    """InputError for the first value out of its range."""
    check_pair(config.pair, config.tokenizer_sha256, config.provenance)
    if config.scheme not in tuple(RANKED_SCHEMES):
        raise InputError(f"the scheme is one of {', '.join(RANKED_SCHEMES)}, got {config.scheme!r}; update or retrain")
    for name, largest in asdict(LARGEST).items():
        value = getattr(config.limits, name)
        if type(value) is not type(largest) or value > largest:
            kind = "true or false" if largest is True else f"a whole number up to {largest}"
            raise InputError(f"tree limit {name} is {kind}, got {value!r}; retrain")
