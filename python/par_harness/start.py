"""The life of the process: load, ready, answer, stop."""

from __future__ import annotations

import os

from par_harness import failures, output, process
from par_harness.channel import Channel
from par_harness.frames import LOAD
from par_harness.loading import Load, LoadFailure
from par_harness.runtime import Runtime
from par_harness.values import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def run() -> None:
    channel = Channel(process.take_channel())
    process.settle()
    first = channel.next_frame()
    if first is None or first[0] != LOAD:
        failures.log("par_harness: the channel ended before it said what to load\n")
        os._exit(1)
    load = Load(decode(first[2].decode()))
    if load.mark is not None:
        output.mark(load.mark)
    try:
        Runtime(channel, load).run()
    except LoadFailure as error:
        _refuse(channel, error)
    except Exception as error:
        _refuse(channel, LoadFailure(f"par_harness failed: {type(error).__name__}: {error}"))


def _refuse(channel: Channel, error: LoadFailure) -> NoReturn:
    traceback = failures.logged_traceback(error.__cause__) if error.__cause__ is not None else None
    channel.send(failures.failure(0, failures.LOAD, str(error), traceback))
    process.flush_streams()
    os._exit(1)
