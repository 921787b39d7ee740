"""Hands for the page: pick, ask, read."""

from __future__ import annotations

import re

_WATCH = """() => {
  const read = () => (document.querySelector('#verdict')?.innerText ?? '').trim();
  let empty = read() === '';
  window.answered = false;
  const watch = new MutationObserver(() => {
    if (read() === '') empty = true;
    else if (empty) { window.answered = true; watch.disconnect(); }
  });
  watch.observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def start(page):
    """Press Ask; the sentence on both answers goes and comes again."""
    page.evaluate(_WATCH)
    page.locator("#ask").click()


def finish(page):
    """Wait for both answers: (without, with)."""
    page.wait_for_function("window.answered")
    return answers(page)


def ask(page):
    start(page)
    return finish(page)


def answers(page):
    return [page.locator(f"#{side}-answer textarea").input_value() for side in ("left", "right")]


def numbers(page, side):
    """Numbers of one answer by their names."""
    rows = page.locator(f"#{side}-numbers tr").all()
    return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}


def count(text):
    return float(re.search(r"[\d.,]+", text).group().replace(",", ""))


def choose(page, name, value):
    """Choose from a drop-down list."""
    page.locator(f"#{name} input").click()
    page.get_by_role("option", name=value, exact=True).click()


def set_keep(page, value):
    box = page.locator("#keep input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def counted(page, text):
    page.wait_for_function(f"document.querySelector('#counted').innerText.includes({text!r})")


def open_tab(page, name):
    """Open a tab, from the overflow menu where the screen is narrow."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.first.is_visible():
        tab.first.click()
    else:
        page.locator(".overflow-menu button").first.click()
        page.locator(".overflow-dropdown button", has_text=name).click()
