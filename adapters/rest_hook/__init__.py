"""Notifications to other software: one HTTP POST each, FHIR JSON, no redirect followed.

Standard: HL7 FHIR R4 Subscription, channel rest-hook.
"""

from adapters.rest_hook.channel import RestHook

__all__ = ["RestHook"]
