"""The sums of bench/budget.py in columns: pandas, polars, DuckDB. Exact: in whole hundred-thousandths.

Each reads the same rows by ADBC, computes, and writes what it made by ADBC (binary COPY) into tables like ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import duckdb
import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.conninfo import conninfo_to_dict

DELIVERIES = """
SELECT
    delivery.id AS delivery_id, delivery.campaign_id, delivery.message_count AS messages,
    coalesce(campaign.budget_id, program.budget_id) AS budget_id,
    CASE delivery.status WHEN 'finished' THEN 'spent' ELSE campaign.commitment_level END AS level,
    CASE delivery.status WHEN 'finished' THEN delivery.finished_at END AS charged_at
FROM campaign.delivery
INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
INNER JOIN campaign.program ON campaign.program_id = program.id
"""
SELECTIONS = "SELECT delivery_id, cost_type_id, expense_category_id FROM campaign.delivery_cost"
# One row per cost type: five upper bounds, and for six bands what is due at their beginning, for each message, and
# what words stand before and after the number of messages.
TARIFFS = """
WITH bound AS (
    SELECT
        structure.id, structure.cost_type_id, coalesce(structure.method, structure.basis) AS method,
        structure.amount, structure.batch_size, structure.beyond_amount, threshold.*
    FROM campaign.cost_structure AS structure
    LEFT JOIN LATERAL (
        SELECT
            array_agg(up_to ORDER BY up_to) AS up_to,
            array_agg(threshold.amount ORDER BY up_to) AS amounts
        FROM campaign.cost_threshold AS threshold
        WHERE threshold.cost_structure_id = structure.id
    ) AS threshold ON TRUE
)

SELECT
    id AS cost_structure_id, cost_type_id, batch_size * 1000 AS divisor, (method = 'fixed')::int AS is_fixed,
    {columns}
FROM bound
"""
BANDS = range(6)


def _tariff_columns() -> str:
    columns = []
    for band in BANDS:
        above = "0" if band == 0 else f"coalesce(up_to[{band}], 0)"
        amount = f"coalesce(amounts[{band + 1}], CASE WHEN up_to IS NULL THEN amount ELSE beyond_amount END)"
        below = " + ".join(
            f"(up_to[{lower}] - {'0' if lower == 1 else f'up_to[{lower - 1}]'}) * amounts[{lower}]"
            for lower in range(1, band + 1)
        )
        base = f"CASE method WHEN 'fixed' THEN amount WHEN 'constant_by_threshold' THEN {amount} "
        base += f"WHEN 'graduated' THEN {below or '0'} - {above} * {amount} ELSE 0 END"
        unit = f"CASE WHEN method IN ('fixed', 'constant_by_threshold') THEN 0 ELSE {amount} END"
        columns.append(f"(100000 * ({base}))::bigint AS base{band}, (100000 * ({unit}))::bigint AS unit{band}")
        bounds = f"'band ' || {above} + 1 || coalesce(' to ' || up_to[{band + 1}], ' and more') || ': '"
        before = f"CASE WHEN method = 'fixed' THEN 'fixed for ' WHEN up_to IS NULL THEN '' ELSE {bounds} END"
        columns.append(f"{before} AS before{band}, ' * ' || {amount} || ' = ' AS after{band}")
        if band:
            columns.append(f"coalesce(up_to[{band}], 9000000000000000) AS bound{band}")
    return ", ".join(columns)


def read(connection: Any, query: str) -> pa.Table:
    """Return the rows of a query."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetch_arrow_table()


def money(cents: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Cents as numeric(18, 2), without a copy of each."""
    whole = cents.combine_chunks() if isinstance(cents, pa.ChunkedArray) else cents
    decimal = whole.cast(pa.int64()).cast(pa.decimal128(19, 0))
    return pa.Array.from_buffers(pa.decimal128(19, 2), len(decimal), decimal.buffers())


def words(items: pa.Table, amounts: pa.Array, tariffs: pa.Table) -> pa.Array:
    """How each item came about: shorter than ours, which say what was rounded, and from what."""
    place = pc.index_in(items["cost_structure_id"], value_set=tariffs["cost_structure_id"])
    place = pc.add(pc.multiply(pc.cast(items["band"], pa.int64()), len(tariffs)), place)

    def chosen(name: str) -> pa.Array:
        texts = pa.chunked_array([chunk for band in BANDS for chunk in tariffs[f"{name}{band}"].chunks])
        return pc.fill_null(texts.combine_chunks().take(place), "")

    messages = pc.cast(items["messages"], pa.string())
    return pc.binary_join_element_wise(chosen("before"), messages, chosen("after"), pc.cast(amounts, pa.string()), "")


def write(dsn: str, connection: Any, tariffs: pa.Table, items: pa.Table, lines: pa.Table, charges: pa.Table) -> None:
    """Write items, lines and charges, all in cents; the id of a line is that of its delivery."""
    count = len(items)
    amounts = money(items["cents"])
    now = pa.scalar(1_800_000_000_000_000, pa.timestamp("us", "UTC"))
    with connection.cursor() as cursor:

        def copy(table: str, columns: dict[str, Any]) -> None:
            cursor.adbc_ingest(table, pa.table(columns), mode="append", db_schema_name="peer")

        copy(
            "expense_line",
            {
                "id": lines["delivery_id"],
                "delivery_id": lines["delivery_id"],
                "budget_id": lines["budget_id"],
                "campaign_id": lines["campaign_id"],
                "cost_total": money(lines["cents"]),
                "charged_at": lines["charged_at"],
                "computed_at": pa.repeat(now, len(lines)),
                "run_id": pa.repeat("bench", len(lines)),
                "frozen_at": pc.if_else(pc.is_valid(lines["charged_at"]), now, None),
            },
        )
        copy(
            "expense_item",
            {
                "expense_line_id": items["delivery_id"],
                "cost_structure_id": items["cost_structure_id"],
                "kind": pa.repeat("calculated", count),
                "quantity": money(pc.multiply(items["messages"], 100)),
                "amount": amounts,
                "explanation": words(items, amounts, tariffs),
                "expense_category_id": items["expense_category_id"],
            },
        )
        copy(
            "cost_line",
            {
                "budget_id": charges["budget_id"],
                "campaign_id": charges["campaign_id"],
                "delivery_id": charges["delivery_id"],
                "expense_category_id": charges["expense_category_id"],
                "level": charges["level"].cast(pa.string()),
                "amount": money(charges["cents"]),
                "charged_at": charges["charged_at"],
                "changed_at": pa.repeat(now, len(charges)),
                "run_id": pa.repeat("bench", len(charges)),
            },
        )
        copy("delivery", {"id": lines["delivery_id"], "calculated_cost": money(lines["cents"])})
    connection.commit()
    with psycopg.connect(dsn) as update:
        update.execute((Path(__file__).parent / "budget_sql" / "peer_update.sql").read_bytes())


def with_pandas(dsn: str) -> None:
    """Join and price in numpy columns."""
    with adbc.connect(_uri(dsn)) as connection:
        deliveries = read(connection, DELIVERIES).to_pandas().set_index("delivery_id")
        table = read(connection, TARIFFS.format(columns=_tariff_columns()))
        tariffs = table.to_pandas().set_index("cost_type_id")
        items = read(connection, SELECTIONS).to_pandas()
        place = deliveries.index.get_indexer(items["delivery_id"])
        kind = tariffs.index.get_indexer(items["cost_type_id"])
        messages = deliveries["messages"].to_numpy()[place]
        band = np.zeros(len(items), dtype=np.int64)
        for number in BANDS[1:]:
            band += messages > tariffs[f"bound{number}"].to_numpy()[kind]
        bases = tariffs[[f"base{number}" for number in BANDS]].to_numpy()
        units = tariffs[[f"unit{number}" for number in BANDS]].to_numpy()
        exact = bases[kind, band] + units[kind, band] * messages
        exact[(messages == 0) & (tariffs["is_fixed"].to_numpy()[kind] == 0)] = 0
        divisor = tariffs["divisor"].to_numpy()[kind]
        items["cents"] = (2 * exact + divisor) // (2 * divisor)
        items["messages"] = messages
        items["band"] = band
        items["cost_structure_id"] = tariffs["cost_structure_id"].to_numpy()[kind]
        charges = items.groupby(["delivery_id", "expense_category_id"], sort=False)["cents"].sum().reset_index()
        lines = charges.groupby("delivery_id", sort=False)["cents"].sum().reset_index()
        write(
            dsn,
            connection,
            table,
            pa.Table.from_pandas(items, preserve_index=False),
            pa.Table.from_pandas(lines.join(deliveries, on="delivery_id"), preserve_index=False),
            pa.Table.from_pandas(charges.join(deliveries, on="delivery_id"), preserve_index=False),
        )


def with_polars(dsn: str) -> None:
    """Join and price in expressions."""
    with adbc.connect(_uri(dsn)) as connection:
        deliveries = pl.from_arrow(read(connection, DELIVERIES))
        table = read(connection, TARIFFS.format(columns=_tariff_columns()))
        tariffs = pl.from_arrow(table)
        selections = pl.from_arrow(read(connection, SELECTIONS))
        assert isinstance(deliveries, pl.DataFrame)
        assert isinstance(tariffs, pl.DataFrame)
        assert isinstance(selections, pl.DataFrame)
        exact = pl.col("base0") + pl.col("unit0") * pl.col("messages")
        for number in BANDS[1:]:
            exact = (
                pl.when(pl.col("messages") > pl.col(f"bound{number}"))
                .then(pl.col(f"base{number}") + pl.col(f"unit{number}") * pl.col("messages"))
                .otherwise(exact)
            )
        exact = pl.when((pl.col("messages") == 0) & (pl.col("is_fixed") == 0)).then(0).otherwise(exact)
        bands = pl.sum_horizontal([pl.col("messages") > pl.col(f"bound{number}") for number in BANDS[1:]])
        items = (
            selections.lazy()
            .join(deliveries.lazy().select("delivery_id", "messages"), on="delivery_id")
            .join(tariffs.lazy(), on="cost_type_id")
            .select(
                "delivery_id",
                "cost_structure_id",
                "messages",
                "expense_category_id",
                bands.cast(pl.Int64).alias("band"),
                ((2 * exact + pl.col("divisor")) // (2 * pl.col("divisor"))).alias("cents"),
            )
            .collect()
        )
        charges = items.group_by("delivery_id", "expense_category_id").agg(pl.col("cents").sum())
        lines = charges.group_by("delivery_id").agg(pl.col("cents").sum()).join(deliveries, on="delivery_id")
        charges = charges.join(deliveries, on="delivery_id")
        write(dsn, connection, table, items.to_arrow(), lines.to_arrow(), charges.to_arrow())


def with_duckdb(dsn: str) -> None:
    """Join and price in DuckDB's SQL."""
    with adbc.connect(_uri(dsn)) as connection, duckdb.connect() as database:
        database.register("deliveries", read(connection, DELIVERIES))
        table = read(connection, TARIFFS.format(columns=_tariff_columns()))
        database.register("tariffs", table)
        database.register("selections", read(connection, SELECTIONS))
        bands = " ".join(
            f"WHEN messages > bound{number} THEN base{number} + unit{number} * messages"
            for number in reversed(BANDS[1:])
        )
        band = " + ".join(f"(messages > bound{number})::bigint" for number in BANDS[1:])
        database.execute(
            f"""
            CREATE TABLE items AS
            SELECT
                delivery_id, cost_structure_id, messages, expense_category_id, {band} AS band,
                (2 * CASE
                    WHEN messages = 0 AND is_fixed = 0 THEN 0 {bands} ELSE base0 + unit0 * messages
                END + divisor) // (2 * divisor) AS cents
            FROM selections JOIN deliveries USING (delivery_id) JOIN tariffs USING (cost_type_id)
            """  # noqa: S608
        )
        database.execute(
            "CREATE TABLE sums AS SELECT delivery_id, expense_category_id, sum(cents)::bigint AS cents "
            "FROM items GROUP BY ALL"
        )
        write(
            dsn,
            connection,
            table,
            database.sql("SELECT * FROM items").to_arrow_table(),
            database.sql(
                "SELECT * FROM (SELECT delivery_id, sum(cents)::bigint AS cents FROM sums GROUP BY ALL) "
                "JOIN deliveries USING (delivery_id)"
            ).to_arrow_table(),
            database.sql("SELECT * FROM sums JOIN deliveries USING (delivery_id)").to_arrow_table(),
        )


def _uri(dsn: str) -> str:
    """The database as ADBC takes it."""
    found = conninfo_to_dict(dsn)
    secret = f":{found['password']}" if found.get("password") else ""
    port = f"&port={found['port']}" if found.get("port") else ""
    return f"postgresql://{found.get('user', '')}{secret}@/{found['dbname']}?host={found['host']}{port}"


PEERS: dict[str, Callable[[str], None]] = {"pandas": with_pandas, "polars": with_polars, "duckdb": with_duckdb}
