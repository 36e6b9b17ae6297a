"""Tasks in a process of their own, as Airflow runs them, which dies where it is told.

The server of forks loads this module, and the DAGs with it, once; a task then costs a fork.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.mappedoperator import MappedOperator

from tests.trust.dag_runs import DagRunTable

DAG_BAG = DagBag(Path(__file__).resolve().parents[2] / "dags")
# Who touches the outside: the database, a socket, a file.
TOUCHES: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (psycopg.Connection, ("wait",)),
    (socket.socket, ("send", "sendall", "connect")),
    (os, ("replace", "rename", "link", "unlink", "remove", "fsync", "mkdir")),
)


@dataclass(kw_only=True)
class Order:
    """What a process is to do: the tasks of a run that have no state yet.

    :ivar dag_id: None: what the workflows started, instead of a run of a workflow.
    :ivar states: of the tasks that are over: success, skipped, failed, upstream_failed.
    :ivar shares: what tasks returned for mapped ones, as XCom keeps it.
    :ivar dies_at: at which touch of the outside the process dies; None: at none.
    """

    dag_id: str | None
    run_id: str
    as_of: datetime
    states: dict[str, str] = field(default_factory=dict)
    shares: dict[str, list[Any]] = field(default_factory=dict)
    dies_at: int | None = None


class Touches:
    """Counts how often this process touches the outside, before and after each time, and dies when it is told."""

    def __init__(self, dies_at: int | None) -> None:
        self.dies_at = dies_at
        self.count = 0

    def install(self) -> None:
        """Watch from now on."""
        for owner, names in TOUCHES:
            for name in names:
                setattr(owner, name, self._watched(getattr(owner, name)))

    def _watched(self, touch: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **more: Any) -> Any:
            self._count()
            result = touch(*arguments, **more)
            self._count()
            return result

        return watched

    def _count(self) -> None:
        self.count += 1
        if self.count == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


def work(pipe: Pipe, environment: dict[str, str], order: Order) -> None:
    """Do what is ordered, and say over the pipe how far it is: (task_id, state, what it returned or raised)."""
    os.environ |= environment
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    airflow = DagRunTable(environment["CAMPAIGN_DSN"], DAG_BAG)
    airflow.install(SimpleNamespace(setattr=setattr))
    touches = Touches(order.dies_at)
    touches.install()
    task_id = ""
    try:
        if order.dag_id is None:
            airflow.execute_queued(order.as_of)
        else:
            dag = DAG_BAG.dags[order.dag_id]
            for task in dag.topological_sort():
                task_id = task.task_id
                if task_id not in order.states:
                    pipe.send((task_id, *_do(dag, task, order)))
    except Exception as error:  # as Airflow does: whatever a task raises is a failed try
        pipe.send((task_id, "raised", f"{type(error).__name__}: {error}"))
    else:
        pipe.send(("", "done", touches.count))


def _do(dag: Any, task: Any, order: Order) -> tuple[str, list[Any] | None]:
    """Execute a task if its trigger rule lets it; return its state, and what it returned for a mapped one."""
    returned: Any = None
    state = _state_without_running(task, order.states)
    if state is None:
        state, returned = _execute(dag, task, order)
    order.states[task.task_id] = state
    if not isinstance(returned, list):
        return state, None
    order.shares[task.task_id] = returned
    return state, returned


def _state_without_running(task: Any, states: dict[str, str]) -> str | None:
    """Return the state of a task that its trigger rule does not let run; None: it runs."""
    before = [states[task_id] for task_id in task.upstream_task_ids]
    if task.trigger_rule == "all_done":
        return None
    if any(state in ("failed", "upstream_failed") for state in before):
        return "upstream_failed"
    if task.trigger_rule == "all_success" and "skipped" in before:
        return "skipped"
    return None


def _execute(dag: Any, task: Any, order: Order) -> tuple[str, Any]:
    """Execute a task, or the instances of a mapped one; return its state, and what it returned."""
    if not isinstance(task, MappedOperator):
        return "success", _execute_one(dag, task, order)
    [(name, argument)] = task.expand_input.value.items()
    shares = order.shares.get(argument.operator.task_id, [])
    for share in shares:
        _execute_one(dag, task.unmap(task.partial_kwargs | {name: share}), order)
    return ("success" if shares else "skipped"), None


def _execute_one(dag: Any, task: Any, order: Order) -> Any:
    context: Any = {
        "dag": dag,
        "task": task,
        "run_id": order.run_id,
        "dag_run": SimpleNamespace(
            run_type="manual", data_interval_end=None, logical_date=None, run_after=order.as_of, run_id=order.run_id
        ),
        "params": {"as_of": None, "campaign": None, "full": False, "dry_run": False},
    }
    step = task.prepare_for_execution()
    step.render_template_fields(context)
    return step.execute(context)
