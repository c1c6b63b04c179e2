"""What messages are held against."""

from __future__ import annotations

import re


def all_of(*fragments: object) -> str:
    """Returns the pattern of a message that holds every one of these texts, in any order, for `raises(match=…)`."""
    return "(?s)" + "".join(f"(?=.*{re.escape(str(fragment))})" for fragment in fragments)
