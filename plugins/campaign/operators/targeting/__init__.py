"""The operators that targeting DAGs are built from, one class a file."""

from campaign.operators.targeting.cleanup import TargetCleanupOperator
from campaign.operators.targeting.control_group import TargetControlGroupOperator
from campaign.operators.targeting.criteria import TargetCriteriaOperator
from campaign.operators.targeting.deduplication import TargetDeduplicationOperator
from campaign.operators.targeting.delivery_preparation import DeliveryPreparationOperator
from campaign.operators.targeting.exclusion import TargetExclusionOperator
from campaign.operators.targeting.intersection import TargetIntersectionOperator
from campaign.operators.targeting.query import TargetQueryOperator
from campaign.operators.targeting.recipient_list import TargetListOperator
from campaign.operators.targeting.sample import TargetSampleOperator
from campaign.operators.targeting.split import TargetSplitOperator
from campaign.operators.targeting.union import TargetUnionOperator

__all__ = [
    "DeliveryPreparationOperator",
    "TargetCleanupOperator",
    "TargetControlGroupOperator",
    "TargetCriteriaOperator",
    "TargetDeduplicationOperator",
    "TargetExclusionOperator",
    "TargetIntersectionOperator",
    "TargetListOperator",
    "TargetQueryOperator",
    "TargetSampleOperator",
    "TargetSplitOperator",
    "TargetUnionOperator",
]
