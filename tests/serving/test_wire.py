"""The endpoint's wire format, over plain HTTP, with models that say what they were told to say."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import threading
from contextlib import contextmanager

import pytest
from PIL import Image

from fedmosaic.api.moments import Moment
from fedmosaic.data.files import FilesBenchmark
from fedmosaic.errors import ModelError, RunError, SettingsError
from fedmosaic.models.generation import Said
from fedmosaic.serving.models import ServedModels
from fedmosaic.serving.server import LARGEST_BODY, AnswerServer

CHAT = "/v1/chat/completions"
HELLO = {"model": "client-3-final", "messages": [{"role": "user", "content": "what is red ?"}]}


class Parrot:
    """Answers with the texts that it was given, and remembers what it was asked."""

    def __init__(self, *texts, finish="stop", fails=None, wait=None):
        self.texts, self.finish, self.fails, self.wait = texts, finish, fails, wait
        self.asked, self.at_once, self.most = [], 0, 0

    def load(self):
        pass

    def tell(self, pictures, question, options, *, max_tokens):
        self.asked.append((pictures, question, options, max_tokens))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            for count, text in enumerate(self.texts, start=1):
                if self.wait is not None:
                    self.wait.wait(10)
                yield Said(text, count, 7)
            if self.fails:
                raise self.fails
            yield Said(self.texts[-1], len(self.texts), 7, self.finish)
        finally:
            self.at_once -= 1


@contextmanager
def serving(model=None, **options):
    start, final = Parrot("no", "no idea"), model or Parrot("a", "a red", "a red hen")
    served = ServedModels(3, [Moment("start", "before", start), Moment("final", "after", final)], made=12)
    with AnswerServer(served, "<p>the page</p>", **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def send(server, path=CHAT, body=None, method=None, **headers):
    """Return (status, body) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method or ("GET" if body is None else "POST"), path, data, given)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(text) if is_json and text else text


def events(text):
    """The data of a stream's events; the last one must say that it is the last."""
    *found, last, end = text.split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    return [json.loads(each.removeprefix("data: ")) for each in found]


def uri(size=(8, 6), color="red", form="PNG"):
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def shown(url):
    return {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}


def test_models_are_listed():
    with serving() as server:
        status, listed = send(server, "/v1/models")
        assert (status, listed["object"]) == (200, "list")
        assert [each["id"] for each in listed["data"]] == ["client-3-start", "client-3-final"]
        expected = {"id": "client-3-start", "object": "model", "created": 12, "owned_by": "fedmosaic"}
        assert listed["data"][0] == expected
        assert send(server, "/v1/models/client-3-start") == (200, expected)
        assert send(server, "/v1/models/client-4")[0] == 404
        assert send(server, CHAT)[0] == 405
        assert send(server, "/")[1] == "<p>the page</p>"
        assert send(server, "/settings.toml")[0] == 404


def test_a_whole_answer_has_openais_form():
    with serving() as server:
        status, answer = send(server, body=HELLO | {"temperature": 0, "n": 1, "user": "me", "seed": 4, "stop": None})
    assert status == 200
    assert answer.pop("id").startswith("chatcmpl-")
    assert answer.pop("created") > 1_700_000_000
    assert answer == {
        "object": "chat.completion",
        "model": "client-3-final",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a red hen", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def test_each_name_is_answered_by_its_model():
    with serving() as server:
        said = [
            send(server, body=HELLO | {"model": name})[1]["choices"][0]["message"]["content"]
            for name in ("client-3-start", "client-3-final")
        ]
    assert said == ["no idea", "a red hen"]


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_is_the_answer_in_pieces(usage):
    parrot = Parrot("a", "a", "a r\N{REPLACEMENT CHARACTER}", "a réd", finish="length")
    with serving(parrot) as server:
        status, text = send(server, body=HELLO | {"stream": True, "stream_options": {"include_usage": usage}})
    assert status == 200
    found = events(text)
    counts = found.pop() if usage else None
    assert len({(each["id"], each["object"], each["model"]) for each in found}) == 1
    assert found[0]["object"] == "chat.completion.chunk"
    choices = [each["choices"][0] for each in found]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [each["delta"] for each in choices[1:]] == [{"content": "a"}, {"content": " r"}, {"content": "éd"}, {}]
    assert [each["finish_reason"] for each in choices] == [None] * 4 + ["length"]
    assert all(("usage" in each) == usage for each in found)
    if counts is not None:
        assert counts["choices"] == []
        assert counts["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}


def test_a_tokenizer_that_rewrites_is_no_stream_of_wrong_text():
    with serving(Parrot("do n", "don't")) as server:
        text = send(server, body=HELLO | {"stream": True})[1]
        assert "[DONE]" not in text
        assert "ask without stream" in json.loads(text.split("\n\n")[-2].removeprefix("data: "))["error"]["message"]
        assert send(server, body=HELLO)[1]["choices"][0]["message"]["content"] == "don't"


def test_messages_become_one_question_as_a_record_of_data_would():
    parrot = Parrot("yes")
    messages = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": [shown(uri(color="red")), {"type": "text", "text": "what is it ?"}]},
        {"role": "assistant", "content": "a hen", "tool_calls": None},
        {"role": "user", "content": [{"type": "text", "text": "and"}, shown(uri((5, 4), "blue", "JPEG"))]},
    ]
    with serving(parrot) as server:
        assert send(server, body=HELLO | {"messages": messages, "options": ["yes", "no"], "max_tokens": 5})[0] == 200
    ((pictures, question, options, most),) = parrot.asked
    assert question == "be short\n<image>\nwhat is it ?\na hen\nand\n<image>"
    assert [each.size for each in pictures] == [(8, 6), (5, 4)]
    assert pictures[0].getpixel((0, 0)) == (255, 0, 0)
    assert (options, most) == (["yes", "no"], 5)


def test_the_same_messages_in_a_file_of_data_are_the_same_prompt(tmp_path):
    parrot = Parrot("yes")
    messages = [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": [{"type": "text", "text": "what is"}, shown(uri()), {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "a hen"},
        {"role": "user", "content": "and now ?"},
    ]
    record = {"messages": [*messages, {"role": "assistant", "content": "an egg"}]}
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(record) + "\n")
    with serving(parrot) as server:
        send(server, body=HELLO | {"messages": messages})
    sample = FilesBenchmark(tmp_path).task(tmp_path.name).train[-1]
    assert (sample.prompt, sample.answer) == (parrot.asked[0][1], "an egg")


REFUSED = [
    (b"{", 400, "no JSON"),
    (b"[" * 100_000, 400, "no JSON"),
    (b"\xff\xfe{}", 400, "no JSON"),
    (b"[]", 400, "expected an object"),
    (b'{"model": NaN}', 400, "NaN is no JSON number"),
    ({"model": "client-3-final"}, 400, "'messages' is missing"),
    (HELLO | {"messages": []}, 400, "messages"),
    (HELLO | {"messages": "hello"}, 400, "messages"),
    (HELLO | {"messages": [5]}, 400, "messages"),
    (HELLO | {"messages": [{"role": "user", "content": 5}]}, 400, "turn 1"),
    (HELLO | {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, 400, "input_audio"),
    (HELLO | {"messages": [{"role": "user", "content": ""}]}, 400, "empty"),
    (HELLO | {"messages": [{"role": "assistant", "content": "hi"}]}, 400, "expected a question"),
    (HELLO | {"messages": [{"role": "tool", "content": "hi"}, *HELLO["messages"]]}, 400, "tool"),
    (HELLO | {"messages": [{"role": "user", "content": "<image> ?"}]}, 400, "mark"),
    (HELLO | {"model": "client-3-fnial"}, 404, "did you mean 'client-3-final'"),
    (HELLO | {"temperature": 0.7}, 400, "temperature=0.7 is not supported: answers are greedy"),
    (HELLO | {"n": 2}, 400, "n=2 is not supported"),
    (HELLO | {"tools": [{}]}, 400, "call no tools"),
    (HELLO | {"max_tokens": 0}, 400, "max_tokens = 0"),
    (HELLO | {"max_tokens": 10**9}, 400, "max_tokens"),
    (HELLO | {"max_tokens": "5"}, 400, "max_tokens"),
    (HELLO | {"max_tokns": 5}, 400, "max_tokens"),
    (HELLO | {"options": "red"}, 400, "options"),
]


@pytest.mark.parametrize(("body", "status", "words"), REFUSED)
def test_what_cannot_be_done_is_refused_in_one_line(body, status, words):
    with serving() as server:
        found, answer = send(server, body=body)
        assert (found, answer.keys()) == (status, {"error"})
        error = answer["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert words in error["message"]
        assert "\n" not in error["message"]
        assert len(error["message"]) < 1000
        assert send(server, body=HELLO)[0] == 200


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/hen.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("/etc/passwd", "nothing is fetched"),
        ("data:text/plain;base64,aGVu", "expected an image"),
        ("data:image/png;base64,!!", "cannot be decoded"),
        ("data:image/png;base64,iVBORw0KGgo=", "not a readable image"),
        (uri((1, 5000)), "image 1"),
    ],
)
def test_pictures_that_are_none_are_refused_and_nothing_is_fetched(url, words):
    with serving(parrot := Parrot("x")) as server:
        for content in ([shown(url)], [{"type": "image", "path": url}]):
            status, answer = send(server, body=HELLO | {"messages": [{"role": "user", "content": content}]})
            assert status == 400
            assert words in answer["error"]["message"]
            assert "\n" not in answer["error"]["message"]
    assert parrot.asked == []


def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header():
    wide = io.BytesIO()
    Image.new("1", (9000, 9000)).save(wide, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(wide.getvalue()).decode()}"
    with serving() as server:
        status, answer = send(server, body=HELLO | {"messages": [{"role": "user", "content": [shown(url)]}]})
    assert (status, "9000 x 9000" in answer["error"]["message"]) == (400, True)


def test_bodies_are_bounded_and_of_the_right_kind():
    with serving() as server:
        assert send(server, body=b"x", Content_Length=str(LARGEST_BODY + 1))[0] == 413
        assert send(server, body=b"x", Content_Length="9" * 30)[0] == 411
        assert send(server, body=b"x", Content_Length="-1")[0] == 411
        assert send(server, body=HELLO, Content_Type="text/plain")[0] == 415
        assert send(server, body=HELLO, method="PUT")[0] == 501
        assert send(server, "/v1/completions", HELLO)[0] == 404
        big = HELLO | {"messages": [{"role": "user", "content": "x" * 1_000_001}]}
        assert "1,000,001 characters" in send(server, body=big)[1]["error"]["message"]


def test_pages_of_other_servers_cannot_ask():
    with serving() as server:
        port = server.server_address[1]
        assert send(server, body=HELLO, Origin="https://evil.example")[0] == 421
        assert send(server, body=HELLO, Origin="null")[0] == 421
        assert send(server, body=HELLO, Host=f"evil.example:{port}")[0] == 421
        assert send(server, body=HELLO, Origin=f"http://127.0.0.1:{port}")[0] == 200


def test_where_there_is_a_token_every_request_brings_it():
    with serving(host="0.0.0.0") as server:
        assert len(server.token) >= 24
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {server.token}x"}):
            status, answer = send(server, body=HELLO, **headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
            assert send(server, "/v1/models", **headers)[0] == 401
        assert send(server, "/")[0] == 403
        assert send(server, body=HELLO, Authorization=f"Bearer {server.token}")[0] == 200
        assert send(server, f"/?token={server.token}")[0] == 200
    with serving(token="chosen-by-hand-42") as server:
        assert server.url.endswith("/?token=chosen-by-hand-42")
        assert send(server, body=HELLO)[0] == 401
    for token in ("short", "with a space in it", "ünïcödé-and-long-enough"):
        with pytest.raises(SettingsError, match="--token"):
            AnswerServer(None, "", token=token)


def test_errors_of_the_model_are_told_before_a_stream_begins():
    for error, status, kind in (
        (ModelError("too long:\n600 tokens"), 400, "invalid_request_error"),
        (RunError("the state is damaged"), 500, "server_error"),
        (OSError("no such file: /secret/place"), 500, "server_error"),
    ):
        for stream in (False, True):
            parrot = Parrot("x")
            parrot.tell = lambda *_, error=error, **__: _raising(error)
            with serving(parrot) as server:
                found, answer = send(server, body=HELLO | {"stream": stream})
            assert (found, answer["error"]["type"]) == (status, kind)
            assert "\n" not in answer["error"]["message"]
            assert "/secret" not in answer["error"]["message"]
    with serving(Parrot("x", fails=ModelError("no more"))) as server:
        text = send(server, body=HELLO | {"stream": True})[1]
        assert json.loads(text.split("\n\n")[-2].removeprefix("data: "))["error"]["message"] == "no more"


def _raising(error):
    raise error
    yield


def test_two_at_once_take_turns_and_one_that_goes_away_makes_room():
    go = threading.Event()
    parrot = Parrot(*("abcdefgh"[:n] for n in range(1, 9)), wait=go)
    with serving(parrot) as server:
        gone = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
        body = json.dumps(HELLO | {"stream": True})
        gone.request("POST", CHAT, body, {"Content-Type": "application/json"})
        gone.sock.close()
        gone.close()
        found = []
        threads = [threading.Thread(target=lambda: found.append(send(server, body=HELLO))) for _ in range(4)]
        for each in threads:
            each.start()
        go.set()
        for each in threads:
            each.join()
    assert [answer["choices"][0]["message"]["content"] for _, answer in found] == ["abcdefgh"] * 4
    assert parrot.most == 1
    assert parrot.at_once == 0


def test_more_than_can_wait_are_sent_away():
    with serving() as server:
        while server.waiting.acquire(blocking=False):
            pass
        status, answer = send(server, body=HELLO)
        assert (status, answer["error"]["type"]) == (503, "server_error")
        server.waiting.release()
        assert send(server, body=HELLO)[0] == 200


def test_a_taken_port_and_a_model_that_is_not_there_are_one_line():
    with serving() as server, pytest.raises(SettingsError, match=re.escape("is in use; take another one")):
        AnswerServer(None, "", port=server.server_address[1])
    with pytest.raises(SettingsError, match="client 3 has no such model"):
        ServedModels(3, [])
