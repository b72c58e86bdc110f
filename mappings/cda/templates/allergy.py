"""allergy: no template yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mappings.cda.scope import Scope
from mappings.cda.xml import Element

TRANSLATORS: dict[str, Callable[[Element, Scope], dict[str, Any] | None]] = {}
