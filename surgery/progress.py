"""How a pass tells that it goes on.

In: nothing. Out: `Progress`, the type of a listener, and `silent`, the one that tells nobody. Not
here: how it is shown to people (`surgery.console`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int, str], None]
"""`progress(pass, done, total, detail)`: called as work goes on, for people to read."""


def silent(_pass: str, _done: int, _total: int, _detail: str) -> None:
    """Tell nobody."""
    return
