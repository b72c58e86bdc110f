"""The FHIR read API over HTTP: reads, versions, search, bundles, bytes, what is refused, what is audited."""

from __future__ import annotations

import base64
import json

import pytest
from fhir.resources.R4B import get_fhir_model_class

from hub.model.identifiers import INS_NIR_TEST
from hub.record.search_parameters import parameters_by_type
from hub.web.fhir_capability import _EVERY, SEARCH_PARAMETERS, TYPES

INS, IPP, NAME, PDF = "279035121518989", "8800471132", "QUATREMARRE", b"%PDF-1.4 synthetic report"
FHIR = "application/fhir+json"


def _valid(body):
    get_fhir_model_class(body["resourceType"]).model_validate(body)
    return body


def _found(bundle):
    return [entry["resource"] for entry in bundle.get("entry", ())]


def test_a_patient_is_found_by_ins_and_by_ipp(house):
    client = house.client("professional")
    for identifier in (f"urn:oid:{INS_NIR_TEST}|{INS}", f"urn:oid:1.2.250.1.999.1|{IPP}", INS):
        bundle = _valid(client.get("/fhir/Patient", params={"identifier": identifier}).json())
        assert [one["id"] for one in _found(bundle)] == [house.patient], identifier
        assert bundle["type"] == "searchset" and bundle["link"][0]["relation"] == "self"


def test_a_read_carries_its_version_and_is_not_sent_twice(house):
    client = house.client("professional")
    response = client.get(f"/fhir/Patient/{house.patient}")
    assert (
        response.headers["content-type"] == FHIR and response.headers["etag"] == 'W/"1"' and "last-modified" in response.headers
    )
    assert response.headers["cache-control"] == "no-store"
    _valid(response.json())
    before = len(house.audit("read"))
    again = client.get(f"/fhir/Patient/{house.patient}", headers={"If-None-Match": 'W/"1"'})
    assert again.status_code == 304 and not again.content
    assert len(house.audit("read")) == before + 1
    assert client.get(f"/fhir/Patient/{house.patient}", headers={"If-None-Match": 'W/"2"'}).status_code == 200


def test_versions_and_history(house):
    client = house.client("professional")
    assert client.get(f"/fhir/Patient/{house.patient}/_history/1").json()["meta"]["versionId"] == "1"
    assert client.get(f"/fhir/Patient/{house.patient}/_history/2").status_code == 404
    bundle = _valid(client.get(f"/fhir/Patient/{house.patient}/_history").json())
    assert bundle["type"] == "history" and bundle["entry"][0]["response"]["etag"] == 'W/"1"'
    assert client.get("/fhir/Binary/x/_history").status_code == 404


def test_every_type_is_read_and_searched_as_it_says(house):
    client = house.client("professional")
    encounter = _found(client.get("/fhir/Encounter", params={"patient": house.patient}).json())[0]
    assert _valid(client.get(f"/fhir/Encounter/{encounter['id']}").json())["subject"]["reference"] == f"Patient/{house.patient}"
    document = house.documents["1.2.250.1.999.2.1001"]
    assert (
        _valid(client.get(f"/fhir/DocumentReference/{document}").json())["masterIdentifier"]["value"]
        == "urn:oid:1.2.250.1.999.2.1001"
    )
    provenance = _found(client.get("/fhir/Provenance", params={"target": f"DocumentReference/{document}"}).json())
    assert len(provenance) == 1 and _valid(client.get(f"/fhir/Provenance/{provenance[0]['id']}").json())


def test_search_takes_a_form_so_that_no_value_is_in_the_address(house):
    response = house.client("professional").post("/fhir/Patient/_search", data={"identifier": f"urn:oid:{INS_NIR_TEST}|{INS}"})
    assert [one["id"] for one in _found(response.json())] == [house.patient]
    assert house.client("professional").post("/fhir/Patient/_search", json={}).status_code == 415


def test_pages_and_counts(house):
    client = house.client("professional")
    first = _valid(client.get("/fhir/Provenance", params={"target": f"Patient/{house.patient}", "_total": "accurate"}).json())
    assert first["total"] == len(first["entry"])
    counted = client.get("/fhir/DocumentReference", params={"patient": house.patient, "_summary": "count"}).json()
    assert counted["total"] == 1 and "entry" not in counted
    author = house.client("author")
    page = author.get("/fhir/DocumentReference", params={"patient": house.patient, "_count": 1}).json()
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    second = author.get(following).json()
    assert len(page["entry"]) == len(second["entry"]) == 1 and page["entry"][0]["fullUrl"] != second["entry"][0]["fullUrl"]
    assert all(link["relation"] != "next" for link in second["link"])


def test_what_is_hidden_from_professionals_is_not_there(house):
    hidden = house.documents["1.2.250.1.999.2.1002"]
    anybody, author = house.client("professional"), house.client("author")
    for path in (
        f"/fhir/DocumentReference/{hidden}",
        f"/fhir/DocumentReference/{hidden}/_history",
        f"/fhir/DocumentReference/{hidden}/_history/1",
    ):
        assert anybody.get(path).status_code == 404 and author.get(path).status_code == 200, path
    binary = author.get(f"/fhir/DocumentReference/{hidden}").json()["content"][0]["attachment"]["url"]
    assert anybody.get(f"/fhir/{binary}").status_code == 404 and author.get(f"/fhir/{binary}").status_code == 200


def test_a_document_gives_back_its_exact_bytes(house):
    client, document = house.client("professional"), house.documents["1.2.250.1.999.2.1001"]
    url = client.get(f"/fhir/DocumentReference/{document}").json()["content"][0]["attachment"]["url"]
    raw = client.get(f"/fhir/{url}")
    assert raw.content == PDF and raw.headers["content-type"] == "application/pdf"
    assert "sandbox" in raw.headers["content-security-policy"] and raw.headers["x-content-type-options"] == "nosniff"
    assert raw.headers["content-disposition"].startswith("inline") and raw.headers["cache-control"] == "no-store"
    as_fhir = client.get(f"/fhir/{url}", headers={"Accept": FHIR})
    assert base64.b64decode(_valid(as_fhir.json())["data"]) == PDF and as_fhir.headers["content-type"] == FHIR
    rows = [row for row in house.audit("read") if row["target"] == url]
    assert len(rows) == 2 and json.loads(rows[0]["detail"]) == {"document": f"DocumentReference/{document}"}
    assert rows[0]["patient_id"] is not None


def test_bytes_that_are_no_pdf_are_never_shown_in_place(own_house):
    own_house.write(lambda tx: tx.run("UPDATE binary_content SET content_type = 'text/html'"))
    client, document = own_house.client("professional"), own_house.documents["1.2.250.1.999.2.1001"]
    url = client.get(f"/fhir/DocumentReference/{document}").json()["content"][0]["attachment"]["url"]
    raw = client.get(f"/fhir/{url}")
    assert raw.headers["content-disposition"].startswith("attachment") and "sandbox" in raw.headers["content-security-policy"]


def test_a_parameter_that_is_unknown_is_refused_when_strict_and_left_out_of_the_self_link_when_not(house):
    client = house.client("professional")
    params = {"patient": house.patient, "colour": "blue"}
    strict = client.get("/fhir/Encounter", params=params, headers={"Prefer": "handling=strict"})
    assert strict.status_code == 400 and "colour" in strict.json()["issue"][0]["diagnostics"] and "blue" not in strict.text
    lenient = client.get("/fhir/Encounter", params=params).json()
    assert len(_found(lenient)) == 1 and "colour" not in lenient["link"][0]["url"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/fhir/Patient/nothing", 404),
        ("/fhir/Patient/01a20c9f-b1fd-7000-8000-000000000000", 404),
        ("/fhir/Medication", 404),
        ("/fhir/Condition/1", 404),
        ("/fhir/Observation/1", 404),
        ("/fhir/Observation?date=soon", 400),
        ("/fhir/Nonsense/1/_history", 404),
        ("/fhir/Binary", 400),
        ("/fhir/Patient?_count=x", 400),
        ("/fhir/DocumentReference?date=soon", 400),
        ("/fhir/Patient?after=zzz", 400),
        ("/fhir/Patient/x/y/z", 404),
        ("/fhir/", 404),
        ("/fhir/Patient?_format=xml", 406),
    ],
)
def test_what_cannot_be_answered_is_an_operation_outcome(house, path, status):
    response = house.client("professional").get(path)
    assert response.status_code == status and response.headers["content-type"] == FHIR
    _valid(response.json())
    assert response.json()["resourceType"] == "OperationOutcome"


def test_only_json_is_spoken_and_only_reading_is_done(house):
    client = house.client("professional")
    assert client.get("/fhir/Patient", headers={"Accept": "application/fhir+xml"}).status_code == 406
    assert client.get("/fhir/Patient?_format=application/fhir%2Bjson").status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/fhir/Patient/1").status_code == 405, method


def test_the_capability_statement_is_true(house):
    """Every interaction, parameter, include and operation that it names is asked, strictly."""
    client = house.client("professional", headers={"Prefer": "handling=strict"})
    statement = _valid(client.get("/fhir/metadata").json())
    held, values = set(), {"date": "ge2020", "quantity": "gt1", "reference": f"Encounter/{house.patient}"}
    for resource in statement["rest"][0]["resource"]:
        kind, codes = resource["type"], {one["code"] for one in resource["interaction"]}
        whose = {"_id": house.patient} if kind == "Patient" else {"patient": house.patient}
        for parameter in resource.get("searchParam", ()):
            name, value = parameter["name"], values.get(parameter["type"], "x")
            value = {"gender": "female", "birthdate": "1979", "isArchived": "true", "patient": house.patient}.get(name, value)
            value = house.patient if name == "subject" else value
            if kind == "Provenance":
                continue
            answer = client.get(f"/fhir/{kind}", params={**whose, name: value, "_count": 1})
            assert answer.status_code == 200, (kind, name, answer.text)
        if "search-type" in codes:
            narrow = {"target": f"Patient/{house.patient}"} if kind == "Provenance" else whose
            asked = [("_include", one) for one in resource.get("searchInclude", ())]
            asked += [("_revinclude", one) for one in resource.get("searchRevInclude", ())]
            answer = client.get(f"/fhir/{kind}", params=[*narrow.items(), *asked])
            assert answer.status_code == 200, (kind, answer.text)
            for one in _found(answer.json())[:1]:
                held.add(kind)
                assert client.get(f"/fhir/{kind}/{one['id']}").status_code == 200
                assert client.get(f"/fhir/{kind}/{one['id']}/_history/1").status_code == 200 or "vread" not in codes
                assert client.get(f"/fhir/{kind}/{one['id']}/_history").status_code == 200
        for operation in resource.get("operation", ()):
            path = (
                f"/fhir/Patient/{house.patient}/${operation['name']}"
                if kind == "Patient"
                else f"/fhir/{kind}/${operation['name']}"
            )
            assert client.get(path, params=whose if kind != "Patient" else {}).status_code == 200, path
    assert {"Patient", "Encounter", "DocumentReference", "Provenance"} <= held
    assert {resource["type"] for resource in statement["rest"][0]["resource"]} == set(TYPES)
    assert {kind: set(known) for kind, known in SEARCH_PARAMETERS.items() if kind != "Provenance"} == parameters_by_type()
    assert SEARCH_PARAMETERS.keys() == {kind for kind, kept in TYPES.items() if kept.searched} and "_id" in _EVERY


def test_all_of_a_patient_comes_as_a_stream(house):
    client, path = house.client("professional"), f"/fhir/Patient/{house.patient}/$everything"
    before = len(house.audit("everything"))
    bundle = _valid(client.get(path).json())
    kinds = [one["resourceType"] for one in _found(bundle)]
    assert kinds == ["Patient", "DocumentReference", "Encounter"] and bundle["entry"][0]["fullUrl"].endswith(house.patient)
    lines = client.get(path, headers={"Accept": "application/fhir+ndjson"})
    assert lines.headers["content-type"].startswith("application/fhir+ndjson")
    assert [json.loads(line)["resourceType"] for line in lines.text.splitlines()] == kinds
    page = client.get(path, params={"_count": 2}).json()
    rest = client.get(next(link["url"] for link in page["link"] if link["relation"] == "next")).json()
    assert [one["resourceType"] for one in _found(page) + _found(rest)] == kinds
    assert "entry" not in _valid(client.get(path, params={"_type": "Goal"}).json())
    assert len(_found(house.client("author").get(path).json())) == 4
    rows = house.audit("everything")[before:]
    assert len(rows) == 6 and all(row["patient_id"] is not None for row in rows)
    for wrong in ("start=soon", "_type=Nonsense", "after=x"):
        assert client.get(f"{path}?{wrong}").status_code == 400, wrong
    assert client.get("/fhir/Patient/nobody/$everything").status_code == 404
    assert client.get(f"{path}?colour=blue", headers={"Prefer": "handling=strict"}).status_code == 400


def test_the_summary_and_the_newest_results_are_answered_and_audited(house):
    client = house.client("professional")
    document = _valid(client.get(f"/fhir/Patient/{house.patient}/$summary").json())
    assert document["type"] == "document" and document["entry"][0]["resource"]["resourceType"] == "Composition"
    assert house.audit("summary")[-1]["patient_id"] is not None
    assert client.get("/fhir/Patient/nobody/$summary").status_code == 404
    assert _valid(client.get("/fhir/Observation/$lastn", params={"patient": house.patient}).json())["type"] == "searchset"
    assert client.get("/fhir/Observation/$lastn").status_code == 400
    assert client.get("/fhir/Observation/$lastn", params={"patient": house.patient, "max": "0"}).status_code == 400


def test_a_reader_that_holds_a_version_says_so(house):
    client, path = house.client("professional"), f"/fhir/Patient/{house.patient}"
    assert client.get(path, headers={"If-Match": 'W/"1"'}).status_code == 200
    changed = client.get(path, headers={"If-Match": 'W/"7"'})
    assert changed.status_code == 412 and _valid(changed.json())


def test_what_comes_along_is_marked_and_parts_say_that_they_are_parts(house):
    client = house.client("professional")
    asked = {"patient": house.patient, "_include": "Encounter:patient", "_elements": "period"}
    bundle = _valid(client.get("/fhir/Encounter", params=asked).json())
    assert [one["search"]["mode"] for one in bundle["entry"]] == ["match", "include"]
    encounter, patient = _found(bundle)
    assert encounter["meta"]["tag"][0]["code"] == "SUBSETTED" and encounter.keys() >= {"period", "status", "class"}
    assert "subject" not in encounter and "name" in patient
    assert house.audit("search")[-1]["patient_id"] is not None  # though the answer does not say whose it is
    refused = client.get("/fhir/Encounter", params={"patient": house.patient, "_include:iterate": "Encounter:patient"})
    assert refused.status_code == 400 and ":iterate" in refused.json()["issue"][0]["diagnostics"]
    assert "period" not in client.get(f"/fhir/Encounter/{encounter['id']}?_summary=true").json()


def test_every_read_of_a_patient_leaves_a_row_without_a_value(house):
    client, before = house.client("professional"), len(house.audit())
    client.get("/fhir/Patient", params={"identifier": INS, "family": NAME})
    client.get("/fhir/Patient", params={"identifier": "1-unknown"})
    client.get(f"/fhir/Patient/{house.patient}")
    client.get(f"/fhir/Patient/{house.patient}/_history")
    client.get(f"/fhir/Patient/{house.patient}/_history/1")
    client.get("/fhir/Encounter", params={"patient": house.patient})
    client.get("/fhir/Provenance", params={"target": f"Patient/{house.patient}"})
    rows = house.audit()[before:]
    assert [row["act"] for row in rows] == ["search", "search", "read", "history", "vread", "search", "search"]
    assert all(row["actor"] == "professional-1" and row["role"] == "professional" for row in rows)
    assert [row["patient_id"] is not None for row in rows] == [True, False, True, True, True, True, True]
    assert json.loads(rows[0]["detail"])["parameters"] == ["family", "identifier"]
    assert not any(value in str(row) for row in rows for value in (INS, IPP, NAME))
