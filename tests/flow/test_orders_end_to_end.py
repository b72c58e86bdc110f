"""Orders, results, appointments and téléradiologie from an independent MLLP client to the FHIR interface."""

from __future__ import annotations

import asyncio

import hl7
import hl7.client
import pytest
from fhir.resources.R4B import get_fhir_model_class
from httpx import AsyncClient

from hub.web.tokens import Role, create

LAB = """
[[source]]
name = "his"
kind = "mllp"
listen = "127.0.0.1:0"
routes = ["record"]
"""
PID = "PID|1||900042^^^CHU&1.2.250.1.999.1&ISO^PI||TESTUT^ZOE^ZOE MARIE^^^^L||19800102|F|||||||||||||||||||||||||PROV"


def message(kind: str, control: str, *segments: str, version: str = "2.5", profile: str = "") -> str:
    at = f"2026112408000{control[-1]}"
    msh = f"MSH|^~\\&|LABO|CHU-TEST|HUB|HUB|{at}||{kind}|{control}|T|{version}|||||FRA|UNICODE UTF-8|||{profile}"
    sch, rest = segments[:1], segments[1:]
    lines = [msh, *sch, PID, *rest] if kind.startswith("SIU") else [msh, PID, *segments]
    return "\r".join(lines) + "\r"


ORDER = message("OML^O21^OML_O21", "C1", "ORC|NW|P1^DPI", "OBR|1|P1^DPI||58410-2^NFS^LN")
RESULT = message(
    "ORU^R01^ORU_R01",
    "C2",
    "ORC|RE|P1^DPI|F1^LABO",
    "OBR|1|P1^DPI|F1^LABO|58410-2^NFS^LN|||20261124070000||||||||||||||||||F",
    "OBX|1|NM|718-7^Hémoglobine^LN||12.5|g/dL|12-16|N|||F",
    "SPM|1|^S1&LABO||BLD^Sang^L",
)
APPOINTMENT = message(
    "SIU^S12^SIU_S12", "C3", "SCH|A1^DPI|R1^RDV|||||C^Contrôle^L||30|MIN|^^^20261210090000", "RGS|1", "AIP|1||17^VASSEUR^Irma"
)
REQUEST = message(
    "ORM^O01^ORM_O01",
    "C4",
    "PV1||O|||||||||||||||||R1^^^RDV",
    "ORC|NW|T9^^1.2.250.9.77^ISO",
    "OBR||T9^^1.2.250.9.77^ISO||TRANSMISSION_DEMANDE^x^TLR_OBR_PROCEDURE",
    version="2.5.1",
    profile="1.0^CISIS_TLR_HL7_V2",
)
CONTRADICTORY = REQUEST.replace("|C4|", "|C5|").replace("ORC|NW|", "ORC|CA|")
ANSWER = message("ORR^O02^ORR_O02", "C6", "MSA|AA|C1", "ORC|UA|P1^DPI").replace(f"{PID}\r", "")


def send(port: int, *raws: str) -> list[hl7.Message]:
    with hl7.client.MLLPClient("127.0.0.1", port) as client:
        return [hl7.parse(client.send_message(raw.encode()).strip(b"\x0b\x1c\r").decode()) for raw in raws]


@pytest.mark.parametrize("store_of", ["sqlite", "postgres"], indirect=True)
def test_from_the_wire_to_the_record(running, store_of):
    async def main():
        async with running(LAB) as hub:
            port = next(source.port for source in hub.hub.sources if source.name == "his")
            answers = await asyncio.to_thread(send, port, ORDER, RESULT, APPOINTMENT, REQUEST, CONTRADICTORY, RESULT)
            assert [str(one.segment("MSA")[1]) for one in answers] == ["AA", "AA", "AA", "AA", "AE", "AA"]
            assert [str(one.segment("MSH")[9]) for one in answers[:4]] == [
                "ACK^O21^ACK",
                "ACK^R01^ACK",
                "ACK^S12^ACK",
                "ACK^O01^ACK",
            ]
            refused = answers[4].segment("ERR")
            assert str(refused[3][0][0]) == "207" and str(refused[2][0]) == "OBR^1^4"
            kept = await hub.settled(5)
            assert {one["control_id"]: one["state"] for one in kept} == {
                **dict.fromkeys(("C1", "C2", "C3", "C4"), "DONE"),
                "C5": "REFUSED",
            }
            now = hub.hub.store.now_us()
            token = await hub.hub.store.write(
                lambda tx: create(tx, name="doc", role=Role.PROFESSIONAL, next_id=hub.hub.store.next_id, now_us=now)
            )
            await hub.hub.start_web()
            address, bearer = f"http://127.0.0.1:{hub.hub.web.port}", {"Authorization": f"Bearer {token}"}
            async with AsyncClient(base_url=address, headers=bearer) as web:

                async def found(kind: str, **params: str) -> dict:
                    response = await web.get(f"/fhir/{kind}", params={"patient.identifier": "900042", **params})
                    assert response.status_code == 200, response.text
                    (entry,) = response.json()["entry"]
                    return get_fhir_model_class(kind).model_validate(entry["resource"]) and entry["resource"]

                result = await found("Observation", code="http://loinc.org|718-7", _sort="-date")
                report, specimen = await found("DiagnosticReport"), await found("Specimen")
                appointment, task = await found("Appointment", date="2026-12-10"), await found("Task", status="requested")
                order = await found("ServiceRequest", identifier="urn:vaguemestre:authority:DPI|P1")
                assert result["valueQuantity"]["value"] == 12.5 and result["meta"]["versionId"] == "1"
                assert result["basedOn"][0]["reference"] == f"ServiceRequest/{order['id']}"
                assert result["specimen"]["reference"] == f"Specimen/{specimen['id']}"
                assert report["result"][0]["reference"] == f"Observation/{result['id']}"
                request = (await web.get(f"/fhir/{task['focus']['reference']}")).json()
                assert request["supportingInfo"][0]["reference"] == f"Appointment/{appointment['id']}"
                assert appointment["participant"][1]["actor"]["display"] == "Irma VASSEUR"
                for one in (result, report, specimen, appointment, task, order):
                    at = f"/fhir/{one['resourceType']}/{one['id']}"
                    assert (await web.get(at)).json() == one
                    assert (await web.get(f"{at}/_history/1")).json() == one
                    assert len((await web.get(f"{at}/_history")).json()["entry"]) == 1
                assert [str(one.segment("MSA")[1]) for one in await asyncio.to_thread(send, port, ANSWER)] == ["AA"]
                await hub.settled(6)
                assert (await web.get(f"/fhir/ServiceRequest/{order['id']}")).json()["status"] == "revoked"
            audited = await hub.rows("SELECT target, count(patient_id) FROM audit WHERE act = 'search' GROUP BY target")
            assert dict(audited) == dict.fromkeys(
                ("Observation", "DiagnosticReport", "Specimen", "Appointment", "Task", "ServiceRequest"), 1
            )

    asyncio.run(main())
