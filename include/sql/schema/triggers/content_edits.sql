-- The content of an online delivery is checked before it is approved and started: an edit takes that back, and
-- so does another target, for what a template names must be known of its recipients.

CREATE OR REPLACE FUNCTION campaign.uncheck_content() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.content_checked := FALSE;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER uncheck_content BEFORE UPDATE OF subject, body_text, body_html, sender, channel, analysed_at
ON campaign.delivery
FOR EACH ROW
WHEN (
    NEW.content_checked
    AND (NEW.subject, NEW.body_text, NEW.body_html, NEW.sender, NEW.channel, NEW.analysed_at)
    IS DISTINCT FROM (OLD.subject, OLD.body_text, OLD.body_html, OLD.sender, OLD.channel, OLD.analysed_at)
)
EXECUTE FUNCTION campaign.uncheck_content();
