"""ISO Schematron as XSLT 3.0: rule files read with their inclusions, translated, and their reports read; pure text.

Standard: ISO/IEC 19757-3:2016 with query language binding xslt2; XSLT 3.0.
"""

from hub.formats.schematron.choice import RuleChoice, document_with_choice
from hub.formats.schematron.reading import RuleFiles, read_schema
from hub.formats.schematron.schema import Level, Origin, Schema
from hub.formats.schematron.svrl import Failed, read_svrl
from hub.formats.schematron.xslt import Stylesheet, to_xslt

__all__ = [
    "Failed",
    "Level",
    "Origin",
    "RuleChoice",
    "RuleFiles",
    "Schema",
    "Stylesheet",
    "document_with_choice",
    "read_schema",
    "read_svrl",
    "to_xslt",
]
