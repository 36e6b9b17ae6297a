"""A real S3 server on the loopback address, in a process of its own, that is killed and slowed down as it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any

import boto3
from botocore.config import Config

REGION, KEY, SECRET = "eu-north-1", "router", "right"


class S3Server:
    """moto's server. What lies in it is gone when it is killed, as on a disk that was lost.

    :param free_actions: after so many it lets nobody in whom it does not know; None: it lets in everybody.
    """

    def __init__(self, free_actions: int | None = None) -> None:
        self.port = 0
        self.free_actions = free_actions
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen: on a free port the first time, then on the same."""
        if not self.port:
            self.port = _free_port()
        self._process = subprocess.Popen(  # the module that `moto_server` runs
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ
            | ({} if self.free_actions is None else {"INITIAL_NO_AUTH_ACTION_COUNT": str(self.free_actions)}),
        )
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/moto-api/", timeout=1):  # noqa: S310
                    return
            except OSError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send the server a signal: SIGSTOP makes it hang, SIGCONT go on, SIGKILL ends it."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it in the middle of what it does."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """Return a client of the test's own, to look with."""
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION,
            config=Config(retries={"max_attempts": 1}),
        )  # fmt: skip

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})

    def files(self, bucket: str) -> dict[str, bytes]:
        """Return what lies in a bucket."""
        client = self.client()
        listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {item["Key"]: client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed}

    def unfinished_uploads(self, bucket: str) -> int:
        """Return how many uploads in parts were begun and neither finished nor given up."""
        return len(self.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []))

    def airflow_connection(self, read_timeout: int = 30) -> str:
        """Return the Airflow connection to it."""
        config = {"connect_timeout": 2, "read_timeout": read_timeout, "retries": {"max_attempts": 1}}
        return json.dumps(
            {
                "conn_type": "aws",
                "login": KEY,
                "password": SECRET,
                "extra": {"endpoint_url": self.url, "region_name": REGION, "config_kwargs": config},
            }
        )


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
