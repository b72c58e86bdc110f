"""Code tables in TOML, one file a table; `load` reads the text of one."""

from __future__ import annotations

import tomllib
from typing import Any


def load(text: str) -> dict[str, Any]:
    """The table in `text`.

    Raises:
        tomllib.TOMLDecodeError: not TOML.
    """
    return tomllib.loads(text)
