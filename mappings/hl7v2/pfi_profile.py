"""What differs between the versions of « transmission de documents CDA en HL7 v2 », as data.

Standard: CI-SIS, MSH-21 1.2, 2.0, 2.1 (creator to platform) and LPS 1.0, 1.1 (platform to software).
"""

from __future__ import annotations

from dataclasses import dataclass

MDM, ORU, OUL = ("MDM^T02", "MDM^T10", "MDM^T04"), ("ORU^R01",), ("OUL^R22",)


@dataclass(frozen=True, slots=True)
class Profile:
    """One version, known by MSH-21: one of `versions` in component 1, `family` in component 2, in any case of letters.

    `newest_of` is a pattern of MSH-21 values that we do not know and that are read as this version, with a finding. `kinds`
    are the messages it is for. `audience` is `pfi` or `lps`. `order_in_mdm`: ORC and OBR are required in an MDM (an ORU
    always has them). `orc_1_says`: ORC-1 and TXA-13 take part in the action. `obr_4_is_type`: OBR-4 is the document's type.
    `txa_12_is_cda_id`: TXA-12 is the CDA's id. `recipients_in_prt`: mail goes to the addresses of PRT. `traits_with_ins`: an
    INS without its five traits is refused.
    """

    name: str
    family: str
    versions: tuple[str, ...]
    audience: str = "pfi"
    newest_of: str = ""
    kinds: tuple[tuple[str, ...], ...] = (MDM, ORU)
    order_in_mdm: bool = True
    orc_1_says: bool = True
    obr_4_is_type: bool = True
    txa_12_is_cda_id: bool = True
    recipients_in_prt: bool = True
    traits_with_ins: bool = False

    @property
    def msh_21(self) -> str:
        """A pattern of the MSH-21 values that are this version's own."""
        versions = "|".join(version.replace(".", r"\.") for version in self.versions)
        return rf"(?i:(?:{versions})\^{self.family})"

    def knows(self, profiles: tuple[str, ...]) -> bool:
        """Whether one of these values of MSH-21 is this version's own."""
        own = {f"{version}^{self.family}" for version in self.versions}
        return any(one.upper() in own for one in profiles)


# The alias table of MSH-21. A number that is in no row is read as the newest version of its family, and a family that we do
# not know (a V3) as the newest version there is: a sender that is ahead of us is told by a finding and not turned away.
PROFILES = (
    Profile(
        "1.2",
        "CISIS_CDA_HL7_V1",
        ("1.2",),
        newest_of=r"(?i:[^^]*\^CISIS_CDA_HL7_V1)",
        kinds=(MDM, ORU, OUL),
        orc_1_says=False,
        obr_4_is_type=False,
        txa_12_is_cda_id=False,
        recipients_in_prt=False,
    ),
    Profile("2.0", "CISIS_CDA_HL7_V2", ("2.0",), order_in_mdm=False, orc_1_says=False),
    Profile("2.1", "CISIS_CDA_HL7_V2", ("2.1", "2.1.1", "2.1.2"), newest_of=r"(?i:[^^]*\^CISIS_CDA_HL7_V[2-9][0-9]*)"),
    Profile("1.0", "CISIS_CDA_HL7_LPS", ("1.0",), "lps", kinds=(MDM,), order_in_mdm=False, orc_1_says=False, obr_4_is_type=False),
    Profile(
        "1.1",
        "CISIS_CDA_HL7_LPS",
        ("1.1", "1.1.1", "1.1.2"),
        "lps",
        newest_of=r"(?i:[^^]*\^CISIS_CDA_HL7_LPS)",
        kinds=(MDM,),
        traits_with_ins=True,
    ),
)
