"""Which translation reads which message: a table over MSH-9 and MSH-21, to which a site adds its own rows.

A site module exposes `STRUCTURES`, a list of (`Reads`, structure), asked before ours, and `REWRITES`, a dict from the name that
a route's `mapping` gives to a function of (message, site) that returns the bytes for that destination.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from types import ModuleType

from hub.formats.er7 import Message
from hub.model.identity import PatientIdentity
from hub.model.site import Site
from mappings.cda.document_reference import DocumentTypes
from mappings.hl7v2 import adt, orders, siu, teleradiology, zam_z01
from mappings.hl7v2.admission import Admit, admission
from mappings.hl7v2.cda_document import CdaTranslation
from mappings.hl7v2.mdm_t02 import MdmT02
from mappings.hl7v2.orc import OrderControl
from mappings.hl7v2.oru_r01 import OruR01
from mappings.hl7v2.oul_r22 import OulR22
from mappings.hl7v2.pfi import PfiDocument
from mappings.hl7v2.pfi_profile import MDM, PROFILES
from mappings.hl7v2.pfi_request import MetaTable
from mappings.hl7v2.pid import pid_identity
from mappings.hl7v2.ucum import Units
from mappings.structure import Rewrite, Structure
from mappings.tables import load

_KNOWN_AT_MOST = 1024  # types and profiles are a sender's text: their number is bounded
ReadTable = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Reads:
    """The messages that a row is for: MSH-9 (`type^event`), and a pattern that one repetition of MSH-21 matches whole.

    Without a pattern the row takes any MSH-21, none included.
    """

    types: frozenset[str]
    profile: re.Pattern[str] | None = None


Row = tuple[Reads, Structure | None]


def reads(*types: str, profile: str | None = None) -> Reads:
    """Shorthand for a row's left side."""
    return Reads(frozenset(types), re.compile(profile) if profile is not None else None)


@dataclass(frozen=True)
class Registry:
    """All translations the hub knows. Rows are asked from the top; a row with None leaves its messages unread on purpose."""

    rows: tuple[Row, ...]
    admit: Admit
    rewrites: Mapping[str, Rewrite] = field(default_factory=dict)
    _known: dict[tuple[str, tuple[str, ...]], Structure | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def find(self, message: Message) -> Structure | None:
        """The structure that reads this message; None when none does."""
        key = (message.type, message.profiles)
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= _KNOWN_AT_MOST:
                self._known.clear()
            found = self._known[key] = self._found(*key)
            return found

    def named(self, name: str) -> Structure:
        """The structure of that name; a worker process finds by it what the main process chose.

        Raises:
            KeyError: no such structure.
        """
        for _, structure in self.rows:
            if structure is not None and structure.name == name:
                return structure
        raise KeyError(name)

    def names(self) -> tuple[str, ...]:
        """Names of all structures, in the order they are asked."""
        return tuple(dict.fromkeys(structure.name for _, structure in self.rows if structure is not None))

    def rewrite(self, name: str) -> Rewrite:
        """The rewriting that a route names.

        Raises:
            KeyError: no such rewriting.
        """
        return self.rewrites[name]

    def identity(self, message: Message, site: Site) -> PatientIdentity:
        """Who the message speaks of, whatever its structure."""
        return pid_identity(message, site)

    def with_site(
        self, structures: Iterable[tuple[Reads, Structure]] = (), rewrites: Mapping[str, Rewrite] | None = None
    ) -> Registry:
        """This registry with a site's rows before its own, and a site's rewritings."""
        return Registry((*structures, *self.rows), self.admit, {**self.rewrites, **(rewrites or {})})

    def with_module(self, module: ModuleType) -> Registry:
        """This registry with what a site's module exposes as `STRUCTURES` and `REWRITES`; either may be absent."""
        return self.with_site(getattr(module, "STRUCTURES", ()), getattr(module, "REWRITES", None))

    def _found(self, kind: str, profiles: tuple[str, ...]) -> Structure | None:
        for row, structure in self.rows:
            if kind in row.types and (row.profile is None or any(row.profile.fullmatch(profile) for profile in profiles)):
                return structure
        return None


def packaged_table(name: str) -> str:
    """The text of one of the tables that come with the hub."""
    return resources.files("mappings.tables").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def builtin(read_table: ReadTable = packaged_table) -> Registry:
    """The translations that come with the hub."""
    control, units = OrderControl(load(read_table("order_control"))), Units(load(read_table("ucum_units")))
    metas = MetaTable.of(load(read_table("meta_dmpmss")))
    cda = CdaTranslation(DocumentTypes(load(read_table("document_types"))), units)
    cdas = [(profile, kinds, PfiDocument(kinds[0], profile, metas, cda)) for profile in PROFILES for kinds in profile.kinds]
    rows: list[Row] = [(reads(*kinds, profile=profile.msh_21), one) for profile, kinds, one in cdas]
    rows += [(reads(*kinds, profile=profile.newest_of), one) for profile, kinds, one in cdas if profile.newest_of]
    rows += [
        (reads(*(f"ADT^{event}" for event in adt.EVENTS)), adt.Adt()),
        (reads(*teleradiology.TYPES, profile=teleradiology.PROFILE), teleradiology.Teleradiology(control, units)),
        (reads("ORU^R01"), OruR01(units, cda)),
        (reads("OUL^R22"), OulR22(units, cda)),
        (reads(*orders.REQUESTS), orders.Orders("orders", control, units)),
        (reads(*orders.ANSWERS), orders.Orders("order-answers", control, units)),
        (reads(*(f"SIU^{event}" for event in siu.EVENTS)), siu.Siu()),
        (reads(*MDM), MdmT02(cda)),
        (reads(*(f"ZAM^{event}" for event in zam_z01.EVENTS)), zam_z01.ZamZ01()),
    ]
    return Registry(tuple(rows), admission(load(read_table("message_types"))))
