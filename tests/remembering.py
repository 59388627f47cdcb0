"""A language model that reads every prefix once and then remembers its row, for many texts behind one prompt."""

import numpy as np
import torch
from treewright.runtime.engines.base import Session


class RememberingModel:
    """A `CachedModel` around a transformers model, with texts instead of a cache."""

    packs = False
    max_leaves: int | None = None

    def __init__(self, model, vocabulary_size):
        self.vocabulary_size = vocabulary_size
        self.context_length = model.config.max_position_embeddings
        self.device = torch.device("cpu")
        self.session: Session | None = None
        self.hidden_layers: tuple[int, ...] = ()
        self.hidden: torch.Tensor | None = None
        self.last_layer: int | None = None
        self._model = model.eval()
        self._known = {}  # prefix -> row of `_table`
        self._table = torch.zeros((0, model.config.vocab_size), dtype=model.dtype)

    def open(self, num_slots, capacity, session=None):
        self.session = session
        self._texts = [[] for _ in range(num_slots)]
        self._tokens = self._parents = np.zeros((0, 0), dtype=np.int64)

    def has_room(self, capacity):
        return True

    def prepare(self, num_slots, num_rows):
        pass

    def join(self, capacity):
        self._texts.append([])

    def keep(self, slots):
        self._texts = [self._texts[slot] for slot in slots]

    @property
    def lengths(self):
        return np.array([len(text) for text in self._texts])

    def forward(self, tokens, positions, parents, *, num_logits=0, first_slot=0, real=None):
        self._slots = slice(first_slot, first_slot + len(tokens))
        self._tokens = np.concatenate((self._tokens, tokens), axis=1) if self._tokens.size else tokens
        self._parents = np.concatenate((self._parents, parents), axis=1) if self._parents.size else parents
        first = tokens.shape[1] - num_logits if num_logits else 0
        prefixes = [
            (*text, *row_tokens[_path_to(row, above)].tolist())
            for text, row_tokens, above in zip(self._texts[self._slots], self._tokens, self._parents, strict=True)
            for row in range(self._parents.shape[1] - tokens.shape[1] + first, self._parents.shape[1])
        ]
        return self.rows(prefixes).unflatten(0, (len(tokens), -1))

    def commit(self, rows):
        if self._tokens.size:
            for text, tokens, kept in zip(self._texts[self._slots], self._tokens, rows, strict=True):
                text += tokens[kept[kept >= 0]].tolist()
        self._tokens = self._parents = np.zeros((0, 0), dtype=np.int64)

    @torch.no_grad()
    def rows(self, prefixes):
        """[n, V] logits behind each prefix."""
        new = [prefix for prefix in dict.fromkeys(prefixes) if prefix not in self._known]
        for length in {len(prefix) for prefix in new}:
            alike = [prefix for prefix in new if len(prefix) == length]
            self._known |= {prefix: len(self._known) + index for index, prefix in enumerate(alike)}
            answers = [self._model(input_ids=torch.tensor(part)).logits[:, -1] for part in _chunks(alike)]
            self._table = torch.cat((self._table, *answers))
        return self._table[[self._known[prefix] for prefix in prefixes]]


def _path_to(row, parents):
    path = []
    while row >= 0:
        path.append(row)
        row = parents[row]
    return path[::-1]


def _chunks(prefixes, size=256):
    return [prefixes[start : start + size] for start in range(0, len(prefixes), size)]
