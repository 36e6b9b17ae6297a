"""The pure pieces of targeting: criteria checked and turned into conditions, work tables and their SQL."""


class TargetingParameterError(ValueError):
    """The parameters of a targeting run cannot be used; the message names the one, and what would do."""
