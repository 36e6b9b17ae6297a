"""Airflow's own API server with our pages in it, and people who are logged in to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.utils.db import initdb
from fastapi import FastAPI
from fastapi.testclient import TestClient

# What a browser says of a form on a page of ours.
OUR_PAGE = {"sec-fetch-site": "same-origin", "origin": "http://testserver"}


class Person:
    """Somebody at a browser, logged in to Airflow under a name; None is nobody."""

    def __init__(self, server: FastAPI, name: str | None) -> None:
        self.client = TestClient(server, follow_redirects=False, raise_server_exceptions=False)
        if name is not None:
            user = SimpleAuthManagerUser(username=name, role="viewer")
            self.client.cookies.set("_token", get_auth_manager().generate_jwt(user))

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(f"/campaign{path}", headers=headers)

    def token(self, path: str) -> str:
        """Open a page, and return the token of its form."""
        found = re.search(r'name="token" value="([^"]+)"', self.get(path).text)
        return found[1] if found else "none"

    def post(
        self, path: str, form: dict[str, Any], *, page: str = "/approvals/1", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a form as our page would: with its token, and with what the browser adds."""
        token = form.pop("token", None) or self.token(page)
        return self.client.post(
            f"/campaign{path}", data={"token": token, **form}, headers=OUR_PAGE if headers is None else headers
        )

    def answer(self, approval: int, decision: str, comment: str = "") -> httpx.Response:
        return self.post(
            f"/approvals/{approval}/decision",
            {"decision": decision, "comment": comment},
            page=f"/approvals/{approval}",
        )

    def act(self, delivery: int, deed: str) -> httpx.Response:
        return self.post(f"/deliveries/{delivery}/{deed}", {}, page=f"/deliveries/{delivery}")


@pytest.fixture(scope="session")
def api_server() -> Iterator[FastAPI]:
    """Start Airflow's API server, which loads our plugin as it does in production."""
    initdb()
    return create_app(apps="core")


@pytest.fixture
def person(api_server: FastAPI, dsn: str) -> Callable[[str | None], Person]:
    """Return a function that seats somebody at a browser."""
    return lambda name: Person(api_server, name)
