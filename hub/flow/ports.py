"""What the flow asks of the mappings; `hub.app` hands them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hub.formats.er7 import Message
from hub.model.consumer import ConsumerQuestion
from hub.model.dmp import DmpSubmission
from hub.model.identity import PatientIdentity
from hub.model.receipts import IncomingReceipt, ReceiptsWanted
from hub.model.record_change import RecordChange
from hub.model.refusals import Finding
from hub.model.site import Site


class Structure(Protocol):
    """What the hub knows of one message structure.

    `judge` runs before the acknowledgement, looks nothing up, and raises MessageRefused; `question` is what the record must
    be asked before it, for the few messages whose answer depends on that; `remarks` runs after it.
    `requests` are destinations that the message itself asks for (`dmp`, `mssante:<address>`), `refused_requests` those
    that a rule ends at once, with a reason code, `receipts_wanted` what the sender wants to hear of them. `heavy`:
    `translate` runs in a worker process (`is_heavy` tells it of one message).
    """

    @property
    def name(self) -> str: ...
    @property
    def heavy(self) -> bool: ...
    def judge(self, message: Message, site: Site) -> None: ...
    def question(self, message: Message, site: Site) -> ConsumerQuestion | None: ...
    def remarks(self, message: Message, site: Site) -> Sequence[Finding]: ...
    def requests(self, message: Message, site: Site) -> Sequence[str]: ...
    def refused_requests(self, message: Message, site: Site) -> Sequence[tuple[str, str]]: ...
    def receipts_wanted(self, message: Message, site: Site) -> ReceiptsWanted: ...
    def translate(self, message: Message, site: Site) -> RecordChange: ...


def is_heavy(structure: Structure, message: Message) -> bool:
    """Whether a message is translated in a worker process: what its structure's `is_heavy` says, if it has that method."""
    asked: Any = getattr(structure, "is_heavy", None)
    return bool(asked(message)) if asked is not None else structure.heavy


def documents(structure: Structure | None, message: Message, site: Site) -> tuple[str | None, str | None, bool]:
    """Of a message that is not translated yet: the number of its document, of the one that it replaces or deletes, and whether
    it deletes; what its structure's `documents` gives, if it has that method.
    """
    asked: Any = getattr(structure, "documents", None)
    return asked(message, site) if asked is not None else (None, None, False)


def receipts_told(structure: Structure | None, message: Message, site: Site) -> Sequence[IncomingReceipt]:
    """Receipts of another platform that a message brings: what its structure's `receipts` gives, if it has that method."""
    told: Any = getattr(structure, "receipts", None)
    return tuple(told(message, site)) if told is not None else ()


def dmp_submission(structure: Structure | None, message: Message, site: Site) -> DmpSubmission | None:
    """What a message asks to be sent to the DMP: what its structure's `dmp_submission` gives, if it has that method."""
    asked: Any = getattr(structure, "dmp_submission", None)
    return asked(message, site) if asked is not None else None


Rewrite = Callable[[Message, Site], bytes]
"""A site's own change of a message for one destination."""


class Registry(Protocol):
    """All structures and rewritings of this installation."""

    @property
    def rewrites(self) -> Mapping[str, Rewrite]: ...
    def admit(self, message: Message, site: Site) -> Sequence[Finding]:
        """Checks of every message: version, type, event, processing id.

        Raises:
            MessageRefused: with its table 0357 condition.
        """

    def find(self, message: Message) -> Structure | None: ...
    def identity(self, message: Message, site: Site) -> PatientIdentity | None: ...
