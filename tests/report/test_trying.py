"""The page to try a client's models: it loads nothing, and what comes from files is text."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from fedmosaic.config import ClientSpec
from fedmosaic.federation.examples import Example
from fedmosaic.report.trying import Limits, trying_page

HOSTILE = "</script><script>alert(1)</script>"


def page(**changes):
    spec = ClientSpec(id=3, model="tiny-llama", tasks=("trend@lines",))
    models = {"client-3-start": "before", "client-3-final": f"after {HOSTILE}"}
    given = {"method": "fedmosaic", "limits": Limits(16, 99)} | changes
    return trying_page(spec, models, **given)


def test_its_one_script_is_the_one_that_its_policy_admits():
    html = page()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"(?:src|href)=\"|url\(|https?://", html)


def test_what_files_say_is_text_and_only_pictures_are_shown():
    question = Example(
        "t", f"<image> {HOSTILE} ?", HOSTILE, ("data:image/png;base64,aa", "https://elsewhere.example/x")
    )
    html = page(examples=[question])
    assert "<script>alert" not in html
    known = json.loads(re.search(r'id="known">(.*?)</script>', html, re.DOTALL)[1])
    assert known["examples"][0]["question"] == f"<image> {HOSTILE} ?"
    assert known["examples"][0]["images"] == ["data:image/png;base64,aa"]
    assert known["models"]["client-3-final"] == f"after {HOSTILE}"
    assert re.search(r'max="99" value="16"', html)


def test_the_token_is_spoken_of_where_there_is_one():
    assert ("as API key" in page(token=True), "as API key" in page()) == (True, False)
