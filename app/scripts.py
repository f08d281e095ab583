"""Our own scripts that pages write inline. The server's policy lets these run, by their hashes, and no others.

Streamlit runs a script again only when its text has changed, hence two of each, to be used in turn.
"""

from __future__ import annotations

SCROLL_UP = tuple(
    f"/* {turn} */ document.querySelector('.st-key-vote-progress')?.closest('section')?.scrollTo(0, 0)"
    for turn in (0, 1)
)
"""Shows a new pair from its beginning."""

SCROLL_TO_ANSWERS = tuple(
    f"/* {turn} */ document.querySelector('.st-key-battle-last')?.scrollIntoView({{block: 'start'}})" for turn in (0, 1)
)
"""Shows the newest turn of a battle."""
