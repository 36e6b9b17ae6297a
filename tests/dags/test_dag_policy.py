"""What holds for every DAG, task and SQL file of the house."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.mappedoperator import MappedOperator
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from campaign.operators.sql_step import SqlStep
from campaign.operators.workflow_step import WorkflowStep
from campaign.workflow_dag import TECHNICAL_WORKFLOW_TAG, TECHNICAL_WORKFLOWS

PROJECT = Path(__file__).resolve().parents[2]
SQL_FOLDER = PROJECT / "include" / "sql"
SNAKE = {dag_id: re.sub(r"(?<!^)(?=[A-Z])", "_", dag_id).lower() for dag_id in TECHNICAL_WORKFLOWS}
STATEMENT_FILES = sorted(
    path for path in SQL_FOLDER.rglob("*.sql") if "schema" not in path.relative_to(SQL_FOLDER).parts
)


def test_every_dag_file_can_be_imported(dag_bag: DagBag) -> None:
    assert dag_bag.import_errors == {}
    assert set(TECHNICAL_WORKFLOWS) <= set(dag_bag.dags)


def test_every_dag_file_is_named_after_its_dag(dag_bag: DagBag) -> None:
    names = {dag_id: Path(dag.fileloc).stem for dag_id, dag in dag_bag.dags.items()}
    assert names == {dag_id: re.sub(r"(?<!^)(?=[A-Z])", "_", dag_id).lower() for dag_id in dag_bag.dags}


@pytest.mark.parametrize("dag_id", TECHNICAL_WORKFLOWS)
def test_technical_workflow_is_a_product_surface(dag_bag: DagBag, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    assert dag.dag_display_name == TECHNICAL_WORKFLOWS[dag_id]
    assert dag.description
    assert TECHNICAL_WORKFLOW_TAG in dag.tags
    assert len(dag.tags) > 1
    assert set(dag.params) == {"as_of", "campaign", "full", "dry_run"}
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    for heading in ("**What.**", "**When", "**Reads**", "**Writes**", "**Rerun.**", "**What can fail.**"):
        assert heading in (dag.doc_md or ""), f"{dag_id}: its docstring lacks {heading}"


@pytest.mark.parametrize("dag_id", TECHNICAL_WORKFLOWS)
def test_every_task_of_a_technical_workflow_is_a_documented_step(dag_bag: DagBag, dag_id: str) -> None:
    for task in dag_bag.dags[dag_id].tasks:
        kind = task.operator_class if isinstance(task, MappedOperator) else type(task)
        assert issubclass(kind, WorkflowStep), f"{dag_id}.{task.task_id} cannot be rehearsed"
        assert task.doc_md, f"{dag_id}.{task.task_id} has no doc_md"
        assert task.owner == "campaign"
        assert task.retries > 0


def test_every_dag_has_an_owner_tags_and_docs(dag_bag: DagBag) -> None:
    for dag_id, dag in dag_bag.dags.items():
        assert dag.doc_md, f"{dag_id} has no doc_md"
        assert dag.tags, f"{dag_id} has no tags"
        assert {task.owner for task in dag.tasks} == {"campaign"}, f"{dag_id} has a task of another owner"


def test_sql_of_a_task_lies_under_the_names_of_its_dag_and_task(dag_bag: DagBag) -> None:
    steps = [
        (dag_id, task)
        for dag_id in TECHNICAL_WORKFLOWS
        for task in dag_bag.dags[dag_id].tasks
        if isinstance(task, SqlStep)
    ]
    assert steps
    for dag_id, task in steps:
        # Airflow has replaced the name of the file by its text when it loaded the DAG.
        assert task.sql == (SQL_FOLDER / SNAKE[dag_id] / f"{task.task_id}.sql").read_text()


def test_every_sql_file_is_used() -> None:
    code = "\n".join(path.read_text() for folder in ("dags", "plugins") for path in (PROJECT / folder).rglob("*.py"))
    code += "\n".join(re.findall(r"{% include '.*' %}", "".join(path.read_text() for path in STATEMENT_FILES)))
    unused = [
        str(path.relative_to(SQL_FOLDER))
        for path in STATEMENT_FILES
        if str(path.relative_to(SQL_FOLDER)) not in code and path.name not in code
    ]
    assert unused == []


@pytest.mark.parametrize("path", STATEMENT_FILES, ids=lambda path: str(path.relative_to(SQL_FOLDER)))
def test_statement_asks_nobody_for_the_time_and_says_what_it_does(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("-- "), "the header comment is missing"
    assert not re.search(r"\b(now\(\)|current_timestamp|current_date|clock_timestamp\(\))", text, re.IGNORECASE)


@pytest.mark.parametrize("path", STATEMENT_FILES, ids=lambda path: str(path.relative_to(SQL_FOLDER)))
def test_statement_holds_jinja_for_structure_only(path: Path) -> None:
    source = path.read_text()
    SandboxedEnvironment(undefined=StrictUndefined).parse(source)
    assert "params." not in source, "values come as binds"


def test_parsing_the_dags_warns_of_nothing_that_goes_away() -> None:
    """Airflow's parser must not meet a deprecated name of ours; its own warnings name its own files."""
    script = (
        "import warnings, sys\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    bag = DagBag({str(PROJECT / 'dags')!r})\n"
        "ours = [str(w.message) for w in caught if 'deprecat' in type(w.message).__name__.lower()\n"
        f"        and w.filename.startswith({str(PROJECT)!r}) and '.venv' not in w.filename]\n"
        "sys.exit('\\n'.join(ours) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
