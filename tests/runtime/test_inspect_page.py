"""`/inspect` in a real browser: Chromium, driven by playwright, where both are installed."""

import threading
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from shutil import which

import pytest
import tiny
import uvicorn
from serving import make_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from treewright.controller.contract import COUPLED
from treewright.controller.policies.eagle2 import eagle2
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.serve.address import listen
from treewright.runtime.serve.app import create_app
from treewright.runtime.serve.inspect.routes import add_inspect
from treewright.runtime.serve.worker import Totals, Worker
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

BROWSER = which("chromium") or which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
]
# Each word would run, load or draw something if it ever became markup.
HOSTILE = "<img/src=x/onerror=alert(1)><script>alert(2)</script>"


def hostile_words():
    words = Tokenizer(WordLevel({f"{HOSTILE}{token}": token for token in range(tiny.VOCABULARY_SIZE)}, HOSTILE + "0"))
    words.pre_tokenizer = WhitespaceSplit()
    return words


@contextmanager
def served():
    """The address of a server of the tiny pair whose every token is hostile."""
    tokens = hostile_words()
    decoder = Decoder(
        Target(tiny.llama()),
        WalkVerifier(),
        tiny.detokeniser(tokens),
        frozenset(),
        drafter=LanguageModelDrafter(tiny.llama(noise=0.02), COUPLED),
        selector=eagle2(TreeLimits(max_depth=3, width=2, frontier=2, budget=5)),
    )
    worker = Worker(decoder, max_batch=2, max_queue=8, totals=Totals())
    model = make_model(HOSTILE, tokenizer=tokens)
    app = create_app(worker, model)
    add_inspect(app, worker, model)
    with worker, listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def browser():
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address():
    with served() as address:
        yield address


@pytest.fixture
def page(browser, address):
    """The page after a generation; fails where the page complained, or where anything of a token ran."""
    page = browser.new_page()
    complaints, asked = [], set()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.add(request.url.removeprefix(address)))
    page.goto(f"{address}/inspect")
    page.fill("#prompt", f"{HOSTILE}1 {HOSTILE}2")
    page.fill("#max_tokens", "20")
    page.fill("#seed", "7")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#status:has-text('20 tokens in')")  # the policy forbids waiting by a script
    page.locator("h1").click()  # keys are no letters of the prompt any more
    yield page
    page.close()
    assert [complaint for complaint in complaints if "400 (Bad Request)" not in complaint] == []
    assert asked == {"/inspect", "/inspect/steps"}


def step_shown(page):
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # drawn
    return page.text_content("#which")


def test_the_text_of_a_generation_stays_text(page):
    assert page.locator("img, iframe, object, #text script, main script").count() == 0
    assert page.text_content("#text").count("<script>alert(2)</script>") >= 20
    assert HOSTILE in page.text_content("#about")
    assert page.locator("#text .token").count() == 20


def test_keys_step_back_and_forth(page):
    last = step_shown(page)
    number = int(last.split()[1])
    assert last == f"step {number} of {number}"
    shown = []
    for key in ("ArrowLeft", "Home", "ArrowLeft", "ArrowRight", "End", "ArrowRight"):
        page.keyboard.press(key)
        shown.append(int(step_shown(page).split()[1]))
    assert shown == [number - 1, 1, 1, 2, number, number]


def test_the_tree_of_a_step_shows_what_was_accepted(page):
    page.keyboard.press("Home")
    step_shown(page)
    steps = page.evaluate("state.steps")
    for step in steps:
        assert step_shown(page) == f"step {step['step']} of {len(steps)}"
        kinds = page.eval_on_selector_all("#tree .node", "nodes => nodes.map(node => node.classList[1])")
        assert kinds.count("accepted") == step["accepted"] and kinds.count("target") == kinds.count("root") == 1
        assert len(kinds) == len(step["nodes"]) + 1
        here = page.locator("#text .token.here")
        assert here.count() == len(step["emitted"])
        page.keyboard.press("ArrowRight")


def test_the_nodes_of_a_tree_are_reached_by_keys(page):
    page.focus("#tree .node.root")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.classList[0]") == "node"
    assert HOSTILE[:20] in page.text_content("#node")


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_no_wider_than_its_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    step_shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_refusal_is_shown_in_the_servers_words(page):
    page.fill("#prompt", f"{HOSTILE}1 " * 250)
    page.fill("#max_tokens", "30")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#error:not([hidden])")
    assert "context holds 256" in page.text_content("#error")
