"""SOAP 1.2 envelopes with WS-Addressing, built with lxml; and XML that comes from outside, read without its dangers."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

SOAP = "http://www.w3.org/2003/05/soap-envelope"
WSA = "http://www.w3.org/2005/08/addressing"
ANONYMOUS = "http://www.w3.org/2005/08/addressing/anonymous"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Element = Any  # lxml's own types are generated


class NotReadable(ValueError):
    """Not XML, XML with a DOCTYPE, or XML that is no envelope."""


def element(namespace: str, name: str, parent: Element = None, text: str = "", /, **attributes: str) -> Element:
    """A new element, last child of `parent` when there is one; what XML cannot hold is left out of `text` and attributes."""
    tag = f"{{{namespace}}}{name}"
    clean = {key: _NOT_XML.sub("", value) for key, value in attributes.items()}
    made = etree.Element(tag, clean) if parent is None else etree.SubElement(parent, tag, clean)
    if text:
        made.text = _NOT_XML.sub("", text)
    return made


def envelope(body: Element, *, action: str, to: str, message_id: str) -> bytes:
    """A request around `body`."""
    root = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP, "wsa": WSA})
    header = element(SOAP, "Header", root)
    element(WSA, "MessageID", header, f"urn:uuid:{message_id}")
    element(WSA, "To", header, to)
    reply = element(WSA, "ReplyTo", header)
    element(WSA, "Address", reply, ANONYMOUS)
    stated = element(WSA, "Action", header, action)
    stated.set(f"{{{SOAP}}}mustUnderstand", "true")
    element(SOAP, "Body", root).append(body)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def answer(body: Element, *, action: str, relates_to: str) -> bytes:
    """A response around `body`."""
    root = etree.Element(f"{{{SOAP}}}Envelope", nsmap={"soap": SOAP, "wsa": WSA})
    header = element(SOAP, "Header", root)
    element(WSA, "Action", header, action)
    element(WSA, "RelatesTo", header, relates_to)
    element(SOAP, "Body", root).append(body)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def fault(code: str, reason: str) -> Element:
    """A Fault; `code` is Sender or Receiver."""
    made = etree.Element(f"{{{SOAP}}}Fault", nsmap={"soap": SOAP})
    element(SOAP, "Value", element(SOAP, "Code", made), f"soap:{code}")
    text = element(SOAP, "Text", element(SOAP, "Reason", made), reason)
    text.set("{http://www.w3.org/XML/1998/namespace}lang", "en")
    return made


def opened(xml: bytes) -> Element:
    """The envelope in `xml`.

    Raises:
        NotReadable.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise NotReadable("not XML") from None
    docinfo: Any = root.getroottree().docinfo
    if docinfo.doctype:
        raise NotReadable("a DOCTYPE")
    if root.tag != f"{{{SOAP}}}Envelope" or root.find(f"{{{SOAP}}}Body") is None:
        raise NotReadable("no SOAP 1.2 envelope")
    return root


def payload(root: Element) -> Element:
    """The first element of the body; None when it is empty."""
    body = root.find(f"{{{SOAP}}}Body")
    return next((child for child in body if isinstance(child.tag, str)), None)


def header_text(root: Element, name: str) -> str:
    """Text of a WS-Addressing header."""
    return (root.findtext(f"{{{SOAP}}}Header/{{{WSA}}}{name}") or "").strip()
