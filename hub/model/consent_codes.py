"""Words of the Consent resources that ZFA makes: the mapping writes them, the record reads them.

Standard: IHE PAM France 2.11.2, ZFA; FHIR R4 Consent.
"""

from __future__ import annotations

PATIENT = "{patient}"  # in a resource's key: the number of the message's patient, which the record knows and a mapping does not
FEEDING_KEY = f"{PATIENT}|dmp-feeding"
CONSULTATION = "dmp-consultation"

FEEDING_CODES = "urn:vaguemestre:pam-fr:ZFA-9"
CONSULTATION_CODES = "urn:vaguemestre:pam-fr:ZFA-11"
DMP_STATES = "urn:vaguemestre:pam-fr:ZFA-1"
DMP_STATE = "urn:vaguemestre:extension:dmp-state"  # extension: `state` (valueCoding), `since` and `closed` (valueDateTime)

OPPOSED, CLOSED, ABSENT = "IO", "FERME", "INEXISTANT"


def key_for(key: str, patient_id: int | None) -> str:
    """A resource's key with the patient's number in its place."""
    return f"{patient_id or 0}{key[len(PATIENT) :]}" if key.startswith(PATIENT) else key
