"""How the pages name what the database spells as codes."""

from __future__ import annotations

# Each kind of approval: its name, and what the reviewer is asked.
KINDS = {
    "content": ("Content", "Is this what is to be sent?"),
    "target": ("Target", "Are these the people to reach?"),
    "budget": ("Budget", "May this be spent?"),
    "extraction": ("File", "May this file go to the service provider?"),
    "proof": ("Proof", "Is the proof from the router right?"),
    "start": ("Start", "May the sending start?"),
}
CHANNELS = {"direct_mail": "direct mail", "email": "e-mail", "sms": "SMS", "push": "push"}
# What the owner can do with a delivery: the function of the schema, and its button.
DEEDS = {
    "confirm": ("confirm_delivery", "Confirm the start"),
    "release": ("release_delivery", "Release the delivery"),
    "retry": ("retry_delivery", "Send it back to the step that failed"),
}
