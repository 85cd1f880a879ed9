"""Which thread reads the channel.

    reads a frame ── runs its call itself ── reads the next frame …            fast handlers: no hand-over
                          │
                          └─ lasts longer than a tick: a spare thread reads on; this one answers when it is done

Handing a call to another thread costs more than a small handler, so the reader runs it. While it does, the reading
is *offered*: whoever removes the call's id from `_offered` has the reading. The reader takes it back after the call;
the watcher takes it for a spare thread when it has seen the same call in two ticks. Removing a key from a dict is
atomic, so exactly one of them gets it, and the fast path needs no lock.

What was read and not handled yet, and the answers that were not sent yet, go with the reading.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread
from collections import deque
from time import sleep

from par_harness.failures import CallCancelled, cancelled, give_up
from par_harness.frames import CALL, HEADER, HEADER_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from par_harness.answers import Awaited
    from par_harness.channel import Channel
    from par_harness.interrupts import Interrupt

    # What answers the call of this id, which is `data[start:end]`.
    Answer = Callable[[int, bytes, int, int], bytes | Awaited]
    # Handles a frame that is not a call: kind, id, body.
    Control = Callable[[int, int, bytes], None]

TICK = 0.001
TICKS_UNTIL_SLEEP = 20
# So many take-overs in a row, and a call is expected to be slow: the reading is given away before it runs.
SLOW_STREAK = 2
SPARES = 16


class Reader:
    """One thread that reads at times."""

    __slots__ = ("ident", "wake", "interrupt")

    def __init__(self) -> None:
        self.ident = 0
        self.wake = allocate_lock()
        self.wake.acquire()
        self.interrupt: Interrupt | None = None


class Readers:
    def __init__(
        self,
        channel: Channel,
        answer: Answer,
        control: Control,
        limit: int,
        *,
        hand_over: Callable[[int, Any], None],
        slow_ended: Callable[[], None],
        worker_gone: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._answer = answer
        self._control = control
        self._hand_over = hand_over
        self._slow_ended = slow_ended
        self._worker_gone = worker_gone
        self._limit = limit
        # The reader by what it is doing: the id of a call, or a negative number while it sends.
        self._offered: dict[int, Reader] = {}
        self._doing = 0
        self._answers: list[bytes] = []
        # Calls that outlasted the reading of their thread, cancelled ones too: a thread counts until it returns.
        # `_changing` guards the rare moves in and out.
        self._slow: dict[int, Reader] = {}
        self._changing = allocate_lock()
        # Calls in a row that outlasted their reading.
        self._taken_over = 0
        self._unanswered: set[int] = set()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._spares: list[Reader] = []
        self._ticks = 1
        self._watcher_sleeps = True
        self._watcher_wake = allocate_lock()
        self._watcher_wake.acquire()

    def run(self) -> None:
        """Makes the calling thread, which is the main one, the first reader; never returns."""
        start_new_thread(self._watch, ())
        me = Reader()
        me.wake.release()
        self._follow(me)
        # There are spares enough, or the worker is gone. The process ends by `stopping`, not with this thread.
        me.wake.acquire()

    def in_progress(self) -> int:
        """What other threads than the reader run or send, or what waits for one."""
        return len(self._unanswered)

    def cancel(self, id: int) -> bool:
        """Throws `CallCancelled` into the handler of a slow call; False if no thread has it. Only the reader calls this."""
        # A handler that is never cancelled never pays for ctypes.
        from par_harness.interrupts import Interrupt

        with self._changing:
            reader = self._slow.get(id)
            if reader is None:
                waited = self._forget_waiting(id)
            elif reader.interrupt is None:
                reader.interrupt = Interrupt(reader.ident)
                reader.interrupt.send()
        if reader is None and waited:
            self._answer_late(id, cancelled(id))
        return reader is not None or waited

    def about_to_block(self) -> None:
        """Lets another thread read at once when a handler knows that it will wait for a frame."""
        doing = self._doing
        reader = self._offered.get(doing)
        if reader is not None and reader.ident == get_ident():
            self._take_over(doing)

    # The reading thread

    def _follow(self, me: Reader) -> None:
        """Waits for its turn to read, again and again."""
        me.ident = get_ident()
        me.wake.acquire()
        try:
            while self._read(me):
                self._run_waiting(me)
                if len(self._spares) >= SPARES:
                    return
                self._spares.append(me)
                me.wake.acquire()
        except BaseException as error:
            give_up(error)

    def _read(self, me: Reader) -> bool:
        """Reads and answers; True when another thread reads by now, False when the worker is gone."""
        channel, header_at = self._channel, HEADER.unpack_from
        if self._answers and not self._send_answers(me):
            return True
        while True:
            data, at, ticks = channel.data, channel.at, self._ticks
            while len(data) - at >= HEADER_SIZE:
                length, id, kind = header_at(data, at)
                start = at + HEADER_SIZE
                end = start + length
                if end > len(data):
                    break
                if kind != CALL:
                    if self._answers and not self._send_answers(me):
                        return True
                    channel.at = at = end
                    self._control(kind, id, data[start:end])
                    continue
                channel.at = at = end
                if not self._call(me, id, data, start, end):
                    return True
                if ticks != self._ticks and self._answers:
                    # The calls that came together take their time: the first answers shall not wait for the last.
                    ticks = self._ticks
                    if not self._send_answers(me):
                        return True
            if self._answers and not self._send_answers(me):
                return True
            data = b""  # not kept while we wait
            if not channel.fill():
                self._worker_gone()
                return False

    def _call(self, me: Reader, id: int, data: bytes, start: int, end: int) -> bool:
        """Runs a call; False when another thread reads by now."""
        if len(self._slow) >= self._limit and self._must_wait(id, data[start:end]):
            return True
        offered, ticks = self._offered, self._ticks
        self._doing = id
        answer: bytes | Awaited = b""
        offered[id] = me
        if self._watcher_sleeps:
            self._wake_watcher()
        if self._taken_over >= SLOW_STREAK:
            self._take_over(id)
        try:
            answer = self._answer(id, data, start, end)
            if offered.pop(id, None) is not None:
                if type(answer) is bytes:
                    self._answers.append(answer)
                else:
                    self._hand_over(id, answer.value)
                self._taken_over = 0
                return True
            last = self._end_of_slow(me, id, answer)
        except CallCancelled:
            last = self._cancelled(me, id, answer)
        self._answer_late(id, last)
        if self._ticks == ticks:
            self._taken_over = 0
        return False

    def _send_answers(self, me: Reader) -> bool:
        """Sends in one go what was answered; False when another thread reads by now."""
        answers, self._answers = self._answers, []
        self._doing = sending = -self._ticks
        self._offered[sending] = me
        self._channel.send(b"".join(answers) if len(answers) > 1 else answers[0])
        if self._offered.pop(sending, None) is not None:
            return True
        with self._changing:
            self._unanswered.discard(sending)
        self._slow_ended()
        return False

    # Slow calls

    def _end_of_slow(self, me: Reader, id: int, answer: bytes | Awaited) -> bytes:
        """The last frame of the call, if it is ours to send. From here on, nothing is thrown into this thread any more.

        The event loop gets its part before the call leaves `_slow`, so that a cancel finds it here or there.
        """
        with self._changing:
            if me.interrupt is not None:
                me.interrupt.settle()
            elif not isinstance(answer, bytes):
                self._hand_over(id, answer.value)
                answer = b""
            del self._slow[id]
            me.interrupt = None
        return answer if isinstance(answer, bytes) else _discarded(id, answer)

    def _cancelled(self, me: Reader, id: int, answer: bytes | Awaited) -> bytes:
        """`CallCancelled` came between the handler's end and the end of its call."""
        with self._changing:
            del self._slow[id]
            me.interrupt = None
        return cancelled(id) if isinstance(answer, bytes) else _discarded(id, answer)

    def _must_wait(self, id: int, body: bytes) -> bool:
        """More slow calls than the agent may have at one time: this one is for the next thread that is done."""
        self._unanswered.add(id)
        with self._changing:
            if len(self._slow) >= self._limit:
                self._waiting.append((id, body))
                return True
        self._unanswered.discard(id)  # a thread was done in between
        return False

    def _forget_waiting(self, id: int) -> bool:
        for waiting in self._waiting:
            if waiting[0] == id:
                self._waiting.remove(waiting)
                return True
        return False

    def _run_waiting(self, me: Reader) -> None:
        while True:
            with self._changing:
                if not self._waiting or len(self._slow) >= self._limit:
                    return
                id, body = self._waiting.popleft()
                self._slow[id] = me
            answer: bytes | Awaited = b""
            try:
                answer = self._answer(id, body, 0, len(body))
                last = self._end_of_slow(me, id, answer)
            except CallCancelled:
                last = self._cancelled(me, id, answer)
            self._answer_late(id, last)

    def _answer_late(self, id: int, answer: bytes) -> None:
        if answer:
            self._channel.send(answer)
        self._unanswered.discard(id)
        self._slow_ended()

    def _take_over(self, doing: int) -> None:
        """Gives the reading to a spare thread, if `doing` has not ended meanwhile."""
        spare = self._spare()
        if spare is None:
            return
        with self._changing:
            reader = self._offered.pop(doing, None)
            if reader is not None:
                self._taken_over += 1
                self._unanswered.add(doing)
                if doing > 0:
                    self._slow[doing] = reader
        if reader is None:
            self._spares.append(spare)
        else:
            spare.wake.release()

    def _spare(self) -> Reader | None:
        try:
            return self._spares.pop()
        except IndexError:
            pass
        spare = Reader()
        try:
            start_new_thread(self._follow, (spare,))
        except RuntimeError:
            return None  # no thread can be had just now: the watcher asks again at its next tick
        return spare

    # The watcher

    def _watch(self) -> None:
        seen, idle = 0, 0
        while True:
            if idle >= TICKS_UNTIL_SLEEP:
                self._watcher_sleeps = True
                # Who starts a call now sees that the watcher sleeps; who started one before is seen here.
                if not self._offered:
                    self._watcher_wake.acquire()
                self._watcher_sleeps = False
                idle = 0
            sleep(TICK)
            self._ticks += 1
            doing = self._doing
            if doing != seen:
                seen, idle = doing, 0
            elif doing in self._offered:
                self._take_over(doing)
            else:
                idle += 1

    def _wake_watcher(self) -> None:
        self._watcher_sleeps = False
        try:
            self._watcher_wake.release()
        except RuntimeError:
            pass  # it is awake already


def _discarded(id: int, answer: Awaited) -> bytes:
    """Nobody will await what the handler of a cancelled call returned."""
    answer.discard()
    return cancelled(id)
