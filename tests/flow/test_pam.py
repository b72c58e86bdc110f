"""PAM France through a running hub: a stay told over MLLP and read back by FHIR, and the official samples."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fhir.resources.R4B import get_fhir_model_class

from hub.record.consents import dmp_refusal
from hub.web.tokens import Role, create

HUB = """
[hub]
environment = "test"
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record"]
"""
MESSAGE = (
    "MSH|^~\\&|GAM|CHU-TEST|HUB|HUB|{at}||ADT^{event}|{control}|T|2.5^FRA^2.11|||||FRA|UNICODE UTF-8\r"
    "EVN||{at}||||{at}\r"
    "PID|1||900001^^^CHU&1.2.250.1.999.1&ISO^PI||TESTUT^ZOE^ZOE MARIE^^^^L||19800102|F\r"
    "PV1|1|I|{place}^^^CHU&000000001&M||||10000000017^VASSEUR^Irma^^^^^^ASIP-SANTE-PS&1.2.250.1.71.4.2.1&ISO^D^^^RPPS"
    "||||||||||||V1^^^CHU&1.2.250.1.999.2&ISO^VN\r"
    "ZBE|{zbe}\r"
)
STORY = (
    (
        "A01",
        "20260302080000",
        "MED^1^P",
        "1^CHU^1.2.3^ISO|20260302080000||INSERT|N|||^^^^^^UF^^^10|HMS",
        "ZFA|ACTIF|2024|||||||IO|20260302\r",
    ),
    ("A02", "20260303090000", "CHIR^2^F", "2^CHU^1.2.3^ISO|20260303090000||INSERT|N|||^^^^^^UF^^^20|SH", ""),
    ("Z99", "20260303100000", "CHIR^3^F", "2^CHU^1.2.3^ISO|20260303093000||UPDATE|N|A02||^^^^^^UF^^^20|C", ""),
    ("A03", "20260305110000", "CHIR^3^F", "3^CHU^1.2.3^ISO|20260305110000||INSERT|N|||^^^^^^UF^^^20|S", "ZFM||8\r"),
)


def messages():
    for n, (event, at, place, zbe, more) in enumerate(STORY):
        yield (MESSAGE.format(event=event, at=at, place=place, zbe=zbe, control=f"C{n}") + more).encode()


class Web:
    """The hub's own HTTP port, asked as a caller with a token does."""

    def __init__(self, hub, secrets):
        self._secrets = secrets
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.hub.web.port}")

    async def get(self, path, role="professional"):
        return await self._client.get(path, headers={"Authorization": f"Bearer {self._secrets[role]}"})

    async def found(self, path):
        bundle = (await self.get(path)).json()
        resources = [entry["resource"] for entry in bundle.get("entry", ())]
        for one in resources:
            get_fhir_model_class(one["resourceType"]).model_validate(one)
        return resources

    async def close(self):
        await self._client.aclose()


async def web_of(hub):
    def tokens(tx):
        make = {"next_id": hub.hub.store.next_id, "now_us": hub.hub.store.now_us()}
        made = {role.value: create(tx, name=role.value, role=role, **make) for role in Role}
        return made | {"masked": create(tx, name="masked", role=Role.OPERATOR, masked=True, **make)}

    secrets = await hub.hub.store.write(tokens)
    await hub.hub.start_web()
    return Web(hub, secrets)


@pytest.mark.parametrize("store_of", ["sqlite", "postgres"], indirect=True)
def test_stay_over_mllp_read_back_by_fhir(running, read_msa):
    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            for message in messages():
                assert read_msa(await his.ask(message))[0] == "AA"
            kept = await hub.settled(len(STORY))
            assert {one["state"] for one in kept} == {"DONE"}
            web = await web_of(hub)
            (stay,) = await web.found("/fhir/Encounter?identifier=V1")
            assert (stay["status"], stay["period"]) == (
                "finished",
                {"start": "2026-03-02T08:00:00+01:00", "end": "2026-03-05T11:00:00+01:00"},
            )
            assert [(one["location"]["display"], one["status"], one["period"]["start"][8:16]) for one in stay["location"]] == [
                ("MED 1 P", "completed", "02T08:00"),
                ("CHIR 3 F", "completed", "03T09:30"),
            ]
            assert stay["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] == "8"
            (feeding,) = await web.found(f"/fhir/Consent?patient={stay['subject']['reference']}")
            assert (feeding["status"], feeding["provision"]["type"]) == ("active", "deny")
            assert feeding["provision"]["code"][0]["coding"][0]["code"] == "IO"
            (patient_id,) = await hub.row("SELECT id FROM patient")
            assert await hub.hub.store.read(lambda tx: dmp_refusal(tx, [patient_id])) == {patient_id: "ConsentOpposed"}
            await movements_are_shown(hub, web, stay["id"])
            await web.close()

    asyncio.run(main())


async def movements_are_shown(hub, web, encounter):
    path = f"/api/v1/encounters/{encounter}/movements"
    for role in ("professional", "operator"):
        answer = await web.get(path, role)
        assert answer.status_code == 200
        items = answer.json()["items"]
        assert [(one["event"], one["start"][8:16], one["cancelled"]) for one in items] == [
            ("A01", "02T08:00", False),
            ("A02", "03T09:30", False),
            ("A03", "05T11:00", False),
        ]
        history = items[1]["history"]
        assert [(one["source"], one["control_id"], one["action"], one["event"]) for one in history] == [
            ("his", "C1", "INSERT", "A02"),
            ("his", "C2", "UPDATE", "Z99"),
        ]
    seen = await hub.rows("SELECT actor, target FROM audit WHERE act = 'encounter.movements'")
    assert [row[1] for row in seen] == [f"Encounter/{encounter}"] * 2
    assert [(await web.get(path, role)).status_code for role in ("system", "pharmacist", "masked")] == [403, 403, 403]
    for wrong in ("x", "00000000-0000-7000-8000-000000000000"):
        assert (await web.get(f"/api/v1/encounters/{wrong}/movements")).status_code == 404


@pytest.mark.parametrize("store_of", ["sqlite"], indirect=True)
def test_official_samples_make_stays_and_consents(running, samples, read_msa):
    """Movement number 312 under three visits: three stays. The latest feeding consent counts, consultation is of each visit."""
    names = ("pam_a01_ino_ic.er7", "pam_a01_ino_inc.er7", "pam_a01_na_na.er7")

    async def main():
        async with running(HUB) as hub, hub.sender() as his:
            for name in names:
                assert read_msa(await his.ask((samples / "hl7v2" / name).read_bytes()))[0] == "AA"
            await hub.settled(len(names))
            assert set(await hub.rows("SELECT key FROM movement")) == {("urn:vaguemestre:authority:000897406|312",)}
            web = await web_of(hub)
            stays = await web.found("/fhir/Encounter?_count=10")
            assert sorted(one["identifier"][0]["value"] for one in stays) == ["000197406", "000897406", "000997406"]
            assert {(one["status"], one["class"]["code"]) for one in stays} == {("in-progress", "IMP")}
            consents = await web.found("/fhir/Consent?_count=10")
            codes = sorted(
                (one["category"][0]["coding"][0]["code"], one["provision"]["code"][0]["coding"][0]["code"]) for one in consents
            )
            assert codes == [
                ("dmp-consultation", "IC"),
                ("dmp-consultation", "INC"),
                ("dmp-consultation", "NA"),
                ("dmp-feeding", "NA"),
            ]
            await web.close()

    asyncio.run(main())
