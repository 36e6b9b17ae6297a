"""What a file looks like: the export format of a service, checked, and the COPY that follows from it."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from psycopg import sql

from campaign.extraction import ExtractionError
from campaign.extraction.expression import compile_expression

EXTENSIONS = {"none": "", "gzip": ".gz", "zip": ".zip", "zstd": ".zst"}
# Encodings of protocols and programs, not of files.
NOT_FOR_FILES = {
    "idna",
    "punycode",
    "unicode-escape",
    "raw-unicode-escape",
    "charmap",
    "utf-7",
    "undefined",
    "mbcs",
    "oem",
}
# In a line of fixed width nothing is quoted: these two never occur in it, so COPY never quotes.
UNUSED_QUOTE, UNUSED_DELIMITER = "\x01", "\x02"
# What must not stand in such a line; each becomes a space.
ODD_IN_FIXED_WIDTH = "\n\r\t" + UNUSED_QUOTE + UNUSED_DELIMITER


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A file's layout.

    :param columns: per column its heading, its SQL, and its width and alignment where widths are fixed.
    :param line_end: LF or CR LF.
    :param encoding: Python's name of it.
    """

    format_label: str
    columns: list[tuple[str, sql.Composable, int | None, str]]
    delimiter: str
    quote: str
    has_header: bool
    encoding: str
    line_end: str
    compression: str

    @property
    def is_fixed_width(self) -> bool:
        """Whether each column has a width, instead of a delimiter after it."""
        return self.columns[0][2] is not None

    @property
    def is_one_value_a_line(self) -> bool:
        """Whether a line could be blank, and so be skipped by its readers: then all values are quoted, none missing."""
        return len(self.columns) == 1 and not self.is_fixed_width

    @property
    def extension(self) -> str:
        """The end of a file name that has none of its own, before that of the compression."""
        return ".txt" if self.is_fixed_width else ".csv"

    def header(self) -> str:
        """Return the first line, with LF at its end; empty when the file has none."""
        if not self.has_header:
            return ""
        if self.is_fixed_width:
            padded = (
                heading[:width].rjust(width) if align == "right" else heading[:width].ljust(width)
                for heading, _, width, align in self.columns
                if width
            )
            return "".join(padded) + "\n"
        line = io.StringIO()
        csv.writer(line, delimiter=self.delimiter, quotechar=self.quote, lineterminator="\n").writerow(
            [heading for heading, *_ in self.columns]
        )
        return line.getvalue()

    def first_line(self) -> bytes:
        """Return the header as it stands in the file, but in UTF-8; empty when the file has none."""
        header = self.header()
        return (header.removesuffix("\n") + self.line_end).encode() if header else b""

    def query(self, delivery_id: int, limit: int | None = None) -> sql.Composed:
        """Return the SELECT of the rows: messages and seeds, in the order of recipients."""
        if self.is_fixed_width:
            padded = [_padded(value, width or 0, align) for _, value, width, align in self.columns]
            chained = sql.SQL(", ").join(cast("list[sql.Composable]", padded))
            values: list[sql.Composable] = [sql.SQL("concat({})").format(chained)]
        else:
            values = [expression for _, expression, *_ in self.columns]
            if self.is_one_value_a_line:
                values = [sql.SQL("coalesce({}, '')").format(*values)]
        return sql.SQL(
            "SELECT {values} FROM campaign.delivery_target AS target "
            "INNER JOIN campaign.recipient ON target.recipient_id = recipient.id "
            "WHERE target.delivery_id = {delivery_id} AND target.role IN ('main', 'seed') "
            "ORDER BY target.recipient_id{limit}"
        ).format(
            values=sql.SQL(", ").join(values),
            delivery_id=sql.Literal(delivery_id),
            limit=sql.SQL("") if limit is None else sql.SQL(" LIMIT {}").format(sql.Literal(limit)),
        )

    def copy_statement(self, delivery_id: int) -> sql.Composed:
        """Return the COPY of the rows, in UTF-8 and with LF."""
        return sql.SQL(
            "COPY ({query}) TO STDOUT (FORMAT csv, DELIMITER {delimiter}, QUOTE {quote}, ESCAPE {quote}, "
            "NULL '', {quoting}ENCODING 'UTF8')"
        ).format(
            query=self.query(delivery_id),
            quoting=sql.SQL("FORCE_QUOTE *, " if self.is_one_value_a_line else ""),
            delimiter=sql.Literal(UNUSED_DELIMITER if self.is_fixed_width else self.delimiter),
            quote=sql.Literal(UNUSED_QUOTE if self.is_fixed_width else self.quote),
        )

    def truncation_query(self, delivery_id: int) -> sql.Composed:
        """Return a SELECT that counts the values that are longer than their fixed width."""
        too_long = sql.SQL(" + ").join(
            sql.SQL("(coalesce(length({}), 0) > {})::integer").format(expression, sql.Literal(width))
            for _, expression, width, _ in self.columns
        )
        return sql.SQL(
            "SELECT coalesce(sum({}), 0) FROM campaign.delivery_target AS target "
            "INNER JOIN campaign.recipient ON target.recipient_id = recipient.id "
            "WHERE target.delivery_id = {} AND target.role IN ('main', 'seed')"
        ).format(too_long, sql.Literal(delivery_id))


def _padded(expression: sql.Composable, width: int, align: str) -> sql.Composed:
    """Return a value filled up, or cut, to its width; line ends and tabs in it become spaces."""
    pad = sql.SQL("lpad" if align == "right" else "rpad")
    return sql.SQL("{pad}(left(translate(coalesce({value}, ''), {odd}, {spaces}), {width}), {width})").format(
        pad=pad,
        value=expression,
        odd=sql.Literal(ODD_IN_FIXED_WIDTH),
        spaces=sql.Literal(" " * len(ODD_IN_FIXED_WIDTH)),
        width=sql.Literal(width),
    )


def parse_layout(export_format: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> Layout:
    """Check an export format, and return the layout of the files that are written with it.

    :param export_format: the row of ``campaign.export_format``.
    :param facts: what is the same in every row of the file.
    :raises ExtractionError: when something in it cannot be used; it names the format and the column.
    """
    label = export_format["label"]
    try:
        columns = [_column(number, column, facts) for number, column in enumerate(export_format["columns"], start=1)]
        if len({width is None for _, _, width, _ in columns}) > 1:
            raise ExtractionError("either each column has a width, or none")
        layout = Layout(
            format_label=label,
            columns=columns,
            delimiter=export_format["delimiter"],
            quote=export_format["quote"],
            has_header=export_format["header"],
            encoding=_encoding(export_format["encoding"]),
            line_end=export_format["line_end"],
            compression=export_format["compression"],
        )
        _check_signs(layout)
    except ExtractionError as error:
        raise ExtractionError(f"In the export format {label!r}: {error}.") from None
    return layout


def _column(
    number: int, column: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]
) -> tuple[str, sql.Composable, int | None, str]:
    place = f"column {number} ({column['header']!r})"
    unknown = set(column) - {"header", "expression", "width", "align"}
    if unknown:
        raise ExtractionError(f"{place}: {', '.join(sorted(unknown))} is not known")
    width, align = column.get("width"), column.get("align", "left")
    if width is not None and (isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= 10_000):
        raise ExtractionError(f"{place}: width must be a whole number from 1 to 10000")
    if align not in ("left", "right"):
        raise ExtractionError(f"{place}: align must be left or right")
    if "\n" in column["header"] or "\r" in column["header"]:
        raise ExtractionError(f"{place}: a heading must not have a line end")
    try:
        return column["header"], compile_expression(column["expression"], facts), width, align
    except ExtractionError as error:
        raise ExtractionError(f"{place}: {error}") from None


def _encoding(name: str) -> str:
    try:
        codec = codecs.lookup(name)
        "".encode(codec.name)
    except (LookupError, ValueError):
        raise ExtractionError(f"there is no encoding {name!r}; there are UTF-8, ISO-8859-1, CP1252, ...") from None
    if codec.name in NOT_FOR_FILES:
        raise ExtractionError(f"{name!r} is no encoding for files")
    return codec.name


def _check_signs(layout: Layout) -> None:
    if layout.is_fixed_width:
        return
    for what, sign in (("delimiter", layout.delimiter), ("quote", layout.quote)):
        if len(sign.encode()) != 1:
            raise ExtractionError(f"the {what} {sign!r} must be a sign of ASCII")
        # What an encoding lacks becomes a question mark, which nobody would have quoted.
        if sign == "?" and not layout.encoding.startswith("utf"):
            raise ExtractionError(f"the {what} must not be '?' with the encoding {layout.encoding}")
