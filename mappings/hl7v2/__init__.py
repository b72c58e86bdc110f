"""HL7 v2 messages → changes of the patient record."""
