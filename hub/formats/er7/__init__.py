"""HL7 v2 in its vertical-bar form: a reader that parses only what is asked, byte-true rewriting, and the two answers a hub
writes (ACK, ZAM).

`read` → `Message` → `Segment`; `join` gives back the same bytes; `splice` changes single fields and nothing else.
"""

from hub.formats.er7.acknowledgement import acknowledgement
from hub.formats.er7.escapes import escape, unescape
from hub.formats.er7.message import WHOLE, Message, Segment, join, read
from hub.formats.er7.separators import Separators
from hub.formats.er7.splice import splice
from hub.formats.er7.zam import zam

__all__ = ["WHOLE", "Message", "Segment", "Separators", "acknowledgement", "escape", "join", "read", "splice", "unescape", "zam"]
