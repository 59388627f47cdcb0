"""Which sequence ids hold which rows: how llama.cpp, which attends by sequence and position, attends to a tree.

A row attends to the rows before it that share a sequence with it. A slot's committed text is one sequence; each leaf of
the tree behind it has a sequence of its own, and an inner row belongs to those of all leaves below it.
"""

from dataclasses import dataclass, field

from ....controller.errors import InputError
from .config import MOST_IDS
from .context import Context

PADDING = -1


@dataclass
class Slot:
    """A text, and the tree rows since its last commit."""

    main: int  # the sequence of the committed text
    length: int = 0
    paths: list[int] = field(default_factory=list)  # of each tree row, a sequence that holds its path
    positions: list[int] = field(default_factory=list)
    tips: dict[int, int] = field(default_factory=dict)  # of each sequence of the slot, its last tree row or -1


class Sequences:
    """The slots of a context, which share its sequence ids."""

    def __init__(self, context: Context):
        self._context = context
        self._free: list[int] = []
        self.slots: list[Slot] = []

    def open(self, num_slots: int) -> None:
        self._context.clear()
        self._free = list(range(MOST_IDS - 1, -1, -1))
        self.slots = []
        for _ in range(num_slots):
            self.join()

    def join(self) -> None:
        main = self._take()
        self.slots.append(Slot(main, tips={main: -1}))

    def keep(self, slots: list[int]) -> None:
        kept = set(slots)
        for number, slot in enumerate(self.slots):
            if number not in kept:
                for sequence in slot.tips:
                    self._release(sequence)
        self.slots = [self.slots[number] for number in slots]

    def append(self, slot: Slot, positions: list[int], parents: list[int], real: list[bool]) -> list[list[int]]:
        """The sequences of each of n more tree rows; none of one that is not `real`. InputError where no sequence is
        left."""
        num_old = len(slot.paths)
        ids: list[list[int]] = [[] for _ in parents]
        old_ancestors: list[int] = []
        for parent in parents:
            old_ancestors.append(parent if parent < num_old else old_ancestors[parent - num_old])
        for row in range(len(parents) - 1, -1, -1):
            if not real[row]:
                continue
            if not ids[row]:  # a leaf
                ids[row].append(self._branch(slot, old_ancestors[row], num_old + row))
            parent = parents[row] - num_old
            if parent >= 0:
                ids[parent] += ids[row]
        slot.paths += [of_row[0] if of_row else PADDING for of_row in ids]
        slot.positions += positions
        return ids

    def _branch(self, slot: Slot, ancestor: int, leaf: int) -> int:
        """A sequence that holds the path to the row `ancestor`, -1 for the text alone, and will hold that to `leaf`."""
        source = slot.paths[ancestor] if ancestor >= 0 else slot.main
        if slot.tips[source] == ancestor:
            slot.tips[source] = leaf
            return source
        sequence = self._take()
        slot.tips[sequence] = leaf
        self._context.copy(source, sequence, slot.positions[ancestor] + 1 if ancestor >= 0 else slot.length)
        return sequence

    def commit(self, slot: Slot, rows: list[int]) -> None:
        """Keep the path `rows` of the slot's tree, drop all others, be they of a forward that failed."""
        if slot.tips == {slot.main: -1}:
            return
        if rows:
            last = rows[-1]
            slot.main, slot.length = slot.paths[last], slot.positions[last] + 1
            is_tip = slot.tips[slot.main] == last
        else:
            is_tip = slot.tips[slot.main] == -1
        for sequence in slot.tips:
            if sequence != slot.main:
                self._release(sequence)
        if not is_tip:
            self._context.remove(slot.main, slot.length)
        slot.tips, slot.paths, slot.positions = {slot.main: -1}, [], []

    def _take(self) -> int:
        if not self._free:
            raise InputError(
                f"llama.cpp holds {MOST_IDS} sequences, and the trees have more leaves than that; ask for smaller "
                "trees, or fewer texts together"
            )
        return self._free.pop()

    def _release(self, sequence: int) -> None:
        self._context.remove(sequence)
        self._free.append(sequence)
