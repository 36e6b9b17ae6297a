"""The page of one delivery, for its owner: what it waits for, and what can be done about it."""

from __future__ import annotations

import enum
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from psycopg import sql

from campaign.database import Connection, Row
from campaign.pages.approvals import Id
from campaign.pages.content import html_response
from campaign.pages.database import REFUSAL_STATUS, REFUSALS, reading, select, writing
from campaign.pages.errors import PageError
from campaign.pages.guard import form_token, refuse_forgery, require_reader
from campaign.pages.rendering import render
from campaign.pages.words import DEEDS

router = APIRouter(prefix="/deliveries")

JOURNAL_LINES = 20


class Deed(enum.StrEnum):
    """What can be done with a delivery."""

    CONFIRM = "confirm"
    RELEASE = "release"
    RETRY = "retry"


@router.get("/{delivery_id}")
def show_delivery(request: Request, user: GetUserDep, delivery_id: Id) -> Response:
    """A delivery as it stands, what happened to it, and what can be done."""
    with reading() as connection:
        reader = require_reader(connection, user)
        return _page(request, user, connection, reader, delivery_id)


@router.get("/{delivery_id}/content")
def show_content(user: GetUserDep, delivery_id: Id, pictures: bool = False) -> Response:
    """The HTML of the delivery, as its recipients see it; for a frame."""
    with reading() as connection:
        _find(connection, require_reader(connection, user), delivery_id)
        return html_response(connection, delivery_id, with_pictures=pictures)


@router.get("/{delivery_id}/{deed}")
def lead_back(request: Request, delivery_id: Id, deed: Deed) -> Response:
    """Lead to the delivery who reloads the answer to a deed, or logs in after one."""
    return _redirect_to_delivery(request, deed)


@router.post("/{delivery_id}/{deed}")
def act(
    request: Request, user: GetUserDep, delivery_id: Id, deed: Deed, token: Annotated[str, Form()] = ""
) -> Response:
    """Confirm, release or retry a delivery; the function of the schema decides whether that may be."""
    refuse_forgery(request, user, token)
    function = sql.Identifier("campaign", DEEDS[deed][0])
    try:
        with writing() as connection:
            reader = require_reader(connection, user)
            connection.execute(sql.SQL("SELECT {}(%s, %s)").format(function), [delivery_id, reader["id"]])
    except REFUSALS as refusal:
        with reading() as connection:
            reader = require_reader(connection, user)
            status, reason = REFUSAL_STATUS[type(refusal)], refusal.diag.message_primary
            return _page(request, user, connection, reader, delivery_id, status=status, refusal=reason)
    return _redirect_to_delivery(request, deed)


def _redirect_to_delivery(request: Request, deed: Deed) -> Response:
    return RedirectResponse(request.url.path.removesuffix(f"/{deed}"), status_code=303)


def _page(
    request: Request,
    user: Any,
    connection: Connection,
    reader: Row,
    delivery_id: int,
    *,
    status: int = 200,
    refusal: str | None = None,
) -> Response:
    delivery = _find(connection, reader, delivery_id)
    [details] = select(connection, "select_delivery_details.sql", delivery_id=delivery_id)
    return render(
        request,
        "delivery.html.j2",
        reader=reader,
        status=status,
        delivery=delivery,
        details=details,
        rounds=select(connection, "select_rounds.sql", delivery_id=delivery_id),
        journal=select(connection, "select_journal.sql", delivery_id=delivery_id, limit=JOURNAL_LINES),
        refusal=refusal,
        token=form_token(user),
        deeds=DEEDS,
    )


def _find(connection: Connection, reader: Row, delivery_id: int) -> Row:
    found = select(
        connection,
        "select_delivery.sql",
        delivery_id=delivery_id,
        staff_id=reader["id"],
        is_admin=reader["is_admin"],
    )
    if not found:
        raise PageError(404, "There is no such delivery", f"Delivery {delivery_id} is not in the record.")
    if not found[0]["may_see"]:
        owner = found[0]["owner"] or "nobody"
        raise PageError(
            403, "This delivery is not yours", f"Its campaign belongs to {owner}. Ask its owner, or an administrator."
        )
    return found[0]
