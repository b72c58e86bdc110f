"""The console in a real browser: nothing breaks its own policy, nothing leaves for another host, keys and live rows work."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(
    (path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome") if Path(path).exists()), ""
)
pytestmark = pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)  # what the browser sees is the same
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class Window:
    """A page, every request it made, and everything it complained about."""

    def __init__(self, browser, url: str, **options) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.url, self.hosts, self.complaints = url, set(), []
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective))"
        )

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)

    def enter(self, house) -> None:
        self.go("/console/enter/" + house.services.tickets.issue("operator", "browser"))
        self.page.wait_for_url("**/console/")

    def clean(self) -> None:
        assert self.hosts <= {urlsplit(self.url).netloc, ""} and self.complaints == []


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        if os.environ.get("VAGUEMESTRE_REQUIRE_SERVICES"):
            pytest.fail("Chromium is required and not installed")
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def window(browser, house):
    opened = Window(browser, house.server.url, locale="fr-FR", viewport={"width": 1280, "height": 900})
    yield opened
    opened.context.close()


def test_sign_in_list_open_read(window, house):
    page = window.page
    window.go("/console/messages")
    page.get_by_label("Jeton").fill(house.tokens["operator"])
    page.get_by_role("button", name="Se connecter").click()
    page.wait_for_url("**/console/messages")
    page.get_by_role("link", name="MDM^T02").first.click()
    page.wait_for_url("**/console/messages/*-*")
    assert page.get_by_role("heading", name="Histoire du message").is_visible()
    page.locator("summary", has_text="MSH").click()
    assert page.get_by_text("LABO").first.is_visible()
    for path in ("/console/", "/docs", "/console/messages/" + house.uids["LAB1002"] + "?act=replay"):
        window.go(path)
    page.get_by_role("button", name="Se déconnecter").click()
    page.wait_for_url("**/console/sign-in*")
    window.clean()


def test_a_link_signs_in_by_itself(window, house):
    window.enter(house)
    assert window.page.get_by_role("heading", level=1).inner_text() == "Accueil"
    assert window.page.evaluate("document.cookie") == ""  # no script reads the session
    window.clean()


def test_keys_move_open_and_search(window, house):
    window.enter(house)
    page = window.page
    window.go("/console/messages")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("document.querySelectorAll('tr.msg')[0].classList.contains('at')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/messages/*-*")
    page.keyboard.press("u")
    page.wait_for_url("**/console/messages")
    page.keyboard.press("/")
    page.keyboard.type("LAB1002j")
    assert page.locator("#q").input_value() == "LAB1002j"
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    page.wait_for_url("**control_id=LAB1002")
    window.clean()


def test_the_list_says_what_is_new_and_does_not_move(browser, own_house):
    house = own_house
    window = Window(browser, house.server.url, locale="fr-FR")
    window.enter(house)
    page = window.page
    window.go("/console/messages")
    first = page.locator("tr.msg").first.get_attribute("id")
    for n in range(3):
        house.write(lambda tx, n=n: house.kept(tx, b"MSH|^~\\&|", "his", "ADT^A08", f"NEW{n}"))
    number = house.read(lambda tx: tx.row("SELECT id FROM message WHERE control_id = 'ADM0200'"))[0]
    house.write(lambda tx: tx.run("UPDATE message SET state = 'DONE' WHERE id = ?", number))
    button = page.get_by_role("link", name="Afficher 3 nouveaux messages")
    button.wait_for(timeout=10_000)
    page.wait_for_function("id => document.getElementById(id).innerText.includes('Terminé')", arg=first)
    assert page.locator("tr.msg").first.get_attribute("id") == first
    button.click()
    page.get_by_text("NEW2").wait_for()
    window.clean()
    window.context.close()


def test_no_page_is_wider_than_a_phone(browser, house):
    window = Window(browser, house.server.url, locale="en-GB", viewport={"width": 320, "height": 700}, color_scheme="dark")
    window.enter(house)
    for path in (
        "/console/",
        "/console/messages",
        *(f"/console/messages/{house.uids[name]}" for name in ("LAB1001", "LAB1003")),
        "/docs",
    ):
        window.go(path)
        assert window.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    window.clean()
    window.context.close()


def test_everything_works_without_script(browser, house):
    window = Window(browser, house.server.url, locale="fr-FR", java_script_enabled=False)
    window.enter(house)
    page = window.page
    window.go("/console/messages")
    page.get_by_role("link", name="Partiel").click()
    page.get_by_role("link", name="MDM^T02").click()
    page.get_by_role("link", name="Afficher les valeurs…").click()
    page.get_by_label("Motif").fill("essai sans script")
    page.get_by_role("button", name="Afficher 10 minutes").click()
    assert page.locator("pre.raw").get_by_text("QUATREMARRE").first.is_visible()
    window.clean()
    window.context.close()
