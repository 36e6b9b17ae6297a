-- Where the loader puts the customers and their purchases before they are compared with what is there.
-- Grain: one row per customer of the file; one row per line of the file.
-- Rerun: the lock makes a second load wait for the first one; both tables end with the transaction.

SELECT pg_advisory_xact_lock(hashtextextended('campaign.samples.load', 0));

CREATE TEMPORARY TABLE sample_recipient (
    internal_name text PRIMARY KEY,
    email text,
    phone text,
    push_token text,
    first_name text NOT NULL,
    last_name text NOT NULL,
    address1 text,
    address2 text,
    postal_code text,
    city text,
    country text NOT NULL,
    language text NOT NULL,
    opt_out_direct_mail boolean NOT NULL,
    opt_out_email boolean NOT NULL,
    opt_out_sms boolean NOT NULL,
    opt_out_push boolean NOT NULL,
    attributes jsonb NOT NULL
) ON COMMIT DROP;

CREATE TEMPORARY TABLE sample_purchase (
    line_number integer PRIMARY KEY,
    recipient text NOT NULL,
    purchased_on date NOT NULL,
    quantity integer NOT NULL,
    amount numeric(18, 2) NOT NULL
) ON COMMIT DROP;
