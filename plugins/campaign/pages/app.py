"""The pages as a FastAPI app, which Airflow's API server mounts under ``/campaign``."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from campaign.pages import approvals, deliveries, overview
from campaign.pages.errors import PageError
from campaign.pages.rendering import STATIC_FOLDER, render
from campaign.run import PAGES_PREFIX

log = logging.getLogger(__name__)

# No script but our one file, no style but our one file, no form that leads elsewhere, no frame around us but
# Airflow's. same-origin: our own forms must tell where they come from, and nobody else learns our addresses.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; frame-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}

# Every page needs a login; so a new one does too. What is mounted (static files) is public.
app = FastAPI(
    title="Campaign Workflows", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(get_user)]
)
app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
app.include_router(overview.router)
app.include_router(approvals.router)
app.include_router(deliveries.router)


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Tell the browser what our pages may do; a page that says it itself is left as it is."""
    # Asked before: the mount of the static files moves the root.
    is_static = request.url.path.startswith(f"{request.scope.get('root_path', '')}/static/")
    response = await call_next(request)
    for name, value in (HEADERS | (STATIC_HEADERS if is_static else {})).items():
        response.headers.setdefault(name, value)
    return response


@app.exception_handler(PageError)
def show_page_error(request: Request, error: PageError) -> Response:
    """Say on a page what cannot be done, and what to do."""
    return _message(request, error.status, error.title, error.explanation, leads_back=error.leads_back, kept=error.kept)


@app.exception_handler(HTTPException)
async def show_http_error(request: Request, error: HTTPException) -> Response:
    """Lead to the login who is not logged in; say the rest on a page."""
    # Airflow's own check answers 401 without a login, and 403 to a token that it cannot read.
    if error.status_code in (401, 403):
        return await _ask_to_log_in(request)
    if error.status_code == 405:
        return _message(request, 405, "Not answered", "Open the page of the approval, and answer there.")
    return _message(request, 404, "There is no such page", "The address may be incomplete: copy all of it.")


@app.exception_handler(RequestValidationError)
def show_validation_error(request: Request, error: RequestValidationError) -> Response:
    """Say that an address or a form is not one of ours."""
    return _message(request, 404, "There is no such page", "The address may be incomplete: copy all of it.")


@app.exception_handler(Exception)
def show_failure(request: Request, error: Exception) -> Response:
    """Say that we failed, and no more; what happened is in the log."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    response = _message(
        request,
        500,
        "Something is broken",
        "Nothing was changed. What happened is in the log of Airflow's API server: tell those who run it.",
    )
    # This answer comes from outside of our middleware.
    response.headers.update(HEADERS)
    return response


async def _ask_to_log_in(request: Request) -> Response:
    """Redirect to Airflow's login, and back here afterwards; in a frame or after a form, say so instead."""
    if request.method == "GET" and request.headers.get("sec-fetch-dest") != "iframe":
        airflow_root = request.scope.get("root_path", "").removesuffix(PAGES_PREFIX)
        page = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{airflow_root}/api/v2/auth/login?{urlencode({'next': page})}", status_code=303)
    typed = await request.form() if request.method == "POST" else {}
    return _message(
        request,
        401,
        "You are logged out",
        "Nothing was answered. Log in to Airflow again (reload this browser tab), and you will be back here.",
        kept=str(typed.get("comment") or "") or None,
        can_reload=True,
        leads_back=False,
    )


def _message(request: Request, status: int, title: str, explanation: str, **values: Any) -> Response:
    values = {"kept": None, "can_reload": False, "leads_back": True} | values
    return render(request, "message.html.j2", status=status, title=title, explanation=explanation, **values)
