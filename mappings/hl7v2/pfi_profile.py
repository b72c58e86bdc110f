"""What differs between the versions of « transmission de documents CDA en HL7 v2 », as data.

Standard: CI-SIS, MSH-21 1.2, 2.0, 2.1 (creator to platform) and LPS 1.0, 1.1 (platform to software).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One version, known by `msh_21` (a pattern for MSH-21).

    `audience` is `pfi` or `lps`. `order_in_mdm`: ORC and OBR are required in an MDM (an ORU always has them). `orc_1_says`:
    ORC-1 takes part in the action. `obr_4_is_type`: OBR-4 is the document's type. `txa_12_is_cda_id`: TXA-12 is the CDA's id.
    `recipients_in_prt`: mail goes to the addresses of PRT.
    """

    name: str
    msh_21: str
    audience: str = "pfi"
    order_in_mdm: bool = True
    orc_1_says: bool = True
    obr_4_is_type: bool = True
    txa_12_is_cda_id: bool = True
    recipients_in_prt: bool = True


# An unknown version of a known profile is read as the newest one: the last row of its name.
PROFILES = (
    Profile(
        "1.2", r"[^^]*\^CISIS_CDA_HL7_V1", orc_1_says=False, obr_4_is_type=False, txa_12_is_cda_id=False, recipients_in_prt=False
    ),
    Profile("2.0", r"2\.0\^CISIS_CDA_HL7_V2", order_in_mdm=False, orc_1_says=False),
    Profile("2.1", r"[^^]*\^CISIS_CDA_HL7_V2"),
    Profile("1.0", r"1\.0\^CISIS_CDA_HL7_LPS", "lps", order_in_mdm=False, orc_1_says=False, obr_4_is_type=False),
    Profile("1.1", r"[^^]*\^CISIS_CDA_HL7_LPS", "lps"),
)
