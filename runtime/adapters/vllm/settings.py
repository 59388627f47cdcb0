"""What a user of vLLM sets for treewright: `--additional-config '{"treewright": {...}}'`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self, get_args

from ....controller.contract import RANKED_SCHEMES
from ....controller.errors import InputError
from ....controller.ranges import require_above, require_between
from ....controller.trees.limits import LARGEST
from ....controller.trees.shapes import parse_paths

SECTION = "treewright"
# Of what a running engine may change: the rest decides what was loaded.
LIVE = ("min_prob", "path_prob", "theta_scale")


@dataclass(frozen=True)
class VllmSettings:
    """Which trees are drafted; `num_speculative_tokens` of vLLM is their budget of nodes."""

    selector: str | None = None
    """Checkpoint of a learned selector, a folder or hub id; `reference` is the one of the reference pair"""
    latency: str | None = None
    """Latency table of this machine for a learned selector, a file that `treewright profile --engine vllm` wrote"""
    tree: str | None = None
    """A static tree as the largest shape, vLLM's former `speculative_token_tree`: "[(0,), (1,), (0, 0)]" """
    depth: int = 4
    """Levels of a dynamic tree: grown by the drafter's own confidence, where neither selector nor tree is given"""
    width: int = 3
    """Candidates per expanded node of a dynamic tree"""
    scheme: str | None = None
    """Drafting scheme, coupled (where none is given) or fixed; a selector brings its own"""
    min_prob: float = 0.0
    """Nodes whose next-token maximum probability is below this are not expanded"""
    path_prob: float = 0.0
    """Branches whose cumulative path probability is below this are cut"""
    theta_scale: float | None = None
    """Line search around a selector's tokens per millisecond, larger drafts less; None: what replay tuned"""
    guard: bool = False
    """Turn speculation off while it is slower than plain decoding, and probe it again"""
    drafter: str | None = None
    """Folder or hub id of the drafter model of `best_first.TreeProposer`; vLLM's own proposers load theirs"""
    repair_sampling: bool = False
    """Repair how vLLM tests chains on the CPU, which is wrong above temperature 0 (see `repair`); trees need none"""
    record: str | None = None
    """Trace folder of the texts that the engine generates, for `treewright collect --relabel`"""

    def __post_init__(self) -> None:
        for field in fields(self):
            _require_kind(field.name, getattr(self, field.name), get_args(field.type) or (field.type,))
        for name in ("depth", "width"):
            most = {"depth": LARGEST.max_depth, "width": LARGEST.width}[name]
            require_between(f"treewright.{name}", getattr(self, name), 1, most)
        for name in ("min_prob", "path_prob"):
            require_between(f"treewright.{name}", getattr(self, name), 0, 1)
        if self.theta_scale is not None:
            require_above("treewright.theta_scale", self.theta_scale, 0)
        if self.scheme is not None and self.scheme not in RANKED_SCHEMES:
            raise InputError(f"treewright.scheme is one of {', '.join(RANKED_SCHEMES)}, got {self.scheme!r}")
        if self.tree is not None:
            require_between("the nodes of treewright.tree", len(parse_paths(self.tree)), 1, LARGEST.budget)
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        learned, shaped = self.selector is not None, self.tree is not None
        default = type(self)
        idle = {
            "tree": (shaped and learned, "beside treewright.selector"),
            "depth": (self.depth != default.depth and (learned or shaped), "beside treewright.selector or tree"),
            "width": (self.width != default.width and (learned or shaped), "beside treewright.selector or tree"),
            "scheme": (self.scheme is not None and learned, "beside treewright.selector, which brings its own"),
            "latency": (
                self.latency is not None and not (learned or self.guard),
                "without treewright.selector or guard",
            ),
            "theta_scale": (self.theta_scale is not None and not learned, "without treewright.selector"),
            "min_prob": (self.min_prob > 0 and learned, "beside treewright.selector, which prices every node"),
            "path_prob": (self.path_prob > 0 and learned, "beside treewright.selector, which prices every node"),
        }
        for name, (is_idle, when) in idle.items():
            if is_idle:
                raise InputError(f"treewright.{name} does nothing {when}; leave it out")
        if learned and self.latency is None:
            raise InputError(
                "treewright.selector prices its trees by treewright.latency, which is not given; write one with "
                "`treewright profile --engine vllm`"
            )

    @classmethod
    def parse(cls, additional: Any) -> Self | None:
        """The settings in a `VllmConfig.additional_config`; None where it has no such section, InputError for an
        unknown key or a value out of its range."""
        section = additional.get(SECTION) if isinstance(additional, Mapping) else None
        if section is None:
            return None
        _require_names(cls, "additional_config's treewright is", section)
        return cls(**section)

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """With other thresholds, while the engine runs; InputError for what only a start can change."""
        _require_names(type(self), "changes of treewright's settings are", changes)
        if fixed := sorted(set(changes) - set(LIVE)):
            raise InputError(f"treewright.{fixed[0]} is fixed when the engine starts; {', '.join(LIVE)} may change")
        return replace(self, **changes)


def _require_names(settings: type[VllmSettings], what: str, section: object) -> None:
    """InputError unless these are settings by their names."""
    if not isinstance(section, Mapping):
        raise InputError(f"{what} a JSON object, got {section!r}")
    names = {field.name for field in fields(settings)}
    if unknown := sorted(set(map(str, section)) - names):
        raise InputError(f"treewright.{unknown[0]} is no setting; there are {', '.join(sorted(names))}")


def _require_kind(name: str, value: object, kinds: tuple[Any, ...]) -> None:
    """InputError unless the value from JSON is of one of the annotated kinds; a whole number is a float too."""
    wanted = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise InputError(f"treewright.{name} is of the kind {names}, got {value!r}")
