"""What takes long is told: a line every few seconds in a log, nothing on a quiet console, no markup from texts."""

import io
import threading

import pytest
from rich.console import Console
from tests.federation.scenario import small

from fedmosaic import events
from fedmosaic.cli.display import RunDisplay
from fedmosaic.cli.progress import logging, working
from fedmosaic.events import Step, Trained


class Log(io.StringIO):
    """A file that tells when a line with some words has been written."""

    def __init__(self, words):
        super().__init__()
        self.words = words
        self.told = threading.Event()

    def write(self, text):
        length = super().write(text)
        if self.words in self.getvalue():
            self.told.set()
        return length

    def wait(self):
        assert self.told.wait(30), self.getvalue()


def test_a_log_gets_the_latest_state_again_and_again():
    log = Log("features of [b]mine[/b]: images 32 of 1,024 (")
    with working(Console(file=log), "features of [b]mine[/b]", seconds=0.01):
        events.work("images", 32, 1024)
        log.wait()
    assert "\x1b" not in log.getvalue()
    lines = log.getvalue()
    with logging(Console(file=log), "over", seconds=1000):
        pass
    assert log.getvalue() == lines  # what is soon done says nothing


def test_the_title_changes_and_notes_are_told_at_once():
    log = Log("second (")
    with working(Console(file=log), "first", seconds=0.01) as entitle:
        events.emit("note", text="no bases are shipped for [x]")
        assert "no bases are shipped for [x]\n" in log.getvalue()
        entitle("second")
        log.wait()
    events.work("images", 1, 2)
    assert "images" not in log.getvalue()  # nobody listens any more


@pytest.mark.parametrize("terminal", [False, True])
def test_a_quiet_console_shows_nothing(terminal):
    log = Log("")
    with working(Console(file=log, quiet=True, force_terminal=terminal), "title", seconds=0.001):
        events.work("images", 1, 2)
        events.emit("note", text="note")
    assert log.getvalue() == ""


def test_a_terminal_shows_the_state_in_place():
    log = Log("images 32 of 1,024")
    with working(Console(file=log, force_terminal=True), "features of [b]mine[/b]", seconds=1000):
        events.work("images", 32, 1024)
        log.wait()
    assert "features of [b]mine[/b]" in log.getvalue()


def test_an_error_in_the_block_ends_the_telling():
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="mine"), working(Console(file=io.StringIO()), "title", seconds=1000):
        raise ValueError("mine")
    assert set(threading.enumerate()) <= before


def test_a_run_in_a_log_tells_where_it_is(monkeypatch):
    monkeypatch.setattr("fedmosaic.cli.progress.SECONDS", 0.01)
    log = Log("fedmosaic: round 2/3  client 1  loss 0.500 (")
    with RunDisplay(small(), Console(file=log), beside=None) as display:
        display.on_step(Step(round=2, client=1, step=1, steps=2, loss=0.5))
        events.work("samples", 1, 2)
        log.wait()
        display.on_trained(Trained(round=2, client=3, loss=0.4, seconds=1.0))
    assert "round 2/3 done" in log.getvalue()


def test_a_log_says_that_the_last_round_is_over_while_scores_are_made(monkeypatch):
    monkeypatch.setattr("fedmosaic.cli.progress.SECONDS", 0.01)
    log = Log("fedmosaic: round 3/3 done, last scores (")
    with RunDisplay(small(), Console(file=log), beside=None) as display:
        display.on_trained(Trained(round=3, client=3, loss=0.4, seconds=1.0))
        log.wait()


def test_a_loss_that_nobody_has_measured_is_a_dash(monkeypatch):
    monkeypatch.setattr("fedmosaic.cli.progress.SECONDS", 0.01)
    log = Log("fedmosaic: round 2/3  client 1  loss – (")  # noqa: RUF001
    with RunDisplay(small(), Console(file=log), beside=None) as display:
        display.on_step(Step(round=2, client=1, step=1, steps=2, loss=None))
        log.wait()
