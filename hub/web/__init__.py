"""The one HTTP port: ledger API, FHIR, console, health and metrics. Heavy imports stay inside `hub.web.app`."""
