"""Templates, words and static files of the pages; each is read once, when the application is made."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

LANGUAGES = ("fr", "en")
LANGUAGE_COOKIE = "vgm_lang"
_NARROW_SPACE, _HARD_SPACE = "\u202f", "\u00a0"
_MEDIA_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
    "frame-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Words:
    """The texts of one language, and how it writes numbers, sizes and times in the site's zone."""

    def __init__(self, language: str, timezone: ZoneInfo) -> None:
        self.language, self._zone = language, timezone
        self._texts = _texts()

    def __call__(self, key: str, **values: object) -> str:
        """The text under `section.key`, with its `{names}` filled in."""
        section, _, name = key.partition(".")
        text = self._texts[section][name][LANGUAGES.index(self.language)]
        return text.format(**values) if values else text

    def has(self, key: str) -> bool:
        section, _, name = key.partition(".")
        return name in self._texts.get(section, {})

    def plural(self, key: str, n: int, **values: object) -> str:
        """The text `key` for one, `key_n` for many (French counts 0 with one), with `{n}` written out."""
        one = n < 2 if self.language == "fr" else n == 1
        return self(key if one else f"{key}_n", n=self.number(n), **values)

    def number(self, n: float, digits: int = 0) -> str:
        text = f"{n:,.{digits}f}"
        return text.replace(",", _NARROW_SPACE).replace(".", ",") if self.language == "fr" else text

    def capped(self, n: int, cap: int = 10_000) -> str:
        """A count that was stopped just above `cap`."""
        return f"{self.number(cap)}+" if n > cap else self.number(n)

    def size(self, n: int) -> str:
        unit = ("o", "ko", "Mo") if self.language == "fr" else ("B", "kB", "MB")
        if n < 1_000:
            return f"{n}{_HARD_SPACE}{unit[0]}"
        thousands = n < 1_000_000
        value = n / (1_000 if thousands else 1_000_000)
        return f"{self.number(value, 0 if value >= 100 else 1)}{_HARD_SPACE}{unit[1 if thousands else 2]}"

    def _local(self, at_us: int) -> datetime:
        return datetime.fromtimestamp(at_us / 1_000_000, UTC).astimezone(self._zone)

    def date(self, at_us: int) -> str:
        at = self._local(at_us)
        return at.strftime("%d/%m/%Y") if self.language == "fr" else f"{at.day} {at.strftime('%b %Y')}"

    def time(self, at_us: int) -> str:
        return self._local(at_us).strftime("%H:%M:%S")

    def fraction(self, at_us: int) -> str:
        """Milliseconds behind `time`."""
        return ("," if self.language == "fr" else ".") + f"{at_us // 1_000 % 1_000:03d}"

    def instant(self, at_us: int) -> str:
        return f"{self.date(at_us)} {self.time(at_us)}"

    def utc(self, at_us: int) -> str:
        return datetime.fromtimestamp(at_us / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def gap(self, us: int) -> str:
        """A duration in the unit that reads best."""
        if us < 1_000_000:
            return f"{us // 1_000}{_HARD_SPACE}ms"
        seconds = us / 1_000_000
        if seconds < 60:
            return f"{self.number(seconds, 1 if seconds < 10 else 0)}{_HARD_SPACE}s"
        day = "j" if self.language == "fr" else "d"
        for size, unit, part, smaller in ((86_400, day, 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
            if seconds >= size:
                rest = int(seconds % size // part)
                return f"{int(seconds // size)}{_HARD_SPACE}{unit}" + (f" {rest}{_HARD_SPACE}{smaller}" if rest else "")
        return ""

    @property
    def zone(self) -> str:
        return self._zone.key.rpartition("/")[2].replace("_", " ")


def words_of(request: Request) -> Words:
    """The language of this request: `?lang=`, then the cookie, then what the browser prefers, then the installation's."""
    services = request.app.state.services
    for wished in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wished in LANGUAGES:
            return Words(wished, services.site.timezone)
    for accepted in request.headers.get("accept-language", "").split(","):
        if (wished := accepted.strip()[:2].lower()) in LANGUAGES:
            return Words(wished, services.site.timezone)
    return Words(services.language, services.site.timezone)


def page(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """A whole page that no cache keeps."""
    words = values.pop("words", None) or words_of(request)
    services = request.app.state.services
    html = (
        environment()
        .get_template(template)
        .render(
            w=words,
            lang=words.language,
            path=request.url.path,
            site=services.site,
            static=static_urls(),
            version=services.version,
            other_language_url=_with_language(request, words.language),
            **values,
        )
    )
    response = Response(
        html,
        status,
        media_type="text/html; charset=utf-8",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Vary": "Accept-Language, Cookie",
            **(headers or {}),
        },
    )
    if request.query_params.get("lang") in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, words.language, max_age=365 * 86_400, samesite="strict", httponly=True, path="/")
    return response


def _with_language(request: Request, language: str) -> str:
    other = LANGUAGES[1 - LANGUAGES.index(language)]
    if request.method != "GET":
        return f"/console/?lang={other}"
    return str(request.url.include_query_params(lang=other).replace(scheme="", netloc=""))


@cache
def environment() -> Environment:
    return Environment(
        loader=PackageLoader("hub.web", "templates"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _texts() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(resources.files("hub.web").joinpath("words.toml").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class StaticFile:
    body: bytes
    media_type: str
    digest: str


@cache
def static_files() -> dict[str, StaticFile]:
    files = {}
    for entry in resources.files("hub.web").joinpath("static").iterdir():
        media_type = _MEDIA_TYPES.get(entry.name.rpartition(".")[2])
        if media_type:
            body = entry.read_bytes()
            files[entry.name] = StaticFile(body, media_type, hashlib.sha256(body).hexdigest()[:12])
    return files


@cache
def static_urls() -> dict[str, str]:
    return {name.replace(".", "_"): f"/console/static/{name}?v={file.digest}" for name, file in static_files().items()}
