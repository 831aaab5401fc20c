"""A process of its own for calls that may hang, take all memory, or die.

The process is started anew by the interpreter, not forked, and it is no child in the sense of
multiprocessing, whose daemonic processes (Dask's workers, for example) may have none. It is fed
through its standard input and answers through its standard output, in *frames*: eight bytes of
length, little-endian, and a pickle. What the called function prints goes to standard error. When
the standard input ends, because the parent died for example, the process ends at once.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import cloudpickle
import psutil
import torch

from aquasurf_optuna._shipping import with_operators
from aquasurf_optuna.exceptions import PrecomputeError
from aquasurf_optuna.features._feature import StoppedError

_CODE = "from aquasurf_optuna.features._child import serve; serve()"
_LENGTH_BYTES = 8
# The interpreter and torch are read from disk, which takes a while on a busy network file system.
_START_SECONDS = 300.0
_POLL_SECONDS = 0.5
_MEMORY_POLL_SECONDS = 0.02
# Where even the thread that waits for the parent's end cannot run, as in a loop of C code.
_ORPHAN_SECONDS = 60.0


class EndedError(Exception):
    """The process ended by itself, or was ended by a stranger; the text says how."""


class TookTooLongError(Exception):
    """The call passed its limit of time, and the process was ended."""


class NeededTooMuchError(Exception):
    """The process passed its limit of memory, and was ended."""


class Child:
    """Calls one function in a process of its own, one call at a time.

    Args:
        function: Pickled by value where it comes from a script or a closure; the user's operators
            go with it.
        threads: Of torch, in that process.
        stop: When set, calls are given up and the process is ended.

    Raises:
        PrecomputeError: If the process does not come up.
        StoppedError: If `stop` is set before it does.
        AquaSurfError: What making `function` there raises.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        threads: int = 1,
        stop: threading.Event | None = None,
    ) -> None:
        self._stop = threading.Event() if stop is None else stop
        self._process = _start(threads)
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        listener = threading.Thread(
            target=_listen, args=(self._process.stdout, self._frames.put), daemon=True
        )
        listener.start()
        try:
            self._ask(cloudpickle.dumps((with_operators(function), threads)), _START_SECONDS, None)
        except (EndedError, TookTooLongError) as error:
            raise PrecomputeError(
                f"a process for measuring did not start: {error}; what it wrote to standard error "
                "says more"
            ) from error
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def __call__(
        self, argument: object, *, timeout: float | None = None, memory: int | None = None
    ) -> Any:
        """Call the function.

        Args:
            argument: Pickled.
            timeout: Seconds after which the process is ended.
            memory: Bytes of resident memory beyond which the process is ended.

        Raises:
            TookTooLongError: If the call passed the time.
            NeededTooMuchError: If the process passed the memory.
            EndedError: If the process ended.
            StoppedError: If the call was given up.
            Exception: What the function raises.
        """
        return self._ask(pickle.dumps((argument, timeout)), timeout, memory)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ask(self, request: bytes, timeout: float | None, memory: int | None) -> Any:
        assert self._process.stdin is not None  # it was asked for
        with contextlib.suppress(BrokenPipeError):  # the missing answer tells it too
            _send(self._process.stdin, request)
        kind, value = pickle.loads(self._answer(timeout, memory))
        if kind == "error":
            raise value
        return value

    def _answer(self, timeout: float | None, memory: int | None) -> bytes:
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        poll = _POLL_SECONDS if memory is None else _MEMORY_POLL_SECONDS
        while True:
            left = deadline - time.monotonic()
            try:
                frame = self._frames.get(timeout=max(0.0, min(poll, left)))
            except queue.Empty:
                if self._stop.is_set():
                    self.close()
                    raise StoppedError from None
                if memory is not None and self._resident() > memory:
                    self.close()
                    raise NeededTooMuchError from None
                if left <= 0:
                    self.close()
                    raise TookTooLongError(f"no answer within {timeout:g} s") from None
                continue
            if frame is None:
                code = self._process.wait()
                self.close()
                raise EndedError(_ending(code))
            return frame

    def _resident(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0  # it has ended, which the next look at its answers tells


def serve() -> None:
    """Be the process: read a function, then call it until the input ends."""
    requests, replies = _private_pipes()
    inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def receive(frame: bytes | None) -> None:
        if frame is None:
            os._exit(0)
        inbox.put(frame)

    threading.Thread(target=_listen, args=(requests, receive), daemon=True).start()
    calls: list[Callable[[Any], Any]] = []

    def begin(request: bytes) -> None:
        function, threads = pickle.loads(request)
        torch.set_num_threads(threads)
        calls.append(function)

    _send(replies, _reply_to(begin, inbox.get()))
    with Path(os.devnull).open("w") as nowhere:

        def call(request: bytes) -> Any:
            argument, timeout = pickle.loads(request)
            if timeout is not None:
                faulthandler.dump_traceback_later(
                    timeout + _ORPHAN_SECONDS, exit=True, file=nowhere
                )
            try:
                return calls[0](argument)
            finally:
                faulthandler.cancel_dump_traceback_later()

        while True:
            _send(replies, _reply_to(call, inbox.get()))


def _start(threads: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "OMP_NUM_THREADS": str(threads),
        },
        # Ctrl-C is for the parent, which then ends this process.
        start_new_session=True,
    )


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Keep standard input and output for the frames, and give others what does no harm."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def _reply_to(work: Callable[[bytes], Any], request: bytes | None) -> bytes:
    assert request is not None  # the end of the input ends the process
    try:
        return pickle.dumps(("value", work(request)))
    except Exception as error:
        return _dumped_error(error)


def _dumped_error(error: Exception) -> bytes:
    try:
        content = cloudpickle.dumps(("error", error))
        pickle.loads(content)  # some exceptions can be pickled, but not made again
    except Exception:
        content = pickle.dumps(("error", PrecomputeError(f"{type(error).__name__}: {error}")))
    return bytes(content)


def _send(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(len(content).to_bytes(_LENGTH_BYTES, "little") + content)
    pipe.flush()


def _listen(pipe: IO[bytes], receive: Callable[[bytes | None], object]) -> None:
    """Pass on each frame, and None at the end."""
    with contextlib.suppress(OSError, ValueError):  # a closed pipe is an end
        while len(head := pipe.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
            receive(pipe.read(int.from_bytes(head, "little")))
    receive(None)


def _ending(code: int) -> str:
    if code >= 0:
        return f"the process ended with exit code {code}"
    try:
        name = f" ({signal.Signals(-code).name})"
    except ValueError:
        name = ""
    memory = ", as when memory runs out" if -code == 9 else ""
    return f"the process died of signal {-code}{name}{memory}"
