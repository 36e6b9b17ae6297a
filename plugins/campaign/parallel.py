"""Work on several connections to the campaign database at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from typing import TypeVar

from campaign.database import Connection, connect

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_on_connections(
    application_name: str, connections: int, work: Callable[[Connection, Item], Result], items: Iterable[Item]
) -> list[Result]:
    """Do the work for each item in a transaction of its own, on several connections at once.

    When one fails, or the task is told to end, what is under way on the others is canceled and rolled back, and
    nothing more is begun; what was committed stays.

    :param application_name: shown by pg_stat_activity.
    :param connections: how many at once.
    :param work: called with a connection inside a transaction, and an item; the database does the work, so threads do.
    :returns: the results, in no particular order.
    """
    waiting = iter(items)
    turn = threading.Lock()
    ended = threading.Event()
    results: list[Result] = []

    def work_off(connection: Connection) -> None:
        while not ended.is_set():
            with turn:
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            with connection.transaction():
                result = work(connection, item)
            results.append(result)

    with ExitStack() as stack:
        opened = [stack.enter_context(connect(application_name)) for _ in range(connections)]
        pool = stack.enter_context(ThreadPoolExecutor(connections))
        try:
            for worker in as_completed([pool.submit(work_off, connection) for connection in opened]):
                worker.result()
        except BaseException:
            ended.set()
            for connection in opened:
                connection.cancel_safe()
            raise
    return results
