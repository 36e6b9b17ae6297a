"""The page of one approval, where it is answered."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import psycopg
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.responses import RedirectResponse

from campaign.database import Connection, Row
from campaign.pages.content import html_response
from campaign.pages.database import REFUSAL_STATUS, REFUSALS, reading, select, writing
from campaign.pages.errors import PageError
from campaign.pages.file_preview import preview_file
from campaign.pages.guard import form_token, refuse_forgery, require_reader
from campaign.pages.rendering import render

router = APIRouter(prefix="/approvals")

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
COMMENT_LETTERS = 10_000
# Kinds of approval whose reviewers look at the file.
FILE_KINDS = ("extraction", "proof")


class Decision(enum.StrEnum):
    """What a person can answer."""

    APPROVE = "approve"
    REJECT = "reject"


@router.get("/{approval_id}")
def show_approval(request: Request, user: GetUserDep, approval_id: Id) -> Response:
    """All that is to be known to answer one approval, and the form to answer it."""
    with reading() as connection:
        reader = require_reader(connection, user)
        return _page(request, user, connection, reader, approval_id)


@router.get("/{approval_id}/content")
def show_content(user: GetUserDep, approval_id: Id, pictures: bool = False) -> Response:
    """The HTML of the delivery, as its recipients see it; for a frame."""
    with reading() as connection:
        reader = require_reader(connection, user)
        approval = _find(connection, reader, approval_id)
        return html_response(connection, approval["delivery_id"], with_pictures=pictures)


@router.get("/{approval_id}/decision")
def lead_back(request: Request, approval_id: Id) -> Response:
    """Lead to the approval who reloads the answer to an answer, or logs in after one."""
    return _redirect_to_approval(request)


@router.post("/{approval_id}/decision")
def decide(
    request: Request,
    user: GetUserDep,
    approval_id: Id,
    decision: Annotated[Decision, Form()],
    comment: Annotated[str, Form()] = "",
    token: Annotated[str, Form()] = "",
) -> Response:
    """Hand an answer to ``campaign.decide_approval``, which decides whether it counts."""
    comment = comment.replace("\0", "").replace("\r\n", "\n").strip()
    refuse_forgery(request, user, token, kept=comment or None)
    if len(comment) > COMMENT_LETTERS:
        raise PageError(
            413, "Not answered", f"The comment is longer than {COMMENT_LETTERS} letters: shorten it.", kept=comment
        )
    try:
        with writing() as connection:
            reader = require_reader(connection, user)
            connection.execute(
                "SELECT campaign.decide_approval(%s, %s, %s, %s)",
                [approval_id, reader["id"], decision == Decision.APPROVE, comment or None],
            )
    except REFUSALS as refusal:
        return _show_refusal(request, user, approval_id, decision, comment, refusal)
    except PageError as error:
        error.kept = comment or None
        raise
    return _redirect_to_approval(request)


def _redirect_to_approval(request: Request) -> Response:
    return RedirectResponse(request.url.path.removesuffix("/decision"), status_code=303)


def _show_refusal(
    request: Request, user: Any, approval_id: int, decision: Decision, comment: str, refusal: psycopg.Error
) -> Response:
    """Show the approval as it is now, why the answer was not taken, and what had been typed."""
    with reading() as connection:
        reader = require_reader(connection, user)
        approval = _find(connection, reader, approval_id)
        wanted = "approved" if decision == Decision.APPROVE else "rejected"
        if approval["is_decided_by_reader"] and approval["status"] == wanted:
            # A button pressed twice.
            return _redirect_to_approval(request)
        reason = refusal.diag.message_primary or ""
        return _page(
            request,
            user,
            connection,
            reader,
            approval_id,
            status=REFUSAL_STATUS[type(refusal)],
            refusal={"reason": reason, "comment": comment},
        )


def _page(
    request: Request,
    user: Any,
    connection: Connection,
    reader: Row,
    approval_id: int,
    *,
    status: int = 200,
    refusal: dict[str, str] | None = None,
) -> Response:
    approval = _find(connection, reader, approval_id)
    delivery_id = approval["delivery_id"]
    [details] = select(connection, "select_delivery_details.sql", delivery_id=delivery_id)
    rounds = select(connection, "select_rounds.sql", delivery_id=delivery_id)
    preview = (
        preview_file(connection, delivery_id, details["file_url"])
        if approval["kind"] in FILE_KINDS and details["file_url"]
        else None
    )
    return render(
        request,
        "approval.html.j2",
        reader=reader,
        status=status,
        approval=approval,
        details=details,
        rounds=rounds,
        preview=preview,
        refusal=refusal,
        token=form_token(user),
        comment_letters=COMMENT_LETTERS,
    )


def _find(connection: Connection, reader: Row, approval_id: int) -> Row:
    found = select(connection, "select_approval.sql", approval_id=approval_id, staff_id=reader["id"])
    if not found:
        raise PageError(404, "There is no such approval", f"Approval {approval_id} is not in the record.")
    [approval] = found
    if not approval["may_see"]:
        people = ", ".join(approval["reviewers"] or ["nobody"])
        raise PageError(
            403, "This approval is not yours to answer", f"It was submitted to {people}. Ask them, or an administrator."
        )
    return approval
