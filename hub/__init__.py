"""Vaguemestre: the interoperability hub that French health software plugs into.

Read the folders in the order a message takes: `adapters` → `hub.flow` (receive, route, translate, deliver) → `hub.ledger`
(what is kept) → `hub.record` (the patient record) → `hub.web` (who looks).
"""
