"""What a CDA header says, as plain data, and the one form of a document's id."""

from __future__ import annotations

from dataclasses import dataclass

from hub.model.identifiers import InsMatricule, is_oid

Id = tuple[str, str]  # (root, extension); the extension may be empty
Code = tuple[str, str, str]  # (codeSystem, code, displayName)


@dataclass(frozen=True, slots=True, repr=False)
class CdaAuthor:
    """One author, or who signs: a person (`family`, `given`) or a device (`device_name`), and the organisation they act for.

    `organisation_id` is the extension of the organisation's id (a FINESS or SIRET with its prefix), its root when there is
    no extension. `time` is a TS as written. `code` is the profession or specialty, `function` the part they took.
    """

    id_root: str = ""
    id_extension: str = ""
    family: str = ""
    given: str = ""
    organisation_id: str = ""
    organisation_root: str = ""
    organisation_name: str = ""
    device_name: str = ""
    time: str = ""
    code: str = ""
    code_system: str = ""
    code_display: str = ""
    function: Code = ("", "", "")

    def __repr__(self) -> str:
        return "CdaAuthor(…)"


@dataclass(frozen=True, slots=True, repr=False)
class CdaHeader:
    """What the header says, blanks around values removed, empty where it says nothing.

    `id`, `set_id` and `replaces` (the document that this one replaces) are canonical: `root` or `root.extension`. Times are
    TS as written. `ins` holds the INS whose form is right, whatever their key. `birth_name` and `first_given_name` are those
    qualified BR, `birth_given_names` the unqualified list, `used_name` that qualified CL, else SP, else an unqualified one.
    `encounter_ids` number the stay: that of a professional or a structure does not.
    `event_start`, `event_stop` and `practice_setting` come from the first serviceEvent, the main act; `events` are the
    codes of all of them, with their translations. `orders` and `accessions` number the requests that the document fulfils.
    `signer` is the legal authenticator. `body_kind` is `N1`
    (nonXMLBody, of type `media_type`), `N3` (structuredBody) or empty. `fmt` is the XDS formatCode of an N1 body, and the
    OID of the document model for N3.
    """

    id: str
    id_root: str
    id_extension: str = ""
    set_id: str = ""
    version_number: int = 0
    code: str = ""
    code_system: str = ""
    code_display: str = ""
    title: str = ""
    effective_time: str = ""
    confidentiality: str = ""
    language: str = ""
    template_ids: tuple[Id, ...] = ()
    replaces: str = ""
    patient_ids: tuple[Id, ...] = ()
    ins: tuple[InsMatricule, ...] = ()
    birth_name: str = ""
    birth_given_names: str = ""
    first_given_name: str = ""
    used_name: str = ""
    birth_time: str = ""
    sex: str = ""
    birth_place_code: str = ""
    authors: tuple[CdaAuthor, ...] = ()
    custodian_id: str = ""
    custodian_root: str = ""
    custodian_name: str = ""
    encounter_ids: tuple[Id, ...] = ()
    event_start: str = ""
    event_stop: str = ""
    events: tuple[Code, ...] = ()
    practice_setting: str = ""
    practice_setting_code: Code = ("", "", "")
    facility_type: str = ""
    facility_type_code: Code = ("", "", "")
    orders: tuple[Id, ...] = ()
    accessions: tuple[Id, ...] = ()
    signer: CdaAuthor | None = None
    body_kind: str = ""
    media_type: str = ""
    fmt: str = ""

    def __repr__(self) -> str:
        return "CdaHeader(…)"

    @property
    def master_id(self) -> str:
        """The document's id as a URI: what the record and the DMP call its uniqueId."""
        return f"urn:oid:{self.id}"

    @property
    def has_all_traits(self) -> bool:
        """Whether the five traits are there that an INS must come with."""
        return bool(
            self.birth_name
            and self.first_given_name
            and self.birth_given_names
            and self.birth_time
            and self.sex
            and self.birth_place_code
        )


def canonical(root: str, extension: str = "") -> str:
    """One form for an instance identifier: `root`, or `root.extension`."""
    root, extension = root.strip(), extension.strip()
    return f"{root}.{extension}" if root and extension else root or extension


def canonical_id(text: str) -> str:
    """A document id as TXA-12 writes it, in the form of `CdaHeader.id`, so that both can be compared.

    `extension^^root^ISO` and `root.extension^name` both occur; what stands in component 2 is left out.
    Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, TXA-12.
    """
    parts = [part.strip() for part in text.split("^")]
    own = parts[0].removeprefix("urn:oid:")
    root = parts[2] if len(parts) > 2 else ""
    return canonical(root, own) if is_oid(root) and root != own else own
