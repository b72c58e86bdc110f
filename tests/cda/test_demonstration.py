"""The demonstration's day: each message is answered as it is meant to be; one entry is left unread, to show how that is told."""

from collections import Counter

from hub.app.demo_day import Way, the_day
from hub.formats.er7 import read
from hub.formats.er7.of_cda import er7_of_document
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.registry import builtin

SITE = Site(source="his", environment="test")
FACTS = {
    "Observation": 7,
    "DiagnosticReport": 4,
    "MedicationRequest": 2,
    "MedicationDispense": 2,
    "Immunization": 1,
    "Condition": 1,
    "AllergyIntolerance": 1,
    "MedicationStatement": 1,
}


def test_the_day_is_taken_and_read():
    registry, refused, found, facts = builtin(), [], [], set()
    for event in the_day():
        message = read(event.body if event.way is Way.MLLP else er7_of_document(event.body))
        structure = registry.find(message)
        try:
            structure.judge(message, SITE)
        except MessageRefused as error:
            refused.append((event.control_id, error.code))
            continue
        change = structure.translate(message, SITE)
        found += [finding.code for finding in (*structure.remarks(message, SITE), *change.findings)]
        facts |= {(fact.type, fact.key) for document in change.documents for fact in document.facts}
    assert refused == [("DEMO0010", "IdentityUnproven")]
    assert found == ["NOT_READ"]
    assert Counter(kind for kind, _ in facts) == FACTS
