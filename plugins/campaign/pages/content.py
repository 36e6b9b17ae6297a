"""The HTML of a delivery, shown to its reviewers. Whoever wrote it is not trusted."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

from campaign.database import Connection
from campaign.pages.errors import PageError

# A page of nobody: no script, no form, no cookie, nothing to load. Pictures come from their servers, which
# learn that somebody looks; so only when the reader asks for them.
SANDBOX = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; font-src data:; img-src data:{pictures}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


def html_response(connection: Connection, delivery_id: int, *, with_pictures: bool) -> HTMLResponse:
    """Return the HTML of a delivery as a document that can do nothing.

    :raises PageError: when it has none.
    """
    found = connection.execute("SELECT body_html FROM campaign.delivery WHERE id = %s", [delivery_id]).fetchone()
    if found is None or found[0] is None:
        raise PageError(404, "There is no such page", "This delivery has no HTML.")
    return HTMLResponse(
        found[0],
        headers={
            "Content-Security-Policy": SANDBOX.format(pictures=" https: http:" if with_pictures else ""),
            "Referrer-Policy": "no-referrer",
        },
    )
