"""The parameters of a targeting run: checked, and turned into conditions with bound values.

Nothing that a person typed becomes SQL: a column is one of a list, an operator picks a fixed piece of a
statement, and every value is bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from psycopg.types.json import Jsonb

from campaign.targeting import TargetingParameterError
from campaign.targeting.values import day, decimal, names, storable, whole_number

TEXT_COLUMNS = (
    "internal_name", "email", "phone", "first_name", "last_name", "address1", "address2",
    "postal_code", "city", "country", "language",
)  # fmt: skip
BOOLEAN_COLUMNS = ("opt_out_direct_mail", "opt_out_email", "opt_out_sms", "opt_out_push")
COMPARISONS = ("<", "<=", ">", ">=")
OPERATORS = ("=", "<>", *COMPARISONS, "in", "not in", "is null", "is not null", "starts with")
# What operationMgt adds to the parameters of every workflow.
RUN_KEYS = ("workflow", "delivery", "deliveries", "as_of", "start_planning_date")
CRITERIA_KEYS = ("everybody", "purchases", "where", "lists", "exclude_lists", "control_group", "seeds", "charge_seeds")


@dataclass
class Criteria:
    """Conditions on recipients, as pieces of SQL with named binds."""

    conditions: list[str] = field(default_factory=list)
    purchase_conditions: list[str] = field(default_factory=list)
    needs_a_purchase: bool = False
    lists: list[str] = field(default_factory=list)
    exclude_lists: list[str] = field(default_factory=list)
    binds: dict[str, Any] = field(default_factory=dict)

    def bind(self, prefix: str, value: Any, cast: str) -> str:
        """Add a value, and return the bind that stands for it in a condition."""
        name = f"{prefix}_{len(self.binds)}"
        self.binds[name] = value
        return f"%({name})s::{cast}"


def parse_criteria(parameters: Mapping[str, Any]) -> Criteria:
    """Check the parameters of the generic targeting and return its conditions.

    :raises TargetingParameterError: when a key is unknown or a value has the wrong form.
    """
    unknown = sorted(set(parameters) - {*RUN_KEYS, *CRITERIA_KEYS})
    if unknown:
        raise TargetingParameterError(
            f"{', '.join(unknown)}: not a parameter of targeting. There are {', '.join(CRITERIA_KEYS)}."
        )
    _require_choice(parameters)
    criteria = Criteria(
        lists=names("lists", parameters.get("lists")),
        exclude_lists=names("exclude_lists", parameters.get("exclude_lists")),
    )
    _add_purchases(criteria, parameters.get("purchases"))
    where = parameters.get("where")
    where = [] if where is None else where
    if not isinstance(where, list):
        raise TargetingParameterError("where: must be a list of conditions.")
    for number, condition in enumerate(where, start=1):
        _add_condition(criteria, f"where, condition {number}", condition)
    return criteria


def _require_choice(parameters: Mapping[str, Any]) -> None:
    """Refuse to target everybody unless that is said: a forgotten criterion would write to all."""
    everybody = parameters.get("everybody")
    if everybody not in (None, True, False):
        raise TargetingParameterError(f"everybody: {everybody!r} must be true or false.")
    chosen = [key for key in ("purchases", "where", "lists") if _chooses(parameters.get(key))]
    if everybody and chosen:
        raise TargetingParameterError(f"everybody: is true, and {', '.join(chosen)} chooses some: keep one of them.")
    if not everybody and not chosen:
        raise TargetingParameterError(
            'everybody: nothing says whom to target. Give purchases, where or lists, or write "everybody": true.'
        )


def _chooses(criterion: Any) -> bool:
    """Say whether a criterion was filled in: a form sends the fields that were left empty as nulls."""
    values = criterion.values() if isinstance(criterion, dict) else criterion or ()
    return not isinstance(values, Iterable) or any(value is not None for value in values)


def _add_purchases(criteria: Criteria, purchases: Any) -> None:
    if purchases is None:
        return
    if not isinstance(purchases, dict):
        raise TargetingParameterError('purchases: must be an object like {"min_count": 3}.')
    for key, value in purchases.items():
        rule = PURCHASE_RULES.get(key)
        if rule is None:
            raise TargetingParameterError(f"purchases.{key}: unknown. There are {', '.join(PURCHASE_RULES)}.")
        if value is None:
            continue
        expression, comparison, cast, check, asks_for_purchase = rule
        checked = check(f"purchases.{key}", value)
        criteria.purchase_conditions.append(f"{expression} {comparison} {criteria.bind('purchases', checked, cast)}")
        criteria.needs_a_purchase |= asks_for_purchase and (isinstance(checked, date) or checked > 0)


# key: what is compared, how, the type of the value, its check, whether only a buyer can meet it (above zero).
PURCHASE_RULES: dict[str, tuple[str, str, str, Callable[[str, Any], Any], bool]] = {
    "min_count": ("coalesce(history.purchase_count, 0)", ">=", "bigint", whole_number, True),
    "max_count": ("coalesce(history.purchase_count, 0)", "<=", "bigint", whole_number, False),
    "min_amount": ("coalesce(history.amount, 0)", ">=", "numeric", decimal, True),
    "max_amount": ("coalesce(history.amount, 0)", "<=", "numeric", decimal, False),
    "last_on_or_after": ("history.last_on", ">=", "date", day, True),
    "last_before": ("history.last_on", "<", "date", day, True),
}


def _add_condition(criteria: Criteria, place: str, condition: Any) -> None:
    if not isinstance(condition, dict) or not {"op"} <= set(condition) <= {
        "column",
        "attribute",
        "op",
        "value",
    }:
        raise TargetingParameterError(
            f'{place}: must be an object like {{"column": "country", "op": "=", "value": "US"}}.'
        )
    operator = condition["op"]
    if operator not in OPERATORS:
        raise TargetingParameterError(f"{place}: {operator!r} is no op. There are {', '.join(OPERATORS)}.")
    if ("column" in condition) == ("attribute" in condition):
        raise TargetingParameterError(f"{place}: name either a column or an attribute.")
    value = _value(place, operator, condition)
    if "attribute" in condition:
        _add_attribute_condition(criteria, place, condition["attribute"], operator, value)
    else:
        _add_column_condition(criteria, place, condition["column"], operator, value)


def _value(place: str, operator: str, condition: dict[str, Any]) -> Any:
    value = condition.get("value")
    if operator in ("is null", "is not null"):
        if value is not None:
            raise TargetingParameterError(f"{place}: {operator} takes no value.")
    elif operator in ("in", "not in"):
        if not isinstance(value, list) or not value or any(isinstance(one, list | dict | None) for one in value):
            raise TargetingParameterError(f"{place}: {operator} takes a list of values, not empty.")
    elif value is None or isinstance(value, list | dict):
        raise TargetingParameterError(f"{place}: {operator} takes one value; nothing is compared with null.")
    if operator == "starts with" and not isinstance(value, str):
        raise TargetingParameterError(f"{place}: starts with takes a text.")
    for one in value if isinstance(value, list) else [value]:
        storable(place, one)
    return value


def _add_column_condition(criteria: Criteria, place: str, column: Any, operator: str, value: Any) -> None:
    kind, python_type = ("boolean", bool) if column in BOOLEAN_COLUMNS else ("text", str)
    if column not in (*TEXT_COLUMNS, *BOOLEAN_COLUMNS):
        raise TargetingParameterError(
            f"{place}: {column!r} is no column of recipient to filter on. There are "
            f"{', '.join((*TEXT_COLUMNS, *BOOLEAN_COLUMNS))}; everything else is an attribute."
        )
    values = value if isinstance(value, list) else [value]
    if value is not None and not all(isinstance(one, python_type) for one in values):
        raise TargetingParameterError(f"{place}: {column} is {kind}, so its value must be.")
    if kind == "boolean" and operator not in ("=", "<>"):
        raise TargetingParameterError(f"{place}: {column} is true or false; op must be = or <>.")
    expression = f"recipient.{column}"
    collated = expression if kind == "boolean" else f'{expression} COLLATE "C"'
    criteria.conditions.append(_condition(criteria, operator, value, expression, collated, kind))


def _add_attribute_condition(criteria: Criteria, place: str, attribute: Any, operator: str, value: Any) -> None:
    if not isinstance(attribute, str) or not attribute:
        raise TargetingParameterError(f"{place}: attribute must be a name.")
    name = criteria.bind("where", storable(place, attribute), "text")
    as_text = f"(recipient.attributes ->> {name})"
    if operator in ("is null", "is not null", "starts with"):
        criteria.conditions.append(_condition(criteria, operator, value, as_text, as_text, "text"))
    elif operator in COMPARISONS and isinstance(value, str):
        # Texts, days written as in ISO 8601 among them, are compared letter by letter.
        criteria.conditions.append(
            f"jsonb_typeof(recipient.attributes -> {name}) = 'string' "
            f'AND {as_text} COLLATE "C" {operator} {criteria.bind("where", value, "text")}'
        )
    elif operator in COMPARISONS:
        number = criteria.bind("where", decimal(place, value), "numeric")
        criteria.conditions.append(
            f"CASE WHEN jsonb_typeof(recipient.attributes -> {name}) = 'number' "
            f"THEN {as_text}::numeric {operator} {number} ELSE false END"
        )
    else:
        # As JSON, 12 and "12" are different, and 1 and 1.0 are equal.
        as_json = f"(recipient.attributes -> {name})"
        wrapped = [Jsonb(one) for one in value] if isinstance(value, list) else Jsonb(value)
        criteria.conditions.append(_condition(criteria, operator, wrapped, as_json, as_json, "jsonb"))


def _condition(criteria: Criteria, operator: str, value: Any, expression: str, collated: str, cast: str) -> str:
    """Return one condition. What is missing is different from any value."""
    if operator in ("is null", "is not null"):
        return f"{expression} {operator.upper()}"
    if operator == "starts with":
        return f"starts_with({expression}, {criteria.bind('where', value, 'text')})"
    if operator == "in":
        return f"{expression} = ANY({criteria.bind('where', value, f'{cast}[]')})"
    if operator == "not in":
        return f"coalesce({expression} <> ALL({criteria.bind('where', value, f'{cast}[]')}), true)"
    if operator == "<>":
        return f"{expression} IS DISTINCT FROM {criteria.bind('where', value, cast)}"
    return f"{expression if operator == '=' else collated} {operator} {criteria.bind('where', value, cast)}"
