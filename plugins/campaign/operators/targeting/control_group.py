"""The control group of a delivery."""

from __future__ import annotations

from campaign.operators.targeting.base import TargetingRun
from campaign.operators.targeting.sample import TargetSampleOperator


class TargetControlGroupOperator(TargetSampleOperator):
    """The recipients of a set who get no message, to compare the others with.

    A sample of its own salt. Hand it to the delivery preparation as ``control_group``, with the whole set
    as its source: who is excluded for another reason is no control.
    """

    def salt_of(self, run: TargetingRun) -> str:
        """Return what the choice depends on beside the recipient: the same for the same delivery."""
        return self.salt or f"control:{run.delivery or run.dag_id}"
