"""ITI-18 Registry Stored Query, GetDocuments, as TD3.1b of the DMP: what it has under a uniqueId of ours.

Standard: IHE ITI TF-2 §3.18.4.1.2.3.7.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from adapters.dmp.rim import DOCUMENT_UNIQUE_ID, QUERY, RIM, identifier_of, slot, slot_values
from adapters.dmp.soap import Element, element

ACTION = "urn:ihe:iti:2007:RegistryStoredQuery"
RESPONSE_ACTION = "urn:ihe:iti:2007:RegistryStoredQueryResponse"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
UNIQUE_IDS = "$XDSDocumentEntryUniqueId"


@dataclass(frozen=True, slots=True)
class Entry:
    """A DocumentEntry of the DMP, as far as it matters here; `sha1` in hex, empty when it is not told."""

    entry_uuid: str
    unique_id: str
    status: str
    sha1: str = ""


def request(unique_ids: Sequence[str]) -> Element:
    """The body of the envelope."""
    body = etree.Element(f"{{{QUERY}}}AdhocQueryRequest", nsmap={"query": QUERY, "rim": RIM})
    element(QUERY, "ResponseOption", body, returnComposedObjects="true", returnType="LeafClass")
    query = element(RIM, "AdhocQuery", body, id=GET_DOCUMENTS)
    slot(query, UNIQUE_IDS, ["(" + ",".join(f"'{one}'" for one in unique_ids) + ")"])
    return body


def entries(response: Element) -> list[Entry]:
    """The entries in an AdhocQueryResponse."""
    return [
        Entry(
            one.get("id", ""),
            identifier_of(one, DOCUMENT_UNIQUE_ID),
            one.get("status", ""),
            next(iter(slot_values(one, "hash")), "").lower(),
        )
        for one in response.iter(f"{{{RIM}}}ExtrinsicObject")
    ]
