"""Where files go: written under a temporary name, then put in their place, for good."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from airflow.sdk import ObjectStoragePath

LOCAL = ("file", "local", "")


def temporary_of(target: ObjectStoragePath) -> ObjectStoragePath:
    """Return the name under which a file is written; whoever lists the folder for files does not see it."""
    return target.parent / f".{target.name}.part"


def sync_to_disk(file: BinaryIO) -> None:
    """Make the bytes of a local file survive a power cut; elsewhere, storage answers for itself."""
    file.flush()
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError):
        return
    os.fsync(descriptor)


def put_in_place(temporary: ObjectStoragePath, target: ObjectStoragePath) -> None:
    """Give a file its name, in one step where storage can, and make the name survive a power cut.

    :raises OSError: when something that is no file has that name.
    """
    if target.protocol not in LOCAL:
        temporary.replace(target)
        return
    folder = Path(target.path).parent
    Path(temporary.path).replace(target.path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
