"""What was loaded of late, kept in memory up to a number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Entry(Generic[T]):
    item: T
    size: int
    dataset: str


@dataclass
class Recent(Generic[T]):
    """Items by key; what has not been used for longest makes room for more.

    Only for those of *other* data sets, however: one that is larger than all the room goes through one
    perturbation after the other from its first sample to its last, and each item would be dropped shortly
    before it is wanted again. Its first part stays.

    Attributes:
        most: bytes that are kept at most.
        dropped: told the key of each item that has made room.
    """

    most: int
    dropped: Callable[[Hashable], object] = lambda key: None
    _entries: dict[Hashable, _Entry[T]] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def get(self, key: Hashable) -> T | None:
        """Return an item, which then counts as just used; None if it is not there."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._entries[key] = entry
        return entry.item

    def keep(self, key: Hashable, item: T, size: int, dataset: str) -> bool:
        """Keep an item of a data set, if there is room for its ``size`` bytes or can be made.

        Return whether it is kept from now on.
        """
        others = [k for k, entry in self._entries.items() if entry.dataset != dataset]
        room = self.most - self._bytes + sum(self._entries[k].size for k in others)
        if size > room or key in self._entries:
            return False
        for oldest in others:
            if self._bytes + size <= self.most:
                break
            self._bytes -= self._entries.pop(oldest).size
            self.dropped(oldest)
        self._entries[key] = _Entry(item, size, dataset)
        self._bytes += size
        return True
