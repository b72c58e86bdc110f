"""One page of a list, and what a search may refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hub.model.record_change import Json
from hub.model.refusals import HubError


class SearchRefused(HubError):
    """A search parameter that cannot be understood, by name, and why; its value is not repeated."""

    code = "SearchRefused"

    def __init__(self, parameter: str, why: str = "not a value that this search takes") -> None:
        super().__init__(f"{parameter}: {why}")
        self.parameter, self.why = parameter, why


@dataclass(frozen=True, slots=True)
class Page:
    """Resources in their order, where the next page begins (None = the end), how many there are in all when it was asked.

    `unknown` are the parameters that were not understood and so did not restrict the search. `included` are resources that the
    entries refer to or that refer to them; `more_included` when there were more of them than one page holds.
    """

    entries: tuple[Json, ...] = ()
    after: str | None = None
    total: int | None = None
    unknown: tuple[str, ...] = ()
    included: tuple[Json, ...] = ()
    more_included: bool = False


def cut(
    found: Sequence[Json], count: int, cursor: Callable[[Json], str], *, total: int | None = None, unknown: tuple[str, ...] = ()
) -> Page:
    """A page of the first `count` of `found`, which holds one more when there is a next page."""
    entries = tuple(found[:count])
    return Page(entries, cursor(entries[-1]) if len(found) > count and entries else None, total, unknown)
