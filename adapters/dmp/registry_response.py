"""RegistryResponse: success, or the codes of what is wrong, and what each code means for a delivery.

Standard: IHE ITI TF-3 §4.2.4 (errors).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lxml import etree

from adapters.dmp.rim import RS
from adapters.dmp.soap import SOAP, Element, element

SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
_CODE = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")
_ERROR = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"

DUPLICATE = frozenset({"XDSDuplicateUniqueIdInRegistry", "XDSDuplicateUniqueId"})
BUSY = frozenset(
    {
        "XDSRegistryNotAvailable",
        "XDSRepositoryNotAvailable",
        "XDSRegistryBusy",
        "XDSRepositoryBusy",
        "XDSRegistryOutOfResources",
        "XDSRepositoryOutOfResources",
        "DMPAccessDeniedByExcededThreshold",
    }
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back. `code` is the first error's; `is_fault`: a SOAP fault, whose code is `Sender` or `Receiver`."""

    success: bool
    code: str = ""
    is_fault: bool = False


def answered(body: Element) -> Answered | None:
    """What the payload of an answer says; None when it is none that is known."""
    if body is None:
        return None
    if body.tag == f"{{{SOAP}}}Fault":
        code = (body.findtext(f"{{{SOAP}}}Code/{{{SOAP}}}Value") or "").rpartition(":")[2].strip()
        return Answered(False, code, is_fault=True)
    status = body.get("status", "")
    if not status:
        return None
    errors = (one for one in body.iter(f"{{{RS}}}RegistryError") if not one.get("severity", "").endswith(":Warning"))
    code = next((one.get("errorCode", "").strip() for one in errors), "")
    return Answered(status == SUCCESS, code if _CODE.fullmatch(code) else "")


def response(code: str = "") -> Element:
    """A RegistryResponse: Success without `code`, else Failure with it."""
    made = etree.Element(f"{{{RS}}}RegistryResponse", nsmap={"rs": RS}, status=FAILURE if code else SUCCESS)
    if code:
        element(RS, "RegistryError", element(RS, "RegistryErrorList", made), errorCode=code, codeContext=code, severity=_ERROR)
    return made
