-- What the tables stand on: the schema, checks that need a function, and the moment functions work at.
--
-- Constraint names are sentences: PostgreSQL prints them when it refuses a row, so the person who
-- wrote the row reads what is wrong with it.

CREATE SCHEMA IF NOT EXISTS campaign;

COMMENT ON SCHEMA campaign IS
'Campaign Workflows: the contract with the systems around it. See docs/data-model.md.';

-- A CHECK may only call immutable functions. Time zone names change with the tz database, hence by
-- upgrade of the server only: immutable in the life of a row.
CREATE FUNCTION campaign.is_time_zone(name text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    PERFORM timestamptz '2000-01-01 00:00:00+00' AT TIME ZONE name;
    RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN false;
END
$$;

-- Decimals of an amount in a currency: the minor unit of ISO 4217. Amounts have two decimals by
-- contract, so a currency with three is refused where it is entered (campaign.budget).
CREATE FUNCTION campaign.minor_unit(currency text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN currency IN (
        'BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV',
        'XAF', 'XOF', 'XPF'
    ) THEN 0
    WHEN currency IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 3
    ELSE 2
END;

-- The moment at which a function for people acts. A rehearsal or a test moves the clock with
-- SET campaign.as_of = '2026-11-01T09:00:00Z'; unset, it is the time of the transaction.
CREATE FUNCTION campaign.moment() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(nullif(current_setting('campaign.as_of', TRUE), '')::timestamptz, now());

-- Where the Airflow UI is, for links: Airflow's own setting, which its connections bring along.
CREATE FUNCTION campaign.ui_url() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(current_setting('campaign.ui_url', TRUE), '');

CREATE FUNCTION campaign.touch_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
