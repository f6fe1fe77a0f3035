"""Pages in a browser as a person meets them, and what must be true of each: see `Pages.check`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Keyboard, Page, Request, expect

#: WCAG's width for which nothing may need scrolling in two directions, in CSS pixels.
NARROW = 320
WIDE = 1000

expect.set_options(timeout=20_000)  # milliseconds: other things may go on on this machine


class Pages:
    """One tab. What no page may do is remembered, whenever it happens: a message on the console (broken content
    security policies are told there), an error of a script, a request to another machine."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.misbehaviour: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.misbehaviour.append(str(error)))
        page.on("request", self._watch)

    @classmethod
    @contextmanager
    def opened(cls, browser: Browser) -> Iterator[Pages]:
        with browser.new_context() as context:
            pages = cls(context.new_page())
            yield pages
            assert pages.misbehaviour == []

    def _hear(self, message: ConsoleMessage) -> None:
        # Chromium says so of every page whose status is an error, and of no other.
        if not re.match(r"Failed to load resource: the server responded with a status of 4\d\d", message.text):
            self.misbehaviour.append(message.text)

    def _watch(self, request: Request) -> None:
        if not re.match(r"https?://127\.0\.0\.1:\d+/", request.url) or not request.is_navigation_request():
            self.misbehaviour.append(f"request of {request.url}")

    @contextmanager
    def misbehaviour_expected(self) -> Iterator[list[str]]:
        seen, self.misbehaviour = self.misbehaviour, []
        yield self.misbehaviour
        self.misbehaviour = seen

    # --- What a person does and sees --------------------------------------------------------------

    @property
    def url(self) -> str:
        return self._page.url

    @property
    def keyboard(self) -> Keyboard:
        return self._page.keyboard

    def goto(self, url: str) -> None:
        self._page.goto(url)

    def reload(self) -> None:
        self._page.reload()

    def fill(self, label: str, text: str) -> None:
        self._page.get_by_label(label, exact=True).fill(text)

    def press_button(self, name: str) -> None:
        self._page.get_by_role("button", name=name, exact=True).click()

    def shown_password(self) -> str:
        return self._page.locator("#hint code").inner_text()

    def log_in(self) -> None:
        """From the login page to the consent page, as the login page says."""
        self.fill("Password", self.shown_password())
        self.press_button("Log in")
        expect(self._page.get_by_role("button", name="Approve")).to_be_visible()

    def tab(self) -> str:
        """Presses Tab. The label of what then has the focus, which can be seen to have it."""
        self.keyboard.press("Tab")
        focused = self._page.locator(":focus")
        assert focused.evaluate("it => getComputedStyle(it).outlineStyle") != "none"
        return str(focused.evaluate("it => (it.labels[0] ?? it).textContent"))

    def hidden_fields(self) -> dict[str, str]:
        fields = self._page.locator("input[type=hidden]")
        found: dict[str, str] = fields.evaluate_all("all => Object.fromEntries(all.map(one => [one.name, one.value]))")
        return found

    def expect_heading(self, text: str) -> None:
        expect(self._page.get_by_role("heading", level=1)).to_have_text(text)

    def expect_text(self, text: str) -> None:
        expect(self._page.get_by_role("main")).to_contain_text(text)

    def expect_alert(self, text: str) -> None:
        expect(self._page.get_by_role("alert")).to_have_text(text)

    def text_of_frame(self, title: str) -> str:
        return self._page.frame_locator(f"iframe[title={title}]").locator("body").inner_text()

    # --- What must be true ------------------------------------------------------------------------

    def check(self, name: str) -> None:
        """In light and dark: nothing that axe knows of is amiss. On a phone: nothing lies beside the screen."""
        self._page.evaluate(Axe().axe_script)
        self._page.emulate_media(color_scheme="light")
        self._check_with_axe(f"{name}, light", {})
        self._page.emulate_media(color_scheme="dark")
        self._check_with_axe(f"{name}, dark", {"runOnly": ["color-contrast"]})
        self._page.set_viewport_size({"width": NARROW, "height": 640})
        width = self._page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW, f"{name}: {width} pixels wide"
        self._page.set_viewport_size({"width": WIDE, "height": 720})

    def _check_with_axe(self, name: str, options: dict[str, list[str]]) -> None:
        found = self._page.evaluate("options => axe.run(options)", options)
        # What axe cannot decide by itself, such as the contrast on a picture, is a fault here, too: no page needs it.
        faults = [
            f"{one['id']}: {node['html']}: {node.get('failureSummary')}"
            for one in found["violations"] + found["incomplete"]
            for node in one["nodes"]
        ]
        assert not faults, f"{name}: {faults}"
        assert "color-contrast" in {one["id"] for one in found["passes"]}, f"{name}: axe has not looked"

    def shoot(self, file: Path, size: tuple[int, int], *, dark: bool = False) -> None:
        """A picture of the page, as it is seen at first."""
        self._page.emulate_media(color_scheme="dark" if dark else "light")
        self._page.set_viewport_size({"width": size[0], "height": size[1]})
        self._page.screenshot(path=file)
