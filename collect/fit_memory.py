"""`fit-memory`: which memory of the drafter's errors would have corrected it best over recorded texts.

Both models read the texts again. The settings are those of the lowest cross entropy between the target's rows and the
drafter's corrected ones. What they are worth is told from other texts, or from a third of the documents that is left
out.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..controller.checkpoint import SCHEMA_VERSION, require_replaceable, save_checkpoint
from ..controller.console import print_json, print_table, track
from ..controller.errors import InputError
from ..controller.memory import MemoryConfig
from ..controller.plans.setting import temperature_title
from ..controller.ranges import require_at_least
from ..controller.trees.tree import Array
from ..runtime.memory import require_states
from ..runtime.pair import Pair, PairConfig, load_pair
from ..runtime.selectors import read_selector
from .labels.errors import SCORES, score_memories
from .relabel import stored_texts
from .trace import TextRow

# The settings tried together, then one by one.
GRID = [
    MemoryConfig(window=256, entries=16, eta=eta, beta=beta, mass=mass)
    for eta, beta, mass in product((4.0, 8.0, 16.0), (8.0, 16.0, 32.0), (0.1, 0.3, 1.0, 3.0))
]
WINDOWS = (64, 128, 256, 512)
ENTRIES = (4, 8, 16, 32)
# A smaller window, or fewer entries, may lose so much of what is gained.
LOSS = 0.02


@dataclass(frozen=True)
class MemoryFitConfig:
    """How a memory is fitted."""

    texts: int = 60
    """Texts read, spread evenly over the recorded ones"""

    def __post_init__(self) -> None:
        require_at_least("fit.texts", self.texts, 3)


def fit_memory(
    traces: Path,
    selector: Path,
    out: Path,
    pair: PairConfig = PairConfig(),
    fit: MemoryFitConfig = MemoryFitConfig(),
    check: Path | None = None,
) -> None:
    """Fit a memory of the drafter's errors to recorded texts and write the selector's checkpoint with it.

    Args:
        traces: Trace folder with texts of the pair, written by `collect` or `serve`
        selector: Checkpoint folder that is to carry the memory
        out: Checkpoint folder to write, the same or another; an existing checkpoint is replaced whole
        pair: Target and drafter
        fit: How the memory is fitted
        check: Trace folder with the texts that the result is told from; where none is given, a third of the documents
    """
    require_replaceable(out)
    models = load_pair(pair)
    require_states(models)
    checkpoint = read_selector(selector, tokenizer_sha256=models.tokenizer_sha256)
    texts = _read(models, traces, fit.texts)
    checks = [text for text in texts if _is_for_check(text)] if check is None else _read(models, check)
    chosen = texts if check is not None else [text for text in texts if not _is_for_check(text)]
    if not chosen or not checks:
        raise InputError(f"{traces} holds texts of too few documents to fit a memory and to check it; record more")
    reading = Reading(models, checkpoint.config.limits.width)
    memory = choose(lambda memories: reading(chosen, memories).sum(axis=0))
    rows = _rows(checks, reading(checks, [None, memory]))
    config = replace(checkpoint.config, memory=memory, schema_version=SCHEMA_VERSION)
    save_checkpoint(out, config, checkpoint.files, checkpoint.card)
    print_table("The drafter without and with its memory, on documents that nothing was chosen by", rows)
    facts = {"texts": len(chosen), "checked": len(checks), "memory": asdict(memory), "rows": rows}
    print_json({"command": "fit-memory", "out": str(out), **facts})


def _read(pair: Pair, traces: Path, most: int | None = None) -> list[TextRow]:
    """The texts of a folder, or so many of them, spread evenly."""
    source = stored_texts(traces)
    count = len(source.documents)
    return source.open(pair)(np.unique(np.linspace(0, count - 1, most or count).astype(int)).tolist())


class Reading(NamedTuple):
    """Scores of memories on texts."""

    pair: Pair
    width: int

    def __call__(self, texts: Sequence[TextRow], memories: Sequence[MemoryConfig | None]) -> Array:
        """[texts, memories, SCORES]."""
        models = self.pair.target, self.pair.drafter
        return np.stack(
            [score_memories(*models, text, memories, self.width) for text in track(texts, "fit-memory: texts")]
        )


def choose(score: Callable[[Sequence[MemoryConfig | None]], Array]) -> MemoryConfig:
    """The memory of the lowest surprise by what `score` says [memories, SCORES]; of windows and entries, the fewest
    that lose little."""
    column = SCORES.index("surprise")
    plain, *surprises = score([None, *GRID])[:, column].tolist()
    best = GRID[int(np.argmin(surprises))]
    for name, sizes in (("window", WINDOWS), ("entries", ENTRIES)):
        tried = [replace(best, **{name: size}) for size in sizes]
        surprises = score(tried)[:, column]
        most = plain - surprises.min()
        best = next(
            each for each, surprise in zip(tried, surprises, strict=True) if plain - surprise >= (1 - LOSS) * most
        )
    return best


def _is_for_check(text: TextRow) -> bool:
    """Of one document in three."""
    return int(hashlib.sha256(text.document.encode()).hexdigest(), 16) % 3 == 0


def _rows(texts: Sequence[TextRow], scores: Array) -> list[dict[str, Any]]:
    """Means over tokens, without and with a memory, by temperature and domain."""
    rows = []
    for key in sorted({(text.temperature, text.domain) for text in texts}):
        numbers = [number for number, text in enumerate(texts) if (text.temperature, text.domain) == key]
        for name, of in zip(("off", "on"), scores[numbers].sum(axis=0), strict=True):
            sums = dict(zip(SCORES, of.tolist(), strict=True))
            new_tokens = sums.pop("new_tokens")
            means = {
                score: round(value / max(1.0, new_tokens if score.startswith("new") else sums["tokens"]), 4)
                for score, value in sums.items()
            }
            counts = {"tokens": int(sums["tokens"]), "new_tokens": int(new_tokens)}
            title = {"temperature": temperature_title(key[0]), "domain": key[1], "memory": name}
            rows.append(title | means | counts)
    return rows
