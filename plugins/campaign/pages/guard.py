"""Who reads a page, and whether a request that changes something was made on one of our pages.

Airflow's login is a cookie, which a browser attaches to forged requests too. So an answer is taken only with
a token that our page put into its form, signed for this user, and only when the browser says that the request
comes from our own origin. Airflow's cookie is SameSite=Lax besides.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.tokens import get_signing_key
from fastapi import Request
from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from campaign.database import Connection, Row
from campaign.pages.database import select
from campaign.pages.errors import PageError
from campaign.run import ui_url

# A page that stays open over a working day can still be answered.
TOKEN_SECONDS = 12 * 60 * 60


def require_reader(connection: Connection, user: BaseUser) -> Row:
    """Return the member of staff who is the logged-in user: one row of ``select_reader.sql``.

    :raises PageError: when the user is nobody in the campaign database, or no longer active.
    """
    found = select(connection, "select_reader.sql", user_name=user.get_name())
    if found and found[0]["is_active"]:
        return found[0]
    name = user.get_name()
    if found:
        raise PageError(
            403,
            "You are no longer among the staff",
            f"The member of staff {name!r} is not active. An administrator of the campaign database can "
            "change that (campaign.staff.active).",
            leads_back=False,
        )
    raise PageError(
        403,
        "You are not among the staff yet",
        f"You are logged in to Airflow as {name!r}, and no member of staff has that name. An administrator of "
        f"the campaign database can add you: a row of campaign.staff with the internal_name {name!r}.",
        leads_back=False,
    )


def form_token(user: BaseUser) -> str:
    """Return what a form carries back, so that the answer is known to come from our page.

    Each is different, so that its presence in a compressed page tells nobody anything.
    """
    return _signer().dumps([user.get_id(), secrets.token_urlsafe(12)])


def refuse_forgery(request: Request, user: BaseUser, token: str, kept: str | None = None) -> None:
    """Let only requests through that a person made on one of our pages.

    :param token: what the form carried.
    :param kept: what the person typed, to be shown when an honest request is refused.
    :raises PageError: for any other.
    """
    refused = PageError(
        403,
        "Not answered",
        "This answer did not come from the page of the approval, so it was not taken. Open the page and answer there.",
        kept=kept,
    )
    fetch_site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if fetch_site not in (None, "same-origin") or (fetch_site is None and origin is None):
        raise refused
    if origin is not None and origin not in (_origin(ui_url()), _origin(str(request.url))):
        raise refused
    try:
        signed: Any = _signer().loads(token, max_age=TOKEN_SECONDS)
    except SignatureExpired as error:
        raise PageError(
            403, "This page is too old", "Open it again, look at what it shows now, and answer.", kept=kept
        ) from error
    except BadSignature as error:
        raise refused from error
    if signed[0] != user.get_id():
        raise refused


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(get_signing_key("api", "secret_key"), salt="campaign.pages")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
