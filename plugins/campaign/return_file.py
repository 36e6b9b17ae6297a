"""A router's answer file: read in chunks, checked, and turned into rows; or refused, with all that is wrong with it.

A CSV file, plain or in gzip or zip, one row a recipient, by the key that our export formats call ``message.key``. What
it looks like is ``service.returns_format``; docs/providers.md describes it.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    import pandas

# Rows held at once.
CHUNK_ROWS = 50_000
READ_BYTES = 1 << 20
REASON_CHARACTERS = 500
FIELDS = ("key", "status", "reason", "printed", "posted")
KEY = r"[1-9][0-9]{0,17}-[1-9][0-9]{0,17}"
QUANTITY = r"[0-9]{1,9}"
ROWS_NAMED = 3
# Bit of the flags of a file in a zip archive.
ENCRYPTED = 1


class ReturnRefusedError(ValueError):
    """An answer, or the description of answers, cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class ReturnLayout:
    """What the answers of a service look like.

    :param columns: per field its heading in the file; fields: ``FIELDS``.
    :param demanded: the fields whose heading must be there.
    :param accepted: words of the status that mean accepted, in lower case; ``rejected`` likewise.
    :param line_end_at_end: whether a last line without a line end means that the file was cut off.
    """

    encoding: str = "utf-8-sig"
    delimiter: str = ","
    quote: str = '"'
    columns: dict[str, str] = field(default_factory=lambda: {name: name for name in FIELDS})
    demanded: tuple[str, ...] = ("key",)
    accepted: tuple[str, ...] = ("accepted", "ok")
    rejected: tuple[str, ...] = ("rejected", "error")
    line_end_at_end: bool = True

    @classmethod
    def from_format(cls, typed: dict[str, Any]) -> Self:
        """Read it from ``service.returns_format``.

        :raises ReturnRefusedError: when that says what there is not.
        """
        names = {"encoding", "delimiter", "quote", "columns", "accepted", "rejected", "line_end_at_end"}
        if unknown := sorted(set(typed) - names):
            raise _wrong_format(f"there is no {unknown[0]!r}; there are {', '.join(sorted(names))}.")
        values = dict(typed)
        for name in ("accepted", "rejected"):
            if name in values:
                values[name] = tuple(str(word).strip().casefold() for word in _list(name, values[name]))
        for name in ("delimiter", "quote"):
            if name in values and not (isinstance(values[name], str) and re.fullmatch(r"[^\r\n]", values[name])):
                raise _wrong_format(f"{name} must be one character, and not a line end.")
        if "encoding" in values:
            values["encoding"] = _encoding(values["encoding"])
        if "columns" in values:
            columns = values["columns"]
            if not isinstance(columns, dict) or not set(columns) <= set(FIELDS):
                raise _wrong_format(f"columns must be an object with names among {', '.join(FIELDS)}.")
            values["demanded"] = ("key", *(name for name in columns if name != "key"))
            values["columns"] = {name: name for name in FIELDS} | {name: str(text) for name, text in columns.items()}
        return replace(cls(), **values)


def _wrong_format(what: str) -> ReturnRefusedError:
    return ReturnRefusedError(f"returns_format of the service: {what}")


def _list(name: str, typed: Any) -> list[Any]:
    if not isinstance(typed, list):
        raise _wrong_format(f"{name} must be a list of words.")
    return typed


def _encoding(typed: Any) -> str:
    try:
        name = codecs.lookup(str(typed)).name
        b" ".decode(name, "replace")
    except LookupError:
        raise _wrong_format(f"there is no encoding {typed!r} for files.") from None
    # A byte order mark, which many programs write, is no part of the first heading.
    return "utf-8-sig" if name == "utf-8" else name


class Problems:
    """What is wrong with the rows of a file: per kind of problem how many rows, and the first of them."""

    def __init__(self) -> None:
        self._rows: dict[str, list[int]] = defaultdict(list)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, what: str, rows: pandas.Series[bool]) -> None:
        """Note the rows, by their number in the file, that are true."""
        if rows.any():
            self._counts[what] += int(rows.sum())
            named = self._rows[what]
            named.extend(int(number) for number in rows.index[rows][: ROWS_NAMED - len(named)])

    def require_none(self) -> None:
        """Refuse the file if there were any.

        :raises ReturnRefusedError: naming all of them.
        """
        if self._counts:
            raise ReturnRefusedError(
                " ".join(
                    f"{what}: {count} (row{'s' if len(self._rows[what]) > 1 else ''} "
                    f"{', '.join(map(str, self._rows[what]))}{', ...' if count > ROWS_NAMED else ''})."
                    for what, count in self._counts.items()
                )
            )


class _Tail(io.RawIOBase):
    """A file on its way through: remembers its last bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.last = b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what fits."""
        read = self._file.read(len(buffer))
        buffer[: len(read)] = read
        self.last = (self.last + read[-8:])[-8:]
        return len(read)

    def ends_a_line(self, encoding: str) -> bool:
        """Say whether what went through ended with a line end."""
        if encoding in ("utf-16", "utf-32"):  # in which order of bytes, only the first of them say
            return self.last.replace(b"\0", b"").endswith((b"\n", b"\r"))
        return self.last.decode(encoding.removesuffix("-sig"), errors="ignore").endswith(("\n", "\r"))


@contextmanager
def _unpacked(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open an answer, unpacked as the ending of its name says."""
    with ExitStack() as stack:
        if name.endswith(".gz"):
            yield cast("IO[bytes]", stack.enter_context(gzip.open(path)))
        elif name.endswith(".zip"):
            archive = stack.enter_context(zipfile.ZipFile(path))
            inside = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(inside) != 1:
                raise ReturnRefusedError(f"The archive must hold one file, and holds {len(inside)}.")
            if inside[0].flag_bits & ENCRYPTED:
                raise ReturnRefusedError("The archive is encrypted.")
            yield stack.enter_context(archive.open(inside[0]))
        else:
            yield stack.enter_context(path.open("rb"))


def read_answers(path: Path, layout: ReturnLayout, name: str = "") -> Iterator[pandas.DataFrame]:
    """Yield the rows of an answer in chunks: delivery_id, recipient_id, status, reason, printed, posted.

    The index is the number of the row in the file, the first after the headings being 1; what a file does
    not say is missing. All chunks must be taken before any of them counts: what is wrong is raised at the end.

    :param name: its name at the provider, which says how it is packed.
    :raises ReturnRefusedError: naming everything that is wrong.
    """
    problems, count = Problems(), 0
    try:
        with _unpacked(path, name) as file:
            tail = _Tail(file)
            for chunk in _raw_chunks(io.BufferedReader(tail, READ_BYTES), layout):
                count += len(chunk)
                yield _checked(chunk, layout, problems)
    except UnicodeError as error:
        raise ReturnRefusedError(
            f"It is not in the encoding {layout.encoding.removesuffix('-sig')} that the service says: {error}."
        ) from None
    except (EOFError, NotImplementedError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
        raise ReturnRefusedError(f"It is cut off or damaged: {error}.") from None
    if count == 0:
        raise ReturnRefusedError("It is empty: it has headings, and no row.")
    if layout.line_end_at_end and not tail.ends_a_line(layout.encoding):
        raise ReturnRefusedError("It is cut off: its last line has no end.")
    problems.require_none()


def _raw_chunks(file: IO[bytes], layout: ReturnLayout) -> Iterator[pandas.DataFrame]:
    """Yield the rows as text, under the names of our fields; the index is the row number."""
    import pandas

    try:
        reader = pandas.read_csv(
            file,
            header=None,
            dtype=str,
            keep_default_na=False,
            chunksize=CHUNK_ROWS,
            encoding=layout.encoding,
            sep=layout.delimiter,
            quotechar=layout.quote,
        )
        positions: dict[str, int] | None = None
        for chunk in reader:
            rows = chunk
            if positions is None:
                positions = _positions([str(heading) for heading in chunk.iloc[0]], layout)
                rows = chunk.iloc[1:]
            yield rows[list(positions.values())].set_axis(list(positions), axis=1)
    except pandas.errors.EmptyDataError:
        raise ReturnRefusedError("It is empty.") from None
    except pandas.errors.ParserError as error:
        raise ReturnRefusedError(f"It is cut off or damaged: {' '.join(str(error).split())}.") from None


def _positions(headings: list[str], layout: ReturnLayout) -> dict[str, int]:
    """Return where each of our fields stands."""
    there = [heading.strip().casefold() for heading in headings]
    positions = {}
    for name, heading in layout.columns.items():
        wanted = heading.strip().casefold()
        if there.count(wanted) > 1:
            raise ReturnRefusedError(f"The heading {heading!r} stands twice.")
        if wanted in there:
            positions[name] = there.index(wanted)
        elif name in layout.demanded:
            raise ReturnRefusedError(
                f"It has no heading {heading!r}, which returns_format of the service names; it has "
                f"{', '.join(repr(text[:40]) for text in headings[:20])}."
            )
    if not {"status", "printed", "posted"} & set(positions):
        raise ReturnRefusedError("It says nothing but keys: no status, and no quantity printed or posted.")
    return positions


def _checked(rows: pandas.DataFrame, layout: ReturnLayout, problems: Problems) -> pandas.DataFrame:
    """Return the rows that are right, in our types; note the others."""
    import pandas

    texts = rows.apply(lambda column: column.str.strip())
    is_key = texts["key"].str.fullmatch(KEY)
    problems.add("No key of ours", ~is_key)
    is_right = is_key
    checked = pandas.DataFrame(index=rows.index)
    missing = pandas.Series(pandas.NA, index=rows.index, dtype="object")
    if "status" in texts:
        word = texts["status"].str.casefold()
        accepted, rejected = word.isin(layout.accepted), word.isin(layout.rejected)
        is_known = accepted | rejected | (word == "")
        problems.add("A status that is neither accepted nor rejected", ~is_known)
        is_right &= is_known
        checked["status"] = missing.mask(accepted, "accepted").mask(rejected, "rejected")
    else:
        checked["status"] = missing
    checked["reason"] = (
        texts["reason"].str.replace(r"[\x00-\x1f\x7f]+", " ", regex=True).str.slice(0, REASON_CHARACTERS)
        if "reason" in texts
        else missing
    )
    for name in ("printed", "posted"):
        if name not in texts:
            checked[name] = missing
            continue
        quantity = texts[name]
        is_number = quantity.str.fullmatch(QUANTITY)
        is_negative = quantity.str.fullmatch("-" + QUANTITY)
        problems.add(f"A quantity {name} below zero", is_negative)
        problems.add(f"A quantity {name} that is no whole number", ~is_number & ~is_negative & (quantity != ""))
        is_right &= is_number | (quantity == "")
        checked[name] = quantity.where(is_number, missing)
    says = checked[["status", "printed", "posted"]].notna().any(axis=1)
    problems.add("Rows that say nothing: no status, and no quantity", is_right & ~says)
    checked = cast("pandas.DataFrame", checked.loc[is_right & says])
    keys = texts.loc[checked.index, "key"].str.split("-", expand=True)
    checked.insert(0, "delivery_id", keys[0] if len(checked) else "")
    checked.insert(1, "recipient_id", keys[1] if len(checked) else "")
    return checked
