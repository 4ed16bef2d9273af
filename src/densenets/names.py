"""Names of files and classes, of any script and any bytes, as text that can be shown. Needs no PyTorch."""

from __future__ import annotations

import re

# Control characters, and the bytes of a file name that are no UTF-8, which Python holds as lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def readable(text: str) -> str:
    r"""Text with an escape, such as \x1b or \udce9, for each character that nothing can show.

    So it fits into a line, into UTF-8 and XML, and cannot command a terminal. JSON has the same escapes.
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)
