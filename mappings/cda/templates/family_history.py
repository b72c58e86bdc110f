"""What relatives had → FamilyMemberHistory, one a relative.

Standard: CI-SIS FR-Antecedents-familiaux (1.2.250.1.213.1.1.3.59), FR-Antecedent-familial-observe (….51), FR-Lien-de-parente
(….60); IHE PCC Family History Organizer (1.3.6.1.4.1.19376.1.5.3.1.4.15); FHIR R4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates import clinical
from mappings.cda.templates.clinical import known_as
from mappings.cda.xml import Element, attribute, has_template, one

Json = dict[str, Any]

_ROLE_CODE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
_GENDERS = "http://hl7.org/fhir/administrative-gender"
_GENDER = {"M": "male", "F": "female", "UN": "other"}
_FAMILY_MEMBER: Json = {"coding": [{"system": _ROLE_CODE, "code": "FAMMEMB", "display": "family member"}]}
_CONDITION = known_as("fr:51", "ihe:13.3", "ccd:22")
_AGE = known_as("ccd:38")
_DEATH_CAUSE = known_as("ccd:42")


def family_member_history(entry: Element, scope: Scope) -> Json | None:
    """One relative and what they had. Their name stays in the document."""
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim(entry)
    relative = one(entry, "subject/relatedSubject")
    body: Json = {"status": "completed" if clinical.status_code(entry) in {"", "completed"} else "partial"}
    body["relationship"] = values.concept(one(relative, "code"), scope) or _FAMILY_MEMBER
    _put_person(one(relative, "subject"), body, scope)
    conditions = [made for _, child in clinical.nested(entry) if (made := _condition(child, scope)) is not None]
    found = clinical.parts(entry, scope)
    found.put(body, condition=conditions)
    written = values.moment(one(entry, "author/time"), scope) or values.start(entry, scope)
    body |= {"date": written} if written else {}
    return replace(scope, subject=_subject_of_section(scope)).add("FamilyMemberHistory", entry, body)


def _subject_of_section(scope: Scope) -> Element | None:
    """Whose relatives they are: the patient's, unless the section speaks of somebody else."""
    said = one(scope.section, "subject")
    return said if one(said, "relatedSubject") is not None else None


def _put_person(person: Element | None, body: Json, scope: Scope) -> None:
    gender = _GENDER.get(attribute(person, "code", "administrativeGenderCode"))
    if gender is not None:
        body["sex"] = clinical.coded(_GENDERS, gender)
    born = values.moment(one(person, "birthTime"), scope)[:10]
    if born:
        body["bornDate"] = born
    died, when = one(person, "sdtc:deceasedInd"), values.moment(one(person, "sdtc:deceasedTime"), scope)[:10]
    if when:
        body["deceasedDate"] = when
    elif attribute(died, "value") in {"true", "false"}:
        body["deceasedBoolean"] = attribute(died, "value") == "true"


def _condition(entry: Element, scope: Scope) -> Json | None:
    """One problem of a relative; one that they did not have carries the negation as a modifier."""
    if not has_template(entry, *_CONDITION):
        return None
    if clinical.says_nothing(entry, scope):
        return None
    scope.claim(entry)
    code = _code(entry, scope)
    if code is None:
        return None
    made: Json = {"code": code, **_onset(entry, scope)}
    if not clinical.says_absence(code) and clinical.is_denied(entry, None, scope):
        made["modifierExtension"] = [{"url": clinical.NEGATED, "valueBoolean": True}]
    if any(has_template(child, *_DEATH_CAUSE) for _, child in clinical.nested(entry)):
        made["contributedToDeath"] = True
    status = clinical.qualifier(entry, scope, clinical.STATUS)
    if status is not None:
        made["outcome"] = status
    said = values.concept(one(entry, "interpretationCode"), scope)
    clinical.extend(made, "urn:vaguemestre:interpretation", "CodeableConcept", said)
    kind = values.concept(one(entry, "code"), scope)
    clinical.extend(made, "urn:vaguemestre:kind", "CodeableConcept", kind)
    found = clinical.parts(entry, scope)
    found.put(made)
    for reference in found.references():
        clinical.extend(made, "urn:vaguemestre:related", "Reference", reference)
    return made


def _code(entry: Element, scope: Scope) -> Json | None:
    value = one(entry, "value")
    said = {} if value is None else values.value(value, scope)
    if "valueString" in said and not clinical.says_little(said["valueString"]):
        return {"text": said["valueString"]}
    return clinical.code_of(entry, scope, "value")


def _onset(entry: Element, scope: Scope) -> Json:
    for _, child in clinical.nested(entry):
        if has_template(child, *_AGE):
            scope.claim(child)
            age = values.quantity(one(child, "value"), scope)
            if age is not None and "code" in age:
                return {"onsetAge": age}
    found = values.period(one(entry, "effectiveTime"), scope)
    return {"onsetPeriod": found} if found else {}


TRANSLATORS: dict[str, Callable[[Element, Scope], Json | None]] = dict.fromkeys(
    known_as("fr:59", "ihe:15", "ccd:23"), family_member_history
)
