"""What a page says instead of what was asked for."""

from __future__ import annotations


class PageError(Exception):
    """A page cannot be shown, or an answer not be taken; a person reads why.

    :param status: of HTTP.
    :param title: in a few words.
    :param explanation: plain sentences: what happened, and what to do.
    :param leads_back: whether the list of approvals is of use to this person.
    :param kept: what the person had typed, shown so that it is not lost.
    """

    def __init__(
        self, status: int, title: str, explanation: str, *, leads_back: bool = True, kept: str | None = None
    ) -> None:
        super().__init__(f"{title}: {explanation}")
        self.status = status
        self.title = title
        self.explanation = explanation
        self.leads_back = leads_back
        self.kept = kept
