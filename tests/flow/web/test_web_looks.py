"""Colours that can be read, in both themes, computed from the style sheet."""

from __future__ import annotations

import re
from importlib import resources

import pytest

CSS = resources.files("hub.web").joinpath("static/console.css").read_text("utf-8")
STATES = ("ok", "flow", "wait", "doubt", "fail", "aside", "off")


def _tokens(dark: bool) -> dict[str, str]:
    light_block, dark_block = re.findall(r":root\{(.*?)\}", CSS, re.DOTALL)[:2]
    found = dict(re.findall(r"--([a-z0-9-]+):(#[0-9a-f]{3,6})", light_block))
    if dark:
        found |= dict(re.findall(r"--([a-z0-9-]+):(#[0-9a-f]{3,6})", dark_block))
    return found


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_reaches_aa_and_edges_three_to_one(dark):
    colour = _tokens(dark)
    pairs = [
        (text, ground) for text in ("text", "text2", "text3", "link") for ground in ("bg", "surface", "sunken", "hover", "select")
    ]
    pairs += [("on-accent", "accent"), ("ink", "stamp"), ("ink", "stamp2")]
    pairs += [(state, ground) for state in STATES for ground in ("surface", "hover", "select", f"{state}-bg")]
    pairs += [("text", f"{state}-bg") for state in STATES]
    low = {pair: round(value, 2) for pair in pairs if (value := _contrast(colour[pair[0]], colour[pair[1]])) < 4.5}
    assert low == {}
    edges = {
        name: round(value, 2)
        for name in ("edge", "focus")
        for ground in ("bg", "surface")
        if (value := _contrast(colour[name], colour[ground])) < 3
    }
    assert edges == {}


def test_the_style_sheet_loads_nothing_and_is_small():
    assert "url(" not in CSS and "@import" not in CSS and len(CSS) < 30_000
