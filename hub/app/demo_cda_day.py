"""The structured documents of the demonstration's day: biology, a prescription and its dispensing, a vaccination, a synthesis."""

from __future__ import annotations

from hub.app import demo_cda_entries as entries
from hub.app.demo_cda import (
    BIOLOGIST,
    CARDIOLOGIST,
    PHARMACIST,
    PRACTITIONER,
    TOWN_BIOLOGIST,
    TRE_A05,
    Author,
    DemoDocument,
    structured,
)
from hub.app.demo_cda_entries import Product, Result
from hub.app.demo_documents import pdf
from hub.app.demo_patient import DOCUMENT_OID

_FACT = f"{DOCUMENT_OID}.900"
_LAB_STATUS = '<lab:statusCode code="completed"/>'
_CR_BIO = ("1.3.6.1.4.1.19376.1.3.3", "1.2.250.1.213.1.1.1.55/2024.01")
PAIN = Product("60000001", "DOLEXEMPLE 500 mg, comprimé")
PRESSURE = Product("60000002", "TENSINVENTE 5 mg, comprimé")
VACCINE = Product("60000003", "VACCIN GRIPPE EXEMPLE", "LOT42")


def laboratory_report(
    number: int, at: str, chapter: str, *, author: Author = BIOLOGIST, version: int = 1, replaces: int = 0, set_number: int = 0
) -> DemoDocument:
    """A CR-BIO of one chapter."""
    return DemoDocument(
        number=f"{DOCUMENT_OID}.{number}",
        set_number=f"{DOCUMENT_OID}.{set_number or number + 100}",
        code="11502-2",
        display="CR d'examens biologiques",
        title="Compte rendu d'examens biologiques",
        at=at,
        author=author,
        models=_CR_BIO,
        version=version,
        replaces=f"{DOCUMENT_OID}.{replaces}" if replaces else "",
        begun=f"{at[:8]}0730",
        event_status=_LAB_STATUS,
        body=structured(chapter, entries.copy_of(pdf("Compte rendu d'examens biologiques (exemple)"))),
    )


def _blood_count(day: str, value: str, n: int) -> str:
    count = Result(f"{_FACT}.{n}", "718-7", "Hémoglobine", value, "g/dL", ("12", "16"))
    platelets = Result(f"{_FACT}.{n + 1}", "777-3", "Plaquettes", "251", "10*9/L", ("150", "400"))
    return entries.chapter("18723-7", "Hématologie", f"{day}0730", count, platelets)


def blood_count_before() -> DemoDocument:
    """The report of another day, from a laboratory in town."""
    return laboratory_report(10, "202611200930", _blood_count("20261120", "11.2", 1), author=TOWN_BIOLOGIST)


def blood_count() -> DemoDocument:
    """Today's."""
    return laboratory_report(11, "202611240950", _blood_count("20261124", "10.4", 3), set_number=111)


def blood_count_corrected() -> DemoDocument:
    """Today's, with the haemoglobin corrected."""
    corrected = _blood_count("20261124", "10.9", 3)
    return laboratory_report(12, "202611241015", corrected, set_number=111, version=2, replaces=11)


def blood_group() -> DemoDocument:
    """ABO and Rh."""
    value = f'<value xsi:type="CD" code="112144000" codeSystem="{entries.SNOMED}" displayName="groupe sanguin A"/>'
    rhesus = f'<value xsi:type="CD" code="165747007" codeSystem="{entries.SNOMED}" displayName="Rh positif"/>'
    abo = Result(f"{_FACT}.5", "883-9", "Groupe ABO", value)
    rh = Result(f"{_FACT}.6", "10331-7", "Rhésus D", rhesus)
    return laboratory_report(13, "202611241030", entries.chapter("18717-9", "Immuno-hématologie", "202611240730", abo, rh))


def masked_report() -> DemoDocument:
    """A result that the patient keeps from professionals."""
    result = Result(f"{_FACT}.7", "5640-8", "Éthanol", "0.1", "g/L")
    return laboratory_report(14, "202611241045", entries.chapter("18728-6", "Toxicologie", "202611240730", result))


def prescription() -> DemoDocument:
    """Two lines."""
    lines = ((f"{_FACT}.20", PAIN, "1 comprimé 3 fois par jour, 7 jours"), (f"{_FACT}.21", PRESSURE, "1 comprimé le matin"))
    return DemoDocument(
        number=f"{DOCUMENT_OID}.20",
        set_number=f"{DOCUMENT_OID}.120",
        code="57833-6",
        display="Prescription de produits de santé",
        title="Prescription de médicaments",
        at="202611241610",
        author=CARDIOLOGIST,
        models=("1.3.6.1.4.1.19376.1.9.1.1.1", "1.3.6.1.4.1.19376.1.5.3.1.1.1", "1.2.250.1.213.1.1.1.39/2024.01"),
        body=structured(entries.prescribed(*lines), entries.copy_of(pdf("Ordonnance (exemple)"))),
    )


def dispensation() -> DemoDocument:
    """Both lines, at the pharmacy."""
    lines = ((f"{_FACT}.22", f"{_FACT}.20", PAIN), (f"{_FACT}.23", f"{_FACT}.21", PRESSURE))
    return DemoDocument(
        number=f"{DOCUMENT_OID}.21",
        set_number=f"{DOCUMENT_OID}.121",
        code="60593-1",
        display="Dispensation médicamenteuse",
        title="Dispensation médicamenteuse",
        at="202611241730",
        author=PHARMACIST,
        models=("1.3.6.1.4.1.19376.1.5.3.1.1.1", "1.3.6.1.4.1.19376.1.9.1.1.3", "1.2.250.1.213.1.1.1.54/2024.01"),
        body=structured(entries.dispensed(*lines)),
    )


def vaccination_note() -> DemoDocument:
    """One injection."""
    return DemoDocument(
        number=f"{DOCUMENT_OID}.22",
        set_number=f"{DOCUMENT_OID}.122",
        code="87273-9",
        display="Note de vaccination",
        title="Note de vaccination",
        at="202611241200",
        author=CARDIOLOGIST,
        models=("1.3.6.1.4.1.19376.1.5.3.1.1.18.1.2", "1.2.250.1.213.1.1.1.46/2023.01"),
        body=structured(entries.vaccinations(f"{_FACT}.30", VACCINE, "20261124", 3)),
    )


def synthesis() -> DemoDocument:
    """A VSM of the general practitioner, with one entry that only its software knows."""
    return DemoDocument(
        number=f"{DOCUMENT_OID}.23",
        set_number=f"{DOCUMENT_OID}.123",
        code="SYNTH",
        code_system=TRE_A05,
        display="Synthèse",
        title="Volet de synthèse médicale",
        at="202611240810",
        author=PRACTITIONER,
        models=("1.2.250.1.213.1.1.1.13/201310",),
        body=structured(
            entries.problems(f"{_FACT}.40", "I10", "Hypertension essentielle (primitive)", "20190305"),
            entries.allergies(f"{_FACT}.41", "372687004", "Amoxicilline", "2001"),
            entries.treatments(f"{_FACT}.42", PRESSURE, "20190305"),
            entries.score(f"{_FACT}.43"),
        ),
    )
