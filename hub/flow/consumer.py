"""The answer to a message of flow 6 needs a look at the record: this asks for it, once everything before it is filed."""

from __future__ import annotations

import asyncio

from hub.flow.graph import RECORD
from hub.ledger.unfiled import is_unfiled
from hub.model import log
from hub.model.consumer import ConsumerQuestion
from hub.model.ports import Origin
from hub.model.refusals import ConsumerRefused, MessageRefused, Unavailable
from hub.record.consumer import objection, owners_of
from hub.store import Store, StoreUnavailable, Transaction

ASK_FOR_S = 5.0  # how long earlier messages may take to be filed before the sender is told to come again
_PAUSES_S = (0.002, 0.005, 0.01, 0.02, 0.05)


async def ask_record(
    store: Store, question: ConsumerQuestion, origin: Origin, *, before: int, must_know: bool
) -> MessageRefused | None:
    """Why the record cannot take the document, None when it can; `before` is the number of the message.

    A document may come right behind its predecessor: so the look waits until what was kept before is in the record. When
    that takes too long, or the store does not answer, the refusal is one that asks to send again (AR).
    """

    def look(tx: Transaction) -> tuple[bool, ConsumerRefused | None]:
        owners = owners_of(tx, question.identity)
        lanes = [f"{RECORD}/p{one}" for one in sorted(owners.known)] or [f"{RECORD}/s{origin.source}/{origin.connection}"]
        if is_unfiled(tx, before=before, lanes=lanes):
            return True, None
        return False, objection(tx, question, owners, must_know=must_know)

    loop = asyncio.get_running_loop()
    until, tries = loop.time() + ASK_FOR_S, 0
    while loop.time() < until:
        try:
            unfiled, refusal = await store.read(look)
        except Exception as error:
            if isinstance(error, StoreUnavailable):
                raise
            log.event("receive.failed", level="error", source=origin.source, error=type(error).__name__)
            break
        if not unfiled:
            return refusal
        await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
        tries += 1
    return Unavailable(at="MSH", sentence="the record is behind and cannot be asked now: send again in a moment")
