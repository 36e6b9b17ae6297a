-- Days of orders and of the stock history begin and end at midnight in the zone of the instance.

CREATE OR REPLACE FUNCTION campaign.stock_time_zone() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(
    (
        SELECT setting.value #>> '{}'
        FROM campaign.setting AS setting
        WHERE setting.name = 'time_zone'
    ),
    'UTC'
);

CREATE OR REPLACE FUNCTION campaign.stock_day(moment timestamptz) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (moment AT TIME ZONE campaign.stock_time_zone())::date;

CREATE OR REPLACE FUNCTION campaign.stock_day_start(day date) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN day::timestamp AT TIME ZONE campaign.stock_time_zone();
