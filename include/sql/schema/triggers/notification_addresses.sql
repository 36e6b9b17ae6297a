-- A person whose address was corrected gets what could not be delivered to the old one, as far as it is of this week.

CREATE OR REPLACE FUNCTION campaign.send_to_new_address() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE campaign.notification
    SET recipient_email = NEW.email, failed_at = NULL, error = NULL, tries = 0, next_try_at = NULL
    WHERE
        staff_id = NEW.id
        AND sent_at IS NULL
        -- The e-mail of a job on a provider goes with its job (campaign.retry_job).
        AND provider_job_id IS NULL
        AND created_at > now() - interval '7 days';
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER send_to_new_address AFTER UPDATE OF email ON campaign.staff
FOR EACH ROW WHEN (OLD.email <> NEW.email) EXECUTE FUNCTION campaign.send_to_new_address();
