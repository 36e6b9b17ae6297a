"""Names of extraction files: from a template that somebody typed, cleaned, and unlike all before."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from campaign.extraction import ExtractionError
from campaign.extraction.layout import EXTENSIONS, Layout
from campaign.templating import TemplateRefusedError, render_text

DEFAULT_TEMPLATE = '{{ delivery.internal_name }}_{{ as_of.strftime("%Y%m%d") }}'
# With the extensions and a version it stays below what file systems allow (255 bytes).
LONGEST_STEM = 180
# What Windows takes for a device, whatever comes after a dot: no file of that name can be stored there.
DEVICE = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
# Letters that Unicode does not take apart into a base letter and a mark.
FOLDED = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "AE", "œ": "oe"})


def make_file_name(
    template: str | None,
    facts: Mapping[str, Mapping[str, Any]],
    *,
    as_of: datetime,
    version: int,
    layout: Layout,
    is_taken: Callable[[str], bool],
) -> str:
    """Return the name of a delivery's file.

    :param template: ``service.file_name_template``; None or empty for the default.
    :param is_taken: says whether a file of this name is on record.
    :raises ExtractionError: when the template cannot be rendered or gives no name.
    """
    variables = {**facts, "as_of": as_of, "version": version}
    try:
        rendered = render_text(template or DEFAULT_TEMPLATE, variables, name="file_name_template")
    except TemplateRefusedError as error:
        raise ExtractionError(f"The file name cannot be made: {error}.") from error
    stem, extension = _take_apart(clean(rendered), layout)
    if not stem:
        raise ExtractionError(f"The file name cannot be made: the template gives {rendered[:60]!r}, which is no name.")
    name, number = f"{stem}{extension}", version
    while is_taken(name):
        name = f"{stem}_v{number}{extension}"
        number += 1
    return name


def clean(name: str) -> str:
    """Return a name of ASCII letters, digits, dots, underscores and hyphens, in no folder, not hidden."""
    plain = unicodedata.normalize("NFKD", name.translate(FOLDED)).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", plain).strip("._-")


def _take_apart(name: str, layout: Layout) -> tuple[str, str]:
    """Return a name without its extensions, and the extensions that the layout asks for."""
    compressed = EXTENSIONS[layout.compression]
    name = name.removesuffix(compressed) if compressed else name
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem or not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,5}", extension):
        stem, extension = name, layout.extension.removeprefix(".")
    return DEVICE.sub(r"\1_", stem[:LONGEST_STEM].rstrip("._-")), f".{extension}{compressed}"
