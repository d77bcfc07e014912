"""Tasks handed out and reported back, by and to programs that do not know each other.

    board = TaskBoard(client, "/tasks/mail")
    task = board.submit({"to": "a@example.org"})
    worker = TaskWorker(other_client, "/tasks/mail", "w-1", lambda job: send(job.payload))
    worker.start()
    outcome = board.take(task, timeout=60)

    PATH/tasks/<32 hex>~<number>   the payload; its version counts how often it was handed out
    PATH/claims/<the same>         ephemeral: who works on it, and that it is alive
    PATH/results/<the same>        the one result, until it is taken

All JSON. A claim is one multi (make the claim's node, write the task once more on condition of its
version), and the version that the task then has is the *token* of this time of handing out. A
report is one multi too: away with the task at exactly that version and with the claim, and here
is the result. So a worker whose session ended meanwhile, and whose task was handed out
again, is refused, however late and convinced it comes.
"""

import json
import logging
import uuid
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from recipes.alarm import Alarm
from recipes.base import NUMBER, TimeUp, Wait, find_own, name_of, raise_first, session_of
from recipes.loop import Loop
from recipes.once import is_too_large

log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
MOST_BYTES: Final = 1_000_000
"""Of a payload, and of a result: what goes with it into one request has to fit as well."""
MOST_TEXT: Final = 10_000
"""Characters of why a task was given up."""
NOT_MINE: Final = (BadVersionError, NoNodeError, NodeExistsError)


class StaleReportError(Exception):
    """The task was handed out again, or its claim has gone: this report does not count."""


@attrs.frozen
class Outcome:
    """What became of a task."""

    ok: bool
    result: Any
    """Of the work, or the text of why it was given up."""
    worker: str
    token: int


@attrs.frozen
class Job:
    """A task as it is handed to a worker."""

    task: str
    payload: Any
    token: int
    """1 for the first time that it is handed out, and larger each time: hand it to stores that can
    refuse a smaller one."""
    claim: str
    """Of the worker that it was handed to."""


def choose(tasks: Iterable[str], claims: Iterable[str], worker: str) -> str | None:
    """A task that nobody works on: another for each worker, if there are enough (pure)."""
    taken = set(claims)
    free = sorted(each for each in tasks if each not in taken and NUMBER.search(each))
    return free[zlib.crc32(worker.encode()) % len(free)] if free else None


@attrs.frozen
class Unreadable:
    """A payload that was not put there by a TaskBoard."""

    why: str


def dump(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def encode(value: object) -> bytes:
    """Raises TypeError, ValueError for what JSON cannot hold, or a request cannot."""
    data = dump(value)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, of {MOST_BYTES} at most")
    return data


def decode_payload(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as why:
        return Unreadable(f"the payload cannot be read: {why}")


def decode_outcome(data: bytes) -> tuple[Outcome, str]:
    """And the claim under which it was reported."""
    plain = json.loads(data)
    outcome = Outcome(plain["ok"], plain["result"], plain["worker"], plain["token"])
    return outcome, plain["claim"]


class TaskBoard:
    """For those who have tasks done."""

    def __init__(self, client: KazooClient, path: str) -> None:
        self.client, self.path = client, path.rstrip("/")

    def submit(self, payload: Any, *, timeout: float | None = None) -> str:
        """The task's name.  It is submitted once, also when answers are lost.  Raises TimeUp: it
        may have been submitted; TypeError, ValueError for what JSON cannot hold, or is too large.
        """
        data, prefix = encode(payload), f"{uuid.uuid4().hex}~"
        tried: list[bool] = []
        with Wait(self.client, timeout) as wait:
            return str(wait.persist(lambda: self._submit(wait, prefix, data, tried)))

    def _submit(self, wait: Wait, prefix: str, data: bytes, tried: list[bool]) -> str:
        parent = f"{self.path}/tasks"
        for each in ("tasks", "claims", "results"):
            wait.result(self.client.ensure_path_async(f"{self.path}/{each}"))
        if tried:
            # It may have been made, and done, and be known by its result only.
            wait.result(self.client.sync_async(parent))
            for place in ("tasks", "results"):
                children = wait.result(self.client.get_children_async(f"{self.path}/{place}"))
                if found := find_own(children, prefix):
                    return found
        tried.append(True)
        asked = self.client.create_async(f"{parent}/{prefix}", data, sequence=True)
        return name_of(wait.result(asked))

    def take(self, task: str, *, timeout: float | None = None) -> Outcome:
        """Wait for the result, and take it away.  For one taker.  Raises TimeUp."""
        path = f"{self.path}/results/{task}"
        with Wait(self.client, timeout) as wait:
            data: bytes = wait.persist(lambda: self._await(wait, path))
            wait.persist(lambda: self._remove(wait, path))
        return decode_outcome(data)[0]

    def _await(self, wait: Wait, path: str) -> bytes:
        while True:
            alarm = Alarm(wait)
            asked = self.client.exists_async(path, watch=alarm.at(path))
            if wait.result(asked) is not None:
                return bytes(wait.result(self.client.get_async(path))[0])
            wait.until(alarm.rings)

    def _remove(self, wait: Wait, path: str) -> None:
        try:
            wait.result(self.client.delete_async(path))
        except NoNodeError:
            return


class TaskWorker:
    """Takes one task at a time, in a thread of its own; `start` and `stop`."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        name: str,
        work: Callable[[Job], Any],
        *,
        attempts: int = ATTEMPTS,
    ) -> None:
        """`work` returns what JSON can hold, up to a million bytes; if it raises, the task is
        handed out again. It may run more than once for a task, even at the same time in two
        workers. A task that was handed out `attempts` times without a result is given up,
        which is its result."""
        self.client, self.path, self.name, self._work = client, path.rstrip("/"), name, work
        self._attempts = attempts
        self.refused = 0
        """How many reports came too late."""
        self._claim = uuid.uuid4().hex
        self._uncertain: dict[str, None] = {}
        """Tasks whose claim may have been made, or may yet be."""
        self._too_large: dict[str, None] = {}
        """Tasks of somebody else's that cannot be written once more."""
        self._loop = Loop(client, f"worker {name}", self._step, self._on_broken)

    def start(self) -> None:
        self._loop.start()

    def stop(self, timeout: float | None = None) -> bool:
        """After the task that is being worked on, if any, and its report, which waits for a
        connection; whether it has ended within so many seconds. If not, it takes no other task,
        and ends after this one, or when the client is stopped."""
        return self._loop.stop(timeout)

    def _on_broken(self) -> None:
        """Nothing to tell: whether a report counts is the server's to say."""

    def _step(self, wait: Wait) -> None:
        self._loop.sync(wait, self.path)
        claims = self._children(wait, "claims")
        tasks = self._children(wait, "tasks")
        job = self._claimed(wait, tasks, claims)
        self._too_large = {each: None for each in self._too_large if each in tasks}
        tasks = [each for each in tasks if each not in self._too_large]
        if job is None and (task := choose(tasks, claims, self.name)):
            self._loop.wake()
            job = self._try(wait, task)
        if job is not None:
            self._loop.wake()
            self._do(job)

    def _children(self, wait: Wait, place: str) -> list[str]:
        """Of a node that is made if need be, with a watch that makes another step."""
        path = f"{self.path}/{place}"
        while True:
            try:
                asked = self.client.get_children_async(path, watch=self._loop.wake)
                found: list[str] = wait.result(asked)
            except NoNodeError:
                wait.result(self.client.ensure_path_async(path))
            else:
                return found

    # --- claim ------------------------------------------------------------------------------

    def _claimed(self, wait: Wait, tasks: list[str], claims: list[str]) -> Job | None:
        """A task that turns out to be mine: the answer to its claim was lost.  One that lands late
        rings the watch on claims; without this nobody would work on it."""
        for task in list(self._uncertain):
            if task not in tasks:
                del self._uncertain[task]
            elif task in claims and (job := self._look(wait, task)) is not None:
                return job
        return None

    def _look(self, wait: Wait, task: str) -> Job | None:
        try:
            data, stat = wait.result(self.client.get_async(f"{self.path}/claims/{task}"))
            payload, of_task = wait.result(self.client.get_async(f"{self.path}/tasks/{task}"))
        except NoNodeError:
            return None
        if data != self._claim.encode() or stat.ephemeralOwner != session_of(self.client):
            return None
        return Job(task, decode_payload(payload), of_task.version, self._claim)

    def _try(self, wait: Wait, task: str) -> Job | None:
        """None if others were faster."""
        session = session_of(self.client)
        try:
            payload, stat = wait.result(self.client.get_async(f"{self.path}/tasks/{task}"))
            request = TransactionRequest(self.client)
            request.create(f"{self.path}/claims/{task}", self._claim.encode(), ephemeral=True)
            request.set_data(f"{self.path}/tasks/{task}", payload, stat.version)
            if is_too_large(request):
                log.warning("%s/tasks/%s is too large to be handed out", self.path, task)
                self._too_large[task] = None
                return None
            self._uncertain[task] = None
            raise_first(wait.result(request.commit_async()))
        except NOT_MINE:
            return None
        if session is None or session != session_of(self.client):
            return None
        return Job(task, decode_payload(payload), stat.version + 1, self._claim)

    # --- work and report ----------------------------------------------------------------------

    def _do(self, job: Job) -> None:
        ok, result = self._run(job)
        self._uncertain.pop(job.task, None)
        # With a Wait of its own, which `stop` does not cancel.
        with Wait(self.client) as wait:
            try:
                if ok or job.token >= self._attempts:
                    self.report(wait, job, ok, result)
                else:
                    wait.persist(lambda: self._give_back(wait, job))
            except StaleReportError as why:
                self.refused += 1
                log.warning("%s: %s", self.path, why)

    def _run(self, job: Job) -> tuple[bool, Any]:
        if job.token > self._attempts:
            return False, f"given up: handed out {self._attempts} times"
        if isinstance(job.payload, Unreadable):
            return False, job.payload.why[:MOST_TEXT]
        try:
            result = self._work(job)
            encode(result)
        except Exception as why:
            log.exception("%s: task %s failed", self.path, job.task)
            return False, repr(why)[:MOST_TEXT]
        return True, result

    def report(self, wait: Wait, job: Job, ok: bool, result: Any) -> None:
        """Raises StaleReportError."""
        plain = {"ok": ok, "result": result, "worker": self.name, "token": job.token}
        data = dump({**plain, "claim": job.claim})
        wait.persist(lambda: self._report(wait, job, data))

    def _report(self, wait: Wait, job: Job, data: bytes) -> None:
        request = TransactionRequest(self.client)
        request.delete(f"{self.path}/tasks/{job.task}", job.token)
        request.delete(f"{self.path}/claims/{job.task}")
        request.create(f"{self.path}/results/{job.task}", data)
        try:
            raise_first(wait.result(request.commit_async()))
        except NOT_MINE as why:
            if not self._is_reported(wait, job):
                raise StaleReportError(f"{job.task}, token {job.token}: {why!r}") from why

    def _is_reported(self, wait: Wait, job: Job) -> bool:
        """By myself, with a lost answer."""
        try:
            data, _ = wait.result(self.client.get_async(f"{self.path}/results/{job.task}"))
        except NoNodeError:
            return False
        outcome, claim = decode_outcome(data)
        return claim == job.claim and outcome.token == job.token

    def _give_back(self, wait: Wait, job: Job) -> None:
        request = TransactionRequest(self.client)
        request.check(f"{self.path}/tasks/{job.task}", job.token)
        request.delete(f"{self.path}/claims/{job.task}")
        try:
            raise_first(wait.result(request.commit_async()))
        except NOT_MINE:
            return


__all__ = ["Job", "Outcome", "StaleReportError", "TaskBoard", "TaskWorker", "TimeUp", "choose"]
