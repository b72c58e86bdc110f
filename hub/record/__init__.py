"""The patient record: who is who (`identity`), what one message changes (`apply`), and how it is read (`queries`).

One module a FHIR resource where the resource has rules of its own: `patients`, `documents`, `provenance`, `binaries`.
"""
