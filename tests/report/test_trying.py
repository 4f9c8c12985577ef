"""The page to try a client's models: it loads nothing, and what comes from files is text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace

from PIL import Image

from fedmosaic.config import ClientSpec
from fedmosaic.data.sample import Sample
from fedmosaic.federation import examples
from fedmosaic.federation.examples import Example
from fedmosaic.report.trying import Limits, trying_page

HOSTILE = "</script><script>alert(1)</script>"


def page(**changes):
    spec = ClientSpec(id=3, model="tiny-llama", tasks=("trend@lines",))
    models = {"client-3-start": "before", "client-3-final": f"after {HOSTILE}"}
    given = {"method": "fedmosaic", "limits": Limits(16, 99)} | changes
    return trying_page(spec, models, **given)


def known_to(html):
    return json.loads(re.search(r'id="known">(.*?)</script>', html, re.DOTALL)[1])


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
    question = Example("t", f"<image> {HOSTILE} ?", HOSTILE, ("data:image/png;base64,aa",))
    html = page(examples=[question, replace(question, images=("https://elsewhere.example/x",))])
    assert "<script>alert" not in html
    assert "elsewhere" not in html
    known = known_to(html)
    assert known["examples"][0]["question"] == f"<image> {HOSTILE} ?"
    assert known["examples"][0]["images"] == ["data:image/png;base64,aa"]
    assert known["models"]["client-3-final"] == f"after {HOSTILE}"
    assert re.search(r'max="99" value="16"', html)


def test_a_question_is_offered_only_as_the_models_were_asked_it(tmp_path):
    long = "<image> " + "what is it ? " * 50
    asked = [("t", Sample("1", ("x",), long, "cat")), ("t", Sample("2", ("x",) * 7, "<image> " * 7 + "which ?", "cat"))]
    examples.keep(tmp_path, asked, {"final": ["cat", "dog"]}, load=lambda _: Image.new("RGB", (9, 9)))
    kept = examples.read(tmp_path)
    earlier = replace(kept[0], sample=None, question=f"{long[:400]} …")  # as a version without ids has cut it
    (offered,) = known_to(page(examples=[*kept, earlier]))["examples"]
    assert (offered["question"], len(offered["images"]), len(offered["title"])) == (long, 1, len("t: ") + 90 + 2)


def test_the_token_is_spoken_of_where_there_is_one():
    assert ("as API key" in page(token=True), "as API key" in page()) == (True, False)
