-- How amounts are written for people: two decimals, or as many as it takes.
CREATE OR REPLACE FUNCTION campaign.plain_amount(amount numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(amount, greatest(min_scale(amount), 2))::text;
