-- The customers of the file become recipients.
-- Grain: one row per customer.
-- Rerun: a recipient that is there stays as it is; NOT EXISTS before ON CONFLICT, so that no ids are used up.

INSERT INTO campaign.recipient (
    internal_name,
    email,
    phone,
    push_token,
    first_name,
    last_name,
    address1,
    address2,
    postal_code,
    city,
    country,
    language,
    opt_out_direct_mail,
    opt_out_email,
    opt_out_sms,
    opt_out_push,
    attributes
)
SELECT
    sample_recipient.internal_name,
    sample_recipient.email,
    sample_recipient.phone,
    sample_recipient.push_token,
    sample_recipient.first_name,
    sample_recipient.last_name,
    sample_recipient.address1,
    sample_recipient.address2,
    sample_recipient.postal_code,
    sample_recipient.city,
    sample_recipient.country,
    sample_recipient.language,
    sample_recipient.opt_out_direct_mail,
    sample_recipient.opt_out_email,
    sample_recipient.opt_out_sms,
    sample_recipient.opt_out_push,
    sample_recipient.attributes
FROM sample_recipient
WHERE
    NOT EXISTS (
        SELECT 1
        FROM campaign.recipient
        WHERE recipient.internal_name = sample_recipient.internal_name
    )
ORDER BY sample_recipient.internal_name
ON CONFLICT (internal_name) DO NOTHING;

ANALYZE campaign.recipient;
