"""`[retention]`: how many days ended messages are kept, by state, and where a source differs. Nothing said: for ever."""

from __future__ import annotations

from pydantic import Field, field_validator

from hub.app.strict import Strict
from hub.ledger.retention import DAY_US, KEY_MARGIN_US, Policy
from hub.model.states import MessageState

_STATES = {
    "done_days": MessageState.DONE,
    "partial_days": MessageState.PARTIAL,
    "refused_days": MessageState.REFUSED,
    "set_aside_days": MessageState.SET_ASIDE,
    "no_route_days": MessageState.NO_ROUTE,
    "discarded_days": MessageState.DISCARDED,
}


class Ages(Strict):
    """Days by state; 0 is for ever."""

    done_days: float | None = Field(None, ge=0, le=36_500, allow_inf_nan=False)
    partial_days: float | None = Field(None, ge=0, le=36_500, allow_inf_nan=False)
    refused_days: float | None = Field(None, ge=0, le=36_500, allow_inf_nan=False)
    set_aside_days: float | None = Field(None, ge=0, le=36_500, allow_inf_nan=False)
    no_route_days: float | None = Field(None, ge=0, le=36_500, allow_inf_nan=False)
    discarded_days: float | None = Field(None, ge=0, le=36_500, allow_inf_nan=False)

    def ages(self) -> dict[MessageState, int]:
        """Microseconds of those that are set."""
        return {state: int(days * DAY_US) for key, state in _STATES.items() if (days := getattr(self, key)) is not None}


class SourceAges(Ages):
    """`[[retention.source]]`: what it sets goes before `[retention]`; what it does not set is as there."""

    name: str = Field(min_length=1)


class RetentionSection(Ages):
    """`[retention]`."""

    source: list[SourceAges] = Field([])

    @field_validator("source")
    @classmethod
    def _once(cls, value: list[SourceAges]) -> list[SourceAges]:
        names = [one.name for one in value]
        if len(set(names)) < len(names):
            raise ValueError("names a source twice")
        return value

    def policy(self, dedupe_window_days: float) -> Policy:
        """Nothing goes while its control id is still known: the same bytes must get the same answer."""
        return Policy(
            ages=self.ages(),
            of_source={(one.name, state): age for one in self.source for state, age in one.ages().items()},
            at_least=int(dedupe_window_days * DAY_US) + KEY_MARGIN_US,
        )
