"""`/api/v1/encounters/{id}/movements`: the movements that a stay is computed from, with who told of them and when.

Standard: IHE PAM France 2.11.2, ITI-31.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from hub.record import queries
from hub.record.movements import movements_shown
from hub.record.queries import Viewer
from hub.store import Transaction
from hub.web.access import audit_entry, needs, services_of, trail_of
from hub.web.fhir_api import viewer_of
from hub.web.ledger_api import found, row_number
from hub.web.problems import Problem, json_response
from hub.web.tokens import Principal, Role

router = APIRouter(prefix="/api/v1", tags=["patient record"])
Reader = Annotated[Principal, needs(Role.PROFESSIONAL, Role.OPERATOR)]
EncounterId = Annotated[str, Path(alias="id", description="Logical id of the Encounter")]


@router.get("/encounters/{id}/movements", summary="The movements of a stay, and the messages that told of them")
async def encounter_movements(request: Request, caller: Reader, uid: EncounterId) -> Response:
    """Professionals, and operators whose tokens are not masked; each reading is audited."""
    if caller.masked:
        raise Problem(403, "MaskedToken", "This token may not read values of patients.")
    number = row_number(uid)
    viewer = Viewer(sees_masked=0) if caller.role is Role.OPERATOR else viewer_of(caller)

    def look(tx: Transaction) -> tuple[list[dict[str, Any]], int | None] | None:
        if queries.read(tx, "Encounter", uid, viewer=viewer) is None:
            return None
        row = tx.row("SELECT patient_id FROM resource WHERE id = ?", number)
        return movements_shown(tx, number), row[0] if row is not None else None

    items, patient_id = found(await services_of(request).store.read(look))
    await trail_of(request).note(
        audit_entry(caller, "encounter.movements", f"Encounter/{uid}", patient_id=patient_id, count=len(items))
    )
    return json_response({"items": items})
