"""From UTF-8 to the encoding of a file."""

from __future__ import annotations

from codecs import getincrementalencoder

from campaign.extraction.layout import Layout


class Encoder:
    """From UTF-8 to the encoding of the layout; what that lacks becomes a question mark, and is counted."""

    def __init__(self, layout: Layout) -> None:
        self._is_utf8 = layout.encoding == "utf-8"
        self._encoding = layout.encoding
        self._encoder = getincrementalencoder(layout.encoding)()
        self._is_known: dict[str, bool] = {}
        self.replaced_count = 0

    def encode(self, block: bytes | bytearray) -> bytes | bytearray:
        """Return the next piece of the file.

        :param block: whole characters, in UTF-8.
        """
        if self._is_utf8:
            return block
        text = block.decode()
        # Most blocks have nothing to replace: then letters are not looked at one by one.
        before = self._encoder.getstate()
        try:
            return self._encoder.encode(text)
        except UnicodeEncodeError:
            self._encoder.setstate(before)
        for letter in set(text):
            if not self._can_encode(letter):
                self.replaced_count += text.count(letter)
                text = text.replace(letter, "?")
        return self._encoder.encode(text)

    def _can_encode(self, letter: str) -> bool:
        if letter not in self._is_known:
            try:
                letter.encode(self._encoding)
            except UnicodeEncodeError:
                self._is_known[letter] = False
            else:
                self._is_known[letter] = True
        return self._is_known[letter]
