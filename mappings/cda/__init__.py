"""CDA R2 documents → facts of the patient record: FHIR R4 resources, each with the XPath of the element it came from.

`translate` reads a document, `walk` finds its entries, `templates` holds one translator a template, `values` reads data types.
Standard: HL7 CDA R2; IHE PCC, Laboratory and Pharmacy content modules; CI-SIS volets of structured documents.
"""
