"""The demo as people use it, in Chromium."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from support import driving

TABS = ("Ask", "Tokens", "Methods", "Numbers", "Code")


def test_ask_shows_two_answers_and_numbers_follow_keep(open_page):
    page = open_page()
    page.locator("#example-4").click()
    page.wait_for_function("document.querySelector('#question textarea').value.includes('number')")
    left, right = driving.ask(page)
    assert left.replace(" ", "") == "37" and right
    without, cut = driving.numbers(page, "left"), driving.numbers(page, "right")
    assert without["Visual tokens"] == "144" and cut["Visual tokens"] == "36"
    assert driving.count(cut["KV cache"]) < driving.count(without["KV cache"])
    assert "ms" in without["First token"] and "%" in cut["First token"]
    driving.set_keep(page, 0.5)
    driving.counted(page, "72 of 144")
    driving.ask(page)
    more = driving.numbers(page, "right")
    assert more["Visual tokens"] == "72"
    assert driving.count(cut["KV cache"]) < driving.count(more["KV cache"])
    assert page.locator("#kept img").is_visible()


def test_answers_stream(open_page, wordy_server):
    page = open_page(address=wordy_server)
    page.evaluate(
        """() => { window.lengths = new Set(); setInterval(() => window.lengths.add(
        document.querySelector('#left-answer textarea').value.length), 5); }"""
    )
    left, _ = driving.ask(page)
    assert "tokens/s" in driving.numbers(page, "left")["Decoding"]
    assert any(0 < length < len(left) for length in page.evaluate("[...window.lengths]"))


def test_another_method_brings_its_options_and_code(open_page):
    page = open_page()
    driving.choose(page, "method", "todre")
    page.locator("#options button").first.click()
    seed = page.locator("#options").get_by_label("seed")
    seed.fill("7")
    seed.press("Tab")
    driving.open_tab(page, "Code")
    page.wait_for_function("document.querySelector('#code-python').innerText.includes('seed=7')")
    code = page.locator("#code-python").inner_text()
    assert "'todre'" in code
    driving.choose(page, "method", "pool")
    page.wait_for_function("document.querySelector('#code-python').innerText.includes(\"'pool'\")")
    assert "seed" not in page.locator("#code-python").inner_text()
    assert page.locator("#options").get_by_label("seed").count() == 0


def test_a_click_on_a_patch_tells_its_rank(open_page):
    page = open_page()
    driving.open_tab(page, "Tokens")
    page.locator("#patches img").wait_for()
    box = page.locator("#patches img").bounding_box()
    page.locator("#patches img").click(position={"x": box["width"] * 0.06, "y": box["height"] * 0.2})
    page.wait_for_function("document.querySelector('#told').innerText.startsWith('Token 24 ')")
    assert re.search(r"row 3, column 1.*rank \d+ of 144", page.locator("#told").inner_text())
    page.locator("#token input").fill("143")  # by keyboard
    page.locator("#token input").press("Enter")
    page.wait_for_function("document.querySelector('#told').innerText.startsWith('Token 143 ')")
    page.locator("#token input").fill("144")
    page.locator("#token input").press("Enter")
    page.get_by_text("this image has tokens 0 to 143").first.wait_for()
    driving.choose(page, "method", "pool")
    page.get_by_label("Merge groups").click()
    page.locator("#token input").fill("1")
    page.locator("#token input").press("Enter")
    page.wait_for_function("document.querySelector('#told').innerText.includes('merged into token 0')")


def test_broken_and_unfit_uploads_are_explained(open_page, tmp_path):
    page = open_page()
    broken, film = tmp_path / "broken.png", tmp_path / "film.mp4"
    broken.write_bytes(b"no picture at all" * 20)
    film.write_bytes(b"no film at all" * 20)
    for path, words in ((broken, "cannot be read as a picture"), (film, "cannot be read as a video")):
        page.set_input_files("#upload input[type=file]", path)
        message = page.get_by_text(words).first
        message.wait_for()
        assert str(tmp_path) not in message.inner_text() and "/" not in message.inner_text()
        page.locator("#upload input[type=file]").wait_for(state="attached")
    fine = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((300, 200), 60).save(fine, exif=exif)
    page.set_input_files("#upload input[type=file]", fine)
    page.wait_for_function("(i => i && i.naturalHeight > i.naturalWidth)(document.querySelector('#preview img'))")
    assert driving.ask(page)[0]


def test_a_video_on_a_model_for_pictures_is_explained(open_page):
    page = open_page()
    page.locator("#example-7").click()  # chooses the model that takes video
    page.wait_for_function("document.querySelector('#model input').value === 'tiny-qwen2_5-vl'")
    driving.ask(page)
    assert driving.numbers(page, "left")["Visual tokens"] == "100"
    driving.choose(page, "model", "tiny-llava")
    page.get_by_text("takes pictures only").first.wait_for()


def test_two_users_do_not_see_each_other(open_page):
    first, second = open_page(), open_page()
    driving.set_keep(first, 0.5)
    second.locator("#example-2").click()
    driving.choose(second, "method", "pool")
    driving.counted(first, "72 of 144")
    driving.counted(second, "36 of 144")
    driving.start(first)
    driving.start(second)  # both at once: the second waits in the queue
    driving.finish(first)
    driving.finish(second)
    assert driving.numbers(first, "right")["Visual tokens"] == "72"
    assert driving.numbers(second, "right")["Visual tokens"] == "36"
    assert "vtc-cls" in first.locator("#verdict").inner_text() and "pool" in second.locator("#verdict").inner_text()
    assert "what shape" in first.locator("#question textarea").input_value()
    assert "how many" in second.locator("#question textarea").input_value()


def test_the_whole_way_by_keyboard(open_page):
    page = open_page()
    page.locator("#question textarea").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("is there a yellow cross ?")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#verdict').innerText.startsWith('The answer')")
    assert driving.answers(page)[0] in ("yes", "no")
    page.get_by_role("tab", name="Methods").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#compare:visible")
    assert page.get_by_role("tab", name="Methods").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize("look", ["desktop", "phone", "dark"])
def test_every_tab_fits_the_screen(open_page, shots, look):
    """Screenshots of every tab with something in it, to look at; nothing may stick out sideways."""
    page = open_page(*((390, 844) if look == "phone" else (1360, 900)), dark=look == "dark")
    if look == "phone":
        page.wait_for_function("!document.querySelector('.sidebar.open')")
    driving.ask(page)
    for tab in TABS:
        driving.open_tab(page, tab)
        if tab == "Methods":
            page.locator("#compare").click()
            page.wait_for_function("document.querySelector('#methods-table').innerText.includes('visionzip')")
        if tab == "Numbers":
            page.locator("#measure").click()
            page.wait_for_function("document.querySelector('#bars-note').innerText.includes('float32')")
        page.wait_for_timeout(1500)
        page.screenshot(path=shots / f"{look}-{tab.lower()}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{tab} is {wide} pixels wider than the screen"


def test_nothing_is_fetched_from_elsewhere_and_no_path_is_shown(open_page, server):
    page = open_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector("#ask")
    driving.ask(page)
    outside = [url for url in asked if not url.startswith((server, "data:", "blob:"))]
    assert not outside, outside
    text = page.locator("body").inner_text()
    assert "/tmp" not in text and "/home" not in text and "site-packages" not in text
