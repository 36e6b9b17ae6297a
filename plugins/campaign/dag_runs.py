"""Start, follow and stop runs of other DAGs from inside a task.

``TriggerDagRunOperator`` starts one run a task and fails that task when the run exists or its DAG does
not. A workflow starts many runs in one step and must record on each what became of it, so this module
speaks to the Task SDK's supervisor directly, as that operator does. It is the only place that does.

To end a run before its time is no message of the Task SDK (3.3): that goes through Airflow's REST API, with
the connection ``airflow_api``, as a person does it in the UI.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
from airflow.sdk import BaseHook, timezone
from airflow.sdk.api.client import ServerResponseError
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetDag, GetDagRunState, TriggerDagRun

# Run ids of what the workflows start; their end is announced (campaign.run_listener).
RUN_ID_PREFIX = "campaign__"
API_CONN_ID = "airflow_api"
API_TIMEOUT_SECONDS = 10.0
ENDED = ("success", "failed")


class DagRunError(RuntimeError):
    """A DAG run cannot be started or followed; the message says which, and what to do.

    :param is_final: whether trying again cannot help: the run is gone, or its parameters were refused.
        A DAG that is missing, broken or paused is mended by a person, so that is not final.
    """

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


def start_dag_run(dag_id: str, run_id: str, conf: dict[str, Any], run_after: datetime | None = None) -> bool:
    """Start a DAG run with a fixed run id; a run of that id is started once, whatever is repeated.

    :param conf: JSON-serialisable parameters of the run.
    :returns: False when the run had already been started.
    :raises DagRunError: when the DAG does not exist, is paused, or refuses the parameters.
    """
    require_runnable_dag(dag_id)
    response = _send(
        TriggerDagRun(
            dag_id=dag_id,
            run_id=run_id,
            logical_date=None,
            run_after=run_after or timezone.utcnow(),
            conf=conf,
        ),
        f"The run {run_id} of the DAG {dag_id} was refused",
    )
    return not (isinstance(response, ErrorResponse) and response.error == ErrorType.DAGRUN_ALREADY_EXISTS)


def require_runnable_dag(dag_id: str) -> None:
    """Check that a DAG exists and is not paused: a run of a paused DAG would wait in silence.

    :raises DagRunError: when it does not or is.
    """
    dag = _send(GetDag(dag_id=dag_id), f"The DAG {dag_id} cannot run, deploy it or correct the dag_id")
    if dag.is_paused:
        raise DagRunError(f"The DAG {dag_id} is paused: unpause it in the Airflow UI.")


def is_paused(dag_id: str) -> bool | None:
    """Say whether a DAG is paused; None where Airflow does not know it, or cannot be asked."""
    if not hasattr(task_runner, "SUPERVISOR_COMMS"):
        return None
    try:
        return bool(_send(GetDag(dag_id=dag_id), f"The DAG {dag_id} is not known").is_paused)
    except DagRunError:
        return None


def dag_run_state(dag_id: str, run_id: str) -> str:
    """Return the state of a DAG run: ``queued``, ``running``, ``success`` or ``failed``.

    :raises DagRunError: when there is no such run.
    """
    state: str = _send(
        GetDagRunState(dag_id=dag_id, run_id=run_id),
        f"The state of the run {run_id} of the DAG {dag_id} cannot be read",
    ).state
    return state


def stop_dag_run(dag_id: str, run_id: str) -> bool:
    """End a DAG run as failed, whatever it is doing; its running tasks are killed within seconds.

    :returns: False when there was nothing to stop: it had ended, or was never started.
    :raises DagRunError: when it goes on; the message says why.
    """
    try:
        if dag_run_state(dag_id, run_id) in ENDED:
            return False
    except DagRunError as error:
        if error.is_final:
            return False
        raise
    failure = f"The run {run_id} of the DAG {dag_id} cannot be stopped"
    try:
        connection = BaseHook.get_connection(API_CONN_ID)
    except (AirflowNotFoundException, AirflowRuntimeError) as error:
        raise DagRunError(
            f"{failure}: there is no Airflow connection {API_CONN_ID}, with address, login and password of a user "
            "who may. Mark it as failed in the Airflow UI."
        ) from error
    host, port = connection.host or "localhost", f":{connection.port}" if connection.port else ""
    address = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    try:
        with httpx.Client(base_url=f"{address}{port}", timeout=API_TIMEOUT_SECONDS, trust_env=False) as api:
            login = api.post("/auth/token", json={"username": connection.login, "password": connection.password})
            login.raise_for_status()
            answer = api.patch(
                f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}",
                json={"state": "failed"},
                headers={"Authorization": f"Bearer {login.json()['access_token']}"},
            )
            answer.raise_for_status()
    except (httpx.HTTPError, KeyError, ValueError) as error:
        # Of an answer its status is enough: its text may name the user.
        why = f"status {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else repr(error)
        raise DagRunError(f"{failure}: Airflow's API at {address}{port} answered with {why}.") from error
    return True


def _send(message: Any, failure: str) -> Any:
    """Ask the supervisor; an answer that is an error becomes a :class:`DagRunError`."""
    try:
        response = task_runner.SUPERVISOR_COMMS.send(message)
    except AirflowRuntimeError as error:
        if error.error.error == ErrorType.DAGRUN_ALREADY_EXISTS:
            return error.error
        raise _error(failure, message, error.error.detail or {}) from error
    except ServerResponseError as error:
        # Where tasks run in the process of their test, errors of the API come as they are.
        raise _error(
            failure, message, {"status_code": error.response.status_code, "detail": error.response.json()}
        ) from error
    if isinstance(response, ErrorResponse) and response.error != ErrorType.DAGRUN_ALREADY_EXISTS:
        raise _error(failure, message, response.detail or {})
    return response


def _error(failure: str, message: Any, detail: dict[str, Any]) -> DagRunError:
    """Put in words what the API answered: its own reason, if it gave one."""
    status, reason, said = detail.get("status_code"), None, detail.get("detail")
    while isinstance(said, dict):
        reason = said.get("reason", reason)
        said = said.get("message") or said.get("detail")
    refused = isinstance(message, TriggerDagRun) and status in (400, 422) and reason != "import_errors"
    gone = isinstance(message, GetDagRunState) and status == 404
    # A refused parameter comes with its schema after an empty line: the first sentence says enough.
    explanation = str(said or detail.get("message") or "").split("\n\n", maxsplit=1)[0]
    return DagRunError(f"{failure}: {explanation}" if explanation else f"{failure}.", is_final=refused or gone)
