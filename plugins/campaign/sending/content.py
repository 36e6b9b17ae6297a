"""What a delivery says to a recipient: its templates, checked before anything leaves, and rendered for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jinja2 import Template, Undefined, meta, nodes
from jinja2.exceptions import TemplateError

from campaign.templating import TemplateRefusedError, environment

# What a template may name, and of a recipient which fields.
RECIPIENT_FIELDS = (
    "internal_name", "email", "phone", "first_name", "last_name", "address1", "address2", "postal_code", "city",
    "country", "language", "attributes",
)  # fmt: skip
NAMES = {
    "recipient": frozenset(RECIPIENT_FIELDS),
    "delivery": frozenset({"internal_name", "label"}),
    "campaign": frozenset({"label"}),
    "unsubscribe_url": frozenset[str](),
}
PARTS = ("subject", "body_text", "body_html")
# What a field that a recipient lacks is: empty, and it has a default.
EMPTY = {name: Undefined(name=name) for name in RECIPIENT_FIELDS}


class Attributes(dict[str, Any]):
    """The attributes of a recipient; one that this recipient does not have is empty, and has a default."""

    def __missing__(self, name: str) -> Undefined:
        return Undefined(name=name)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The parts of a message to one recipient."""

    subject: str
    body_text: str | None
    body_html: str | None


class Content:
    """The templates of a delivery, compiled once.

    :param texts: ``subject``, ``body_text``, ``body_html``, each a template or None.
    :param facts: ``delivery_name``, ``delivery_label``, ``campaign_label``, ``unsubscribe_url``.
    :raises TemplateRefusedError: when one of them cannot be compiled.
    """

    def __init__(self, texts: dict[str, str | None], facts: dict[str, Any]) -> None:
        self.templates: dict[str, Template | None] = {part: _compile(part, texts.get(part)) for part in PARTS}
        self.unsubscribe_url: str | None = facts.get("unsubscribe_url")
        self.common = dict(environment(autoescape=False).globals) | {
            "delivery": {"internal_name": facts["delivery_name"], "label": facts["delivery_label"]},
            "campaign": {"label": facts["campaign_label"]},
        }

    def render(self, row: dict[str, Any]) -> Rendered:
        """Render the message to one recipient.

        :param row: the recipient's fields, and ``key``, that of the message.
        :raises TemplateRefusedError: when a template fails with this recipient's values.
        """
        recipient = {name: EMPTY[name] if row[name] is None else row[name] for name in RECIPIENT_FIELDS}
        recipient["attributes"] = Attributes(row["attributes"])
        variables = self.common | {"recipient": recipient, "unsubscribe_url": self.unsubscribe(row["key"]) or ""}
        parts: dict[str, str | None] = {}
        for part, template in self.templates.items():
            if template is None:
                parts[part] = None
                continue
            try:
                # As template.render, but one dictionary serves all parts.
                parts[part] = "".join(template.root_render_func(template.new_context(variables, shared=True)))
            except Exception as error:
                # A template is a program of somebody else: whatever it raises is its own fault, and only its.
                raise TemplateRefusedError(f"{part}: {str(error) or type(error).__name__}") from error
        return Rendered(
            subject=" ".join((parts["subject"] or "").split()),
            body_text=parts["body_text"],
            body_html=parts["body_html"],
        )

    def unsubscribe(self, key: str) -> str | None:
        """Return where the recipient of a message unsubscribes; None where nothing is set up."""
        return self.unsubscribe_url and self.unsubscribe_url.replace("{key}", key)


def find_faults(channel: str, texts: dict[str, str | None]) -> Iterator[str]:
    """Say what is wrong with the templates of a delivery, each fault in words that a person can act on.

    :param texts: ``subject``, ``body_text``, ``body_html``.
    """
    for part in PARTS:
        if channel == "email" or part != "body_html":
            yield from _find_template_faults(part, texts[part])


def find_attributes(texts: dict[str, str | None]) -> set[str]:
    """Return the attributes of recipients that templates name, like ``tier`` in ``recipient.attributes.tier``.

    :param texts: templates that have no faults.
    """
    found = set()
    for part in PARTS:
        for node, name in _find_lookups(part, texts.get(part)):
            if isinstance(node, nodes.Getattr | nodes.Getitem) and _name_of(node) == "attributes":
                found.add(name)
    return found


def _compile(part: str, text: str | None) -> Template | None:
    if text is None or not text.strip():
        return None
    try:
        return environment(autoescape=part == "body_html").from_string(text)
    except TemplateError as error:
        raise TemplateRefusedError(f"{part}: {error}") from error


def _find_template_faults(part: str, text: str | None) -> Iterator[str]:
    try:
        template = _compile(part, text)
        unknown = meta.find_undeclared_variables(environment(autoescape=False).parse(text or "")) - set(NAMES)
    except (TemplateRefusedError, TemplateError) as error:
        yield f"{part}: {error}".replace(f"{part}: {part}: ", f"{part}: ")
        return
    for name in sorted(unknown):
        yield f"{part}: there is no {name!r}; a template may name {', '.join(NAMES)}"
    for node, name in _find_lookups(part, text):
        if isinstance(node, nodes.Name) and node.name in NAMES and name not in NAMES[node.name]:
            yield f"{part}: {node.name} has no {name!r}; it has {', '.join(sorted(NAMES[node.name])) or 'no parts'}"
    if template is not None and not unknown:
        yield from _find_wrong_use(part, text)


def _find_wrong_use(part: str, text: str | None) -> Iterator[str]:
    """Render once for nobody in particular: what fails then is likely to fail for everybody."""
    facts = {"delivery_name": "name", "delivery_label": "Label", "campaign_label": "Label"}
    somebody = dict.fromkeys(RECIPIENT_FIELDS, "text") | {"attributes": {}, "key": "0" * 32}
    try:
        Content({part: text}, facts).render(somebody)
    except TemplateRefusedError as error:
        # What an attribute is, only the recipients know: calculating with one that is missing is no fault yet.
        if "is undefined" not in str(error):
            yield str(error)


def _find_lookups(part: str, text: str | None) -> Iterator[tuple[nodes.Expr, str]]:
    """Yield each lookup of a fixed name in a template: what is looked into, and the name."""
    tree = environment(autoescape=part == "body_html").parse(text or "")
    for attribute in tree.find_all(nodes.Getattr):
        yield attribute.node, attribute.attr
    for item in tree.find_all(nodes.Getitem):
        if isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str):
            yield item.node, item.arg.value


def _name_of(node: nodes.Getattr | nodes.Getitem) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) else None
