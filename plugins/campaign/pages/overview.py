"""The first page: what is wrong, what waits for the reader, and what was decided."""

from __future__ import annotations

import enum
from itertools import groupby
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Query, Request, Response

from campaign.database import Connection, Row
from campaign.pages.database import reading, select
from campaign.pages.guard import require_reader
from campaign.pages.health import read_troubles
from campaign.pages.rendering import render
from campaign.pages.words import KINDS

router = APIRouter()

PAGE_ROWS = 50
DELIVERIES = 100


class View(enum.StrEnum):
    """What the list shows."""

    MINE = "mine"
    OTHERS = "others"
    DECIDED = "decided"


@router.get("/")
def show_overview(
    request: Request,
    user: GetUserDep,
    view: View = View.MINE,
    kind: str = "",
    search: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """What waits for the reader, first deadline first."""
    with reading() as connection:
        reader = require_reader(connection, user)
        binds = {
            "staff_id": reader["id"],
            "kind": kind if kind in KINDS else None,
            "search": search.replace("\0", "").strip() or None,
            "offset": (page - 1) * PAGE_ROWS,
        }
        listed = select(
            connection,
            "select_pending_approvals.sql",
            **binds | {"scope": "others" if view == View.OTHERS else "mine", "limit": PAGE_ROWS},
        )
        counts = listed[0]
        approvals = [row for row in listed if row["id"] is not None]
        has_more = counts["matching"] > page * PAGE_ROWS
        if view == View.DECIDED:
            decided = select(
                connection,
                "select_decided_approvals.sql",
                **binds | {"is_admin": reader["is_admin"], "limit": PAGE_ROWS + 1},
            )
            approvals, has_more = decided[:PAGE_ROWS], len(decided) > PAGE_ROWS
        values = {
            "view": view,
            "kind": binds["kind"],
            "search": binds["search"],
            "page": page,
            "counts": counts,
            "groups": [("", approvals)] if view == View.DECIDED else by_urgency(approvals),
            "has_more": has_more,
            "first_row": binds["offset"] + 1,
            "row_count": len(approvals),
            "troubles": read_troubles(connection) if reader["is_supervisor"] else [],
            "deliveries": _deliveries_in_need(connection, reader),
        }
    return render(request, "overview.html.j2", reader=reader, **values)


def _deliveries_in_need(connection: Connection, reader: Row) -> list[Row]:
    return select(
        connection,
        "select_deliveries_in_need.sql",
        staff_id=reader["id"],
        is_admin=reader["is_admin"],
        limit=DELIVERIES,
    )


def by_urgency(approvals: list[Row]) -> list[tuple[str, list[Row]]]:
    """Group pending approvals, in the order of their deadlines, under how urgent they are."""

    def urgency(row: Row) -> str:
        left = (row["deadline_at"] - row["moment"]).total_seconds()
        return "Late" if left <= 0 else "Within a day" if left <= 86_400 else "Later"

    return [(name, list(rows)) for name, rows in groupby(approvals, urgency)]
