"""Which delivery a receipt from outside speaks of, when all it names is the MSH-10 of a message that we delivered."""

from __future__ import annotations

from hub.ledger.made import HUB
from hub.store import Transaction

_LOOKED_AT = 50


def delivered(tx: Transaction, control_id: str, sending_app: str = "") -> tuple[int, int] | None:
    """The delivery (its number and its message's) to an application whose message carries this control id; None: none does.

    Control ids come again: the newest message counts, first of those that `sending_app` (MSH-3 of the original) sent. An
    answer may be faster than our own mark, so a delivery that is under way counts too.
    """
    if not control_id:
        return None
    rows = tx.rows(
        "SELECT d.id, m.id, m.sending_app FROM message m JOIN delivery d ON d.message_id = m.id "
        "WHERE m.control_id = ? AND m.routed_at IS NOT NULL AND m.source <> ? AND d.state IN ('DELIVERED','SENDING','UNSURE') "
        "AND d.destination NOT IN ('record','dmp') AND d.destination NOT LIKE 'mssante:%' ORDER BY m.id DESC, d.id LIMIT ?",
        control_id,
        HUB,
        _LOOKED_AT,
    )
    same = [row for row in rows if sending_app and row[2] == sending_app]
    found = same or rows
    return (found[0][0], found[0][1]) if found else None
