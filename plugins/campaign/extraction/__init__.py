"""The pieces of file extraction: expressions, layouts, file names, and the stream from COPY to storage."""


class ExtractionError(ValueError):
    """A delivery's file cannot be made; the message names the format, expression or name that is wrong."""
