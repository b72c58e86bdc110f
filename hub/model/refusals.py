"""What goes wrong, and what the other side is told.

Every error of ours is a `HubError`. Its text is made of codes and locations only: a value of the message never enters it,
because texts end in logs, acknowledgements and pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Retry(StrEnum):
    TRANSIENT = "transient"  # the same thing may work later
    AMBIGUOUS = "ambiguous"  # nobody knows whether it worked
    PERMANENT = "permanent"  # the same thing fails again


class HubError(Exception):
    """An error with a code for machines, a sentence for people, and whether trying again helps."""

    code = "HubError"
    retry = Retry.PERMANENT

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence or self.__class__.__name__)
        self.sentence = sentence


class Misconfigured(HubError):
    """A configuration mistake: file, key, reason."""

    code = "Misconfigured"

    def __init__(self, file: str, key: str, reason: str) -> None:
        super().__init__(f"{file}: {key}: {reason}")
        self.file, self.key, self.reason = file, key, reason


class AuthenticationFailed(HubError):
    code = "AuthenticationFailed"


# ---- a message is refused ------------------------------------------------------------------------------------------


class MessageRefused(HubError):
    """The message is kept, answered with `ack_code` and an ERR segment, and goes nowhere.

    `at` is a location in HL7 words: `PID-3`, `OBX[2]-5`, `MSH-9.2`, or an XPath inside a CDA document.
    Standard: HL7 v2.5.1 §2.A.20 table 0357; CI-SIS transmission de documents CDA en HL7 v2, 2.1.2.
    """

    code = "MessageRefused"
    ack_code = "AE"
    condition = "207"  # ERR-3, table 0357
    application = ""  # ERR-5, table 0533

    def __init__(self, *, at: str, sentence: str = "", condition: str | None = None) -> None:
        if condition is not None:
            self.condition = condition
        super().__init__(sentence or self.default_sentence(at))
        self.at = at

    def default_sentence(self, at: str) -> str:
        return f"{at}: {CONDITIONS_0357.get(self.condition, 'refused')}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.at, self.sentence, self.condition)


def _rebuild(kind: type[MessageRefused], at: str, sentence: str, condition: str) -> MessageRefused:
    return kind(at=at, sentence=sentence, condition=condition)


class Unreadable(MessageRefused):
    """The bytes are not what they should be: no MSH, wrong base64, XML that is not a CDA."""

    code, condition = "Unreadable", "199"


class NotSupported(MessageRefused):
    """Message type (200), event (201), processing id (202) or version (203) that the hub does not take."""

    code, condition = "NotSupported", "200"


class SegmentMissing(MessageRefused):
    code, condition = "SegmentMissing", "100"


class FieldMissing(MessageRefused):
    code, condition = "FieldMissing", "101"


class FieldInvalid(MessageRefused):
    code, condition = "FieldInvalid", "102"


class CodeUnknown(MessageRefused):
    code, condition = "CodeUnknown", "103"


class Cardinality(MessageRefused):
    code, condition = "Cardinality", "198"


class RuleBroken(MessageRefused):
    """Fields that contradict each other (action triplet, CDA id against TXA-12, flags)."""

    code, condition = "RuleBroken", "207"


class IdentityUnproven(MessageRefused):
    """The patient of the message is not the patient of its document."""

    code, condition = "IdentityUnproven", "207"


class ConsumerRefused(MessageRefused):
    """A document of flow 6 that cannot be integrated; `application` (900 to 906) says why, for the sender of the mail."""

    code, condition = "ConsumerRefused", "207"

    def __init__(self, *, at: str, application: str, sentence: str) -> None:
        super().__init__(at=at, sentence=f"{sentence} ({application})")
        self.application = application

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_consumer, (self.at, self.application, self.sentence.removesuffix(f" ({self.application})"))


def _rebuild_consumer(at: str, application: str, sentence: str) -> ConsumerRefused:
    return ConsumerRefused(at=at, application=application, sentence=sentence)


class AlreadyReceived(MessageRefused):
    """A strict source used a control id again with other bytes."""

    code, condition = "AlreadyReceived", "207"


class Unavailable(MessageRefused):
    """Full, draining, or the store does not take writes: the same message may come again later (AR)."""

    code, ack_code, condition, retry = "Unavailable", "AR", "207", Retry.TRANSIENT


CONDITIONS_0357 = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "198": "Non-conformant cardinality",
    "199": "Other HL7 error",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application error",
}

# Table 0533, applicationErrorCondition. Standard: CI-SIS transmission au LPS d'un document CDA, 1.1.2, codes d'erreur.
APPLICATION_ERRORS_0533 = {
    "900": "Version du document incorrecte lors d'une demande de remplacement/suppression",
    "901": "Auteur non autorisé à remplacer ou supprimer un document",
    "902": "Identifiant patient inconnu",
    "903": "INS non présent dans le document",
    "904": "INS présent mais matricule ou traits différents de ceux de la base",
    "905": "Matricule INS présent mais traits incomplets",
    "906": "Autre erreur",
}


# ---- a delivery fails ----------------------------------------------------------------------------------------------


class DeliveryFailed(HubError):
    """One attempt did not succeed; `answer` is what the peer said, for the attempt row, `reason` its own code."""

    code = "DeliveryFailed"
    retry = Retry.TRANSIENT

    def __init__(self, sentence: str = "", *, answer: bytes = b"", reason: str = "") -> None:
        super().__init__(sentence)
        self.answer, self.reason = answer, reason


class PeerUnavailable(DeliveryFailed):
    """Nothing was sent: no connection, or the peer's listener is gone. Opens the breaker."""

    code = "PeerUnavailable"


class NoAnswer(DeliveryFailed):
    """The bytes left and no answer for them came back."""

    code, retry = "NoAnswer", Retry.AMBIGUOUS


class PeerBusy(DeliveryFailed):
    """The peer said: not now (AR, CR)."""

    code = "PeerBusy"


class PeerRefused(DeliveryFailed):
    """The peer said: never (AE, CE)."""

    code, retry = "PeerRefused", Retry.PERMANENT


class TranslationFailed(HubError):
    """A mapping raised, ran too long or grew too large: a person must look."""

    code = "TranslationFailed"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth telling about a message that was taken all the same: code, place, sentence without values."""

    code: str
    at: str
    sentence: str
