"""What a translation of one message structure offers; the flow asks for the same shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hub.formats.er7 import Message
from hub.model.consumer import ConsumerQuestion
from hub.model.receipts import NONE_WANTED, ReceiptsWanted
from hub.model.record_change import RecordChange
from hub.model.refusals import Finding
from hub.model.site import Site

Rewrite = Callable[[Message, Site], bytes]
"""Rewriting for one destination: the message in, its new bytes out. Named by a route's `mapping`."""


class Structure(Protocol):
    """One message structure (or profile of one) that the hub understands.

    `name` and `version` stand in Provenance as `name@version`. `heavy`: translate in a worker process; a structure that says so
    of some of its messages only has a method `is_heavy(message)` beside it. A heavy one whose messages carry documents tells
    their numbers without translating: `documents(message, site)` (`hub.flow.ports.documents`). `parses_document`: `judge`
    decodes and parses the document, so a big one is judged beside the event loop.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def heavy(self) -> bool: ...
    @property
    def parses_document(self) -> bool: ...

    def judge(self, message: Message, site: Site) -> None:
        """Return when the message may be taken; looks nothing up, runs before the acknowledgement.

        Raises:
            MessageRefused: it may not be taken.
        """

    def question(self, message: Message, site: Site) -> ConsumerQuestion | None:
        """What must be asked of the record before a message that `judge` took is acknowledged; None for nearly all messages."""

    def remarks(self, message: Message, site: Site) -> tuple[Finding, ...]:
        """What is worth telling of a message that was taken; runs after the acknowledgement."""

    def requests(self, message: Message, site: Site) -> tuple[str, ...]:
        """Destinations that the message itself asks for: `dmp`, `mssante:<address>`."""

    def refused_requests(self, message: Message, site: Site) -> tuple[tuple[str, str], ...]:
        """Those of `requests` that a rule forbids, with the reason's code."""

    def receipts_wanted(self, message: Message, site: Site) -> ReceiptsWanted:
        """Which receipts its sender wants back, for the destinations that the message asks for."""

    def translate(self, message: Message, site: Site) -> RecordChange:
        """What the message changes in the patient record.

        Raises:
            MessageRefused: `judge` would have refused it.
        """


class AsksForNothing:
    """The part of a structure whose messages name no destination, want no receipt, and are taken without a look at the record."""

    def question(self, message: Message, site: Site) -> ConsumerQuestion | None:
        return None

    def requests(self, message: Message, site: Site) -> tuple[str, ...]:
        return ()

    def refused_requests(self, message: Message, site: Site) -> tuple[tuple[str, str], ...]:
        return ()

    def receipts_wanted(self, message: Message, site: Site) -> ReceiptsWanted:
        return NONE_WANTED
