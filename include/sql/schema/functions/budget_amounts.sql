-- How amounts are written for people: two decimals, or as many as it takes.
CREATE OR REPLACE FUNCTION campaign.plain_amount(amount numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN scale(trim_scale(amount)) <= 2 THEN round(amount, 2) ELSE trim_scale(amount) END::text;
