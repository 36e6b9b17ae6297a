"""How fast messages may leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Pace:
    """At most so many messages a minute, evenly: a second's worth at once, then as they come due.

    :param clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._per_second = math.inf
        self._room = 0.0
        self._filled_at = clock()

    def limit(self, per_minute: float | None) -> None:
        """Set the limit; None for none."""
        self._fill()
        self._per_second = math.inf if per_minute is None else per_minute / 60
        self._room = min(self._room, self._most)

    def room(self) -> int:
        """Return how many messages may leave now, at most a thousand."""
        self._fill()
        return int(min(self._room, 1000))

    def take(self, count: int = 1) -> None:
        """Note that so many messages leave."""
        self._room -= count

    def wait(self) -> float:
        """Return the seconds until there is room for a message."""
        self._fill()
        return 0.0 if self._room >= 1 else (1 - self._room) / self._per_second

    @property
    def _most(self) -> float:
        return max(1.0, self._per_second)

    def _fill(self) -> None:
        now = self._clock()
        if self._per_second == math.inf:
            self._room = math.inf
        else:
            self._room = min(self._most, self._room + (now - self._filled_at) * self._per_second)
        self._filled_at = now
