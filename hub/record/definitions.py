"""Which search parameters a patient's resources have: `search_parameters.toml`, read once.

The search rows, the search itself and the CapabilityStatement are made from this one table.
Standard: FHIR R4 search parameters of each resource; IHE MHD ITI-67 and CI-SIS PDSm for DocumentReference.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hub.model.record_change import Json

WITH_ROWS = frozenset({"identifier", "coded", "dated", "reference"})
_TYPES = {
    "string": "string",
    "date": "date",
    "sorted": "date",
    "quantity": "quantity",
    "reference": "reference",
    "link": "reference",
}
# R4 knows these resources' patient by that name alone.
_PATIENT_ONLY = frozenset({"AllergyIntolerance", "Immunization", "ImmunizationRecommendation", "FamilyMemberHistory"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of one type: how it is looked up (`kind`), and where in the body its values stand.

    `but`: the code for which a dated parameter has no rows by date.
    """

    name: str
    kind: str
    paths: tuple[str, ...]
    but: str = ""

    @property
    def search_type(self) -> str:
        """The kind of search parameter by FHIR's name."""
        return _TYPES.get(self.kind, "token")


def _read() -> dict[str, dict[str, Parameter]]:
    text = resources.files("hub.record").joinpath("search_parameters.toml").read_text("utf-8")
    return {
        kind: {name: _parameter(name, said) for name, said in parameters.items()}
        for kind, parameters in tomllib.loads(text).items()
    }


def _parameter(name: str, said: str) -> Parameter:
    kind, _, paths = said.partition(" ")
    kind, _, but = kind.partition("-but-")
    return Parameter(name, kind, tuple(path.strip() for path in paths.split(",")), but)


PARAMETERS = _read()


def patient_names(kind: str) -> tuple[str, ...]:
    """The names under which a type's patient is searched."""
    return ("patient",) if kind in _PATIENT_ONLY else ("patient", "subject")


def values_at(body: Any, path: str) -> list[Any]:
    """What stands at a path, lists gone through; `a>b` goes on in what the reference at `a` points to inside the body.

    An identifier, coding or reference comes as the dict that it is.
    """
    outer, arrow, inner = path.partition(">")
    found = [body]
    for name in outer.split("."):
        found = [deeper for one in found if isinstance(one, dict) for deeper in _listed(one.get(name))]
    if arrow:
        found = [value for one in found for part in inside(body, one) for value in values_at(part, inner)]
    return found


def inside(body: Json, reference: Any) -> list[Json]:
    """The reference itself, what it points to inside the body, and what that points to there."""
    contained = {f"#{one.get('id', '')}": one for one in body.get("contained", ()) if isinstance(one, dict)}
    found: list[Json] = []
    todo = [reference]
    while todo and len(found) < 100:
        part = todo.pop()
        if not isinstance(part, dict) or any(part is one for one in found):
            continue
        found.append(part)
        todo += [part[name] for name in ("practitioner", "organization", "owner") if name in part]
        todo += [one for key, one in contained.items() if key == part.get("reference")]
    return found


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [] if found is None else [found]
