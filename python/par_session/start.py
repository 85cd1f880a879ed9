"""The life of the process: load, ready, answer calls, stop."""

from __future__ import annotations

import builtins
import sys
from atexit import _run_exitfuncs
from os import _exit, chdir, getcwd, write

from par_harness.channel import ChannelBroken
from par_harness.frames import CALL, LOAD, MAX_BODY, READY, RESULT, STOP, frame
from par_harness.process import take_channel
from par_session import figures
from par_session.channel import SessionChannel
from par_session.interrupts import Interrupts
from par_session.load import Load, make_importable
from par_session.progress import Progress
from par_session.session import Session
from par_session.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# What a result holds besides values: a traceback, and what is small.
AROUND_THE_VALUES = 1 << 20


def run() -> NoReturn:
    """Never by the interpreter's own end, which would wait for the code's threads."""
    try:
        _live()
    except BaseException as error:
        _give_up(f"{type(error).__name__}: {error}")


def _live() -> NoReturn:
    channel = SessionChannel(take_channel())
    interrupts = Interrupts()
    interrupts.install()  # at once, so that an early one does not end us
    streams = Streams()
    _settle()
    first = channel.next_frame()
    if first is None or first[0] != LOAD:
        _give_up("the channel ended before it said what to load")
    try:
        load = Load(first[2].decode())
        make_importable(load)
        chdir(load.folder)
        sys.path.append(getcwd())  # modules that the code has written
        most_bytes = min(load.result_bytes, MAX_BODY - AROUND_THE_VALUES)
    except Exception as error:
        _give_up(f"cannot load: {type(error).__name__}: {error}")
    session = Session(getcwd(), most_bytes, streams, interrupts, Progress(channel, interrupts))
    channel.send_frame(0, READY)
    _answer_calls(channel, session, streams)


def _answer_calls(channel: SessionChannel, session: Session, streams: Streams) -> NoReturn:
    while True:
        try:
            next_frame = channel.next_frame()
        except ChannelBroken as error:
            _give_up(str(error))
        if next_frame is None:
            # The worker is gone, and nobody would end exit functions that hang.
            _exit(1)
        kind, id, body = next_frame
        if kind == CALL:
            channel.send(frame(id, RESULT, session.answer(id, body)))
        elif kind == STOP:
            _stop(streams)


def _settle() -> None:
    """Gives the code the interpreter that it would find in a program of its own."""
    from _sitebuiltins import Quitter

    for name in ("exit", "quit"):  # `site` would have made them
        setattr(builtins, name, Quitter(name, "Ctrl-D (i.e. EOF)"))
    sys.argv = [""]
    figures.draw_without_screen()


def _stop(streams: Streams) -> NoReturn:
    try:
        _run_exitfuncs()
    finally:
        streams.flush()
        _exit(0)


def _give_up(why: str) -> NoReturn:
    write(2, f"par_session: {why}\n".encode(errors="replace"))
    _exit(1)
