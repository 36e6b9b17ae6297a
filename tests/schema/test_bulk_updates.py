"""What triggers do takes time in proportion to the rows that were written."""

from __future__ import annotations

import re
from typing import Any

import psycopg


def test_plans_that_are_kept_join_the_rows_before_and_after_without_nested_loops(db: psycopg.Connection[Any]) -> None:
    """A session keeps the plan of its first update, of one row or none, for its next one, of a million."""
    joins: dict[str, bool] = {}

    def note_plan(diagnostic: psycopg.errors.Diagnostic) -> None:
        plan = diagnostic.message_detail or ""
        kept = re.search(r"PL/pgSQL function (\S+) line \d+ at SQL statement$", diagnostic.context or "")
        if kept and plan.count("{NAMEDTUPLESTORESCAN") == 2 and re.search(r"\{(NESTLOOP|HASHJOIN|MERGEJOIN)", plan):
            joins[kept[1]] = "{HASHJOIN" in plan or "{MERGEJOIN" in plan

    updates = db.execute(
        "SELECT DISTINCT format('UPDATE %1$s SET %2$I = %2$I', tgrelid::regclass, attname) "
        "FROM pg_trigger JOIN pg_attribute ON attrelid = tgrelid AND attnum = 1 "
        "WHERE num_nonnulls(tgoldtable, tgnewtable) = 2"
    ).fetchall()
    db.add_notice_handler(note_plan)
    db.execute("SET client_min_messages = log; SET debug_print_plan = on")
    for (update,) in updates:
        db.execute(update)
    assert len(joins) > 15
    # The journal tells of small updates row by row, and of others how many rows they changed.
    assert [function for function, is_safe in joins.items() if not is_safe] == ["campaign.journal_edits()"]
