"""What was prescribed, given or injected: the codes of a manufactured product, and what is known of it beyond its code.

Standard: CI-SIS FR-Produit-de-sante (1.2.250.1.213.1.1.3.43); IHE PCC Product Entry (1.3.6.1.4.1.19376.1.5.3.1.4.7.2); IHE PHARM
Medicine Entry (1.3.6.1.4.1.19376.1.9.1.3.1), extension `pharm`.
"""

from __future__ import annotations

from typing import Any

from mappings.cda import values
from mappings.cda.scope import Scope
from mappings.cda.templates.measures import amount_of, ratio
from mappings.cda.xml import Element, attribute, every, one, text

Json = dict[str, Any]

MATERIAL = "manufacturedProduct/manufacturedMaterial"
_ANSWERS = frozenset({"oui", "non", "fait", "x"})  # what a cell of a certificate says where the anchor of a vaccine stands
DETAILS = "urn:vaguemestre:medication-details"


def product(holder: Element | None, scope: Scope) -> tuple[Json | None, Json | None]:
    """`consumable` or `product` → CodeableConcept with all its codes (CIS, Medicabase, CIP, UCD, ATC), and a Medication that
    holds form, ingredients, lot and package when any is said. None for what is not said.
    """
    material = one(holder, MATERIAL)
    if material is None:
        return None, None
    code = one(material, "code")
    concept = values.concept(code, scope) or {}
    codings = list(concept.get("coding", ()))
    for path in (
        "pharm:asContent/pharm:containerPackagedMedicine/pharm:code",
        "pharm:asSpecializedKind/pharm:generalizedMedicineClass/pharm:code",
    ):
        codings += [made for element in every(material, path) if (made := values.coding(element)) is not None]
    codings = [one_ for at, one_ in enumerate(codings) if _key(one_) not in {_key(before) for before in codings[:at]}]
    named = text(one(material, "name")) or (codings[0].get("display", "") if codings else "")
    said = concept.get("text") or named
    if named and said.lower() in _ANSWERS:
        said = named
    found: Json = {"coding": codings} if codings else {}
    if said:
        found["text"] = said
    return found or None, _details(material, holder, scope)


def contain(body: Json, details: Json | None) -> None:
    """Put a Medication into a resource that names it by its code: contained, and referred to by an extension."""
    if details is not None:
        body["contained"] = [*body.get("contained", ()), {"resourceType": "Medication", "id": "medication", **details}]
        extend(body, {"url": DETAILS, "valueReference": {"reference": "#medication"}})


def extend(body: Json, *extensions: Json) -> None:
    """Add extensions to an element."""
    if extensions:
        body["extension"] = [*body.get("extension", ()), *extensions]


def _key(coding: Json) -> tuple[Any, Any]:
    return coding.get("system"), coding.get("code")


def _details(material: Element, holder: Element | None, scope: Scope) -> Json | None:
    made: Json = {}
    form = values.concept(one(material, "pharm:formCode"), scope)
    if form is not None:
        made["form"] = form
    maker = values.organization(one(holder, "manufacturedProduct/manufacturerOrganization"))
    if maker is not None:
        made["manufacturer"] = maker
    held = amount_of(one(material, "pharm:asContent/pharm:containerPackagedMedicine/pharm:capacityQuantity"), scope)
    if held is not None:
        made["amount"] = {"numerator": held, "denominator": {"value": 1}}
    ingredients = [found for part in every(material, "pharm:ingredient") if (found := _ingredient(part, scope)) is not None]
    ingredients += [
        {"itemCodeableConcept": {"coding": [coding], "text": coding.get("display", coding["code"])}}
        for part in every(material, "code/translation/translation")
        if (coding := values.coding(part)) is not None
    ]
    if ingredients:
        made["ingredient"] = ingredients
    batch: Json = {}
    if lot := text(one(material, "lotNumberText")):
        batch["lotNumber"] = lot
    if expires := values.moment(one(material, "pharm:expirationTime"), scope):
        batch["expirationDate"] = expires
    if batch:
        made["batch"] = batch
    return made or None


def _ingredient(part: Element, scope: Scope) -> Json | None:
    concept = values.concept(one(part, "pharm:ingredient/pharm:code"), scope) or {}
    said = concept.get("text") or text(one(part, "pharm:ingredient/pharm:name"))
    if not said:
        return None
    made: Json = {"itemCodeableConcept": {**concept, "text": said}}
    if attribute(part, "classCode") == "ACTI":
        made["isActive"] = True
    strength = ratio(one(part, "pharm:quantity"), scope)
    if strength is not None:
        made["strength"] = strength
    return made
