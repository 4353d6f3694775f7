"""Processes that are measured: pinned to a core, read line by line, with what they cost."""

import json
import os
import select
import signal
import subprocess
import time

#: What is measured runs here, and whatever serves it (cameras, this harness) there.
MEASURED_CORE, OTHER_CORE = 0, max(os.sched_getaffinity(0))
DETECTIONS = b'"type":"detections"', b'"type": "detections"', b"{}"


def cpu_seconds(pid):
    """CPU time of a living process, all threads, by Linux's clock of that process (`CPUCLOCK_SCHED`): exact, where
    /proc/PID/stat counts ticks of 10 ms."""
    return time.clock_gettime(~pid << 3 | 2)


def is_detection(line):
    return any(mark in line[:4096] for mark in DETECTIONS)


class Child:
    """A process whose stdout is read without delay. Ends with the `with` block, whatever happens."""

    def __init__(self, command, env=None, core=MEASURED_CORE, log=None):
        self.command = [str(word) for word in command]
        self.log = open(log, "ab") if log else subprocess.DEVNULL
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}) if core is not None else None,
        )
        self.pid = self.process.pid
        self.rest = b""
        self.max_rss_mib = None
        os.set_blocking(self.process.stdout.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def lines(self, seconds):
        """(monotonic, wall) times and lines until the time is over or the process closes its stdout."""
        deadline = time.monotonic() + seconds
        stdout = self.process.stdout
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                return
            chunk = os.read(stdout.fileno(), 1 << 16)
            at, wall_ns = time.monotonic(), time.time_ns()
            if not chunk:
                return
            *whole, self.rest = (self.rest + chunk).split(b"\n")
            for line in whole:
                yield at, wall_ns, line

    def detections(self, seconds):
        return (found for found in self.lines(seconds) if is_detection(found[2]))

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    def end(self):
        """SIGTERM, SIGKILL if that does not help; takes the peak of its memory with it."""
        if self.max_rss_mib is not None:
            return
        for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass
            if self._reap(patience):
                break
        self.process.stdout.close()
        self.process.stdin.close()

    def _reap(self, seconds):
        descriptor = os.pidfd_open(self.pid)
        gone, _, _ = select.select([descriptor], [], [], seconds)
        os.close(descriptor)
        if gone:
            _, status, usage = os.wait4(self.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.max_rss_mib = usage.ru_maxrss / 1024
        return bool(gone)


class Failed(Exception):
    """Nothing could be measured, and why."""


def frames_of(command, frame_count, env=None, log=None, patience=300):
    """Runs something that prints a line a frame; measures it between its 10th frame and its `frame_count`th.

    Loading, imports and opening are over by then, and the decoder is as far ahead at the end as at the beginning: whoever
    is measured has to be asked for ten frames more than that.
    """
    first, last, count = None, None, 0
    with Child(command, env, log=log) as child:
        for at, _, _ in child.detections(patience):
            count += 1
            if count == LEAD:
                first = at, child.cpu_seconds()
            if count == frame_count:
                last = at, child.cpu_seconds()
                break
        child.end()
    if not (first and last):
        raise Failed(f"{child.command[0]} gave {count} of {frame_count} frames")
    frames = frame_count - LEAD
    return {
        "fps": frames / (last[0] - first[0]),
        "cpu_ms": (last[1] - first[1]) / frames * 1e3,
        "rss_mib": child.max_rss_mib,
    }


#: Frames before the measuring begins, and asked for after it has ended.
LEAD = 10


class Camera:
    """The test camera, on the core that is not measured."""

    def __init__(self, program, arguments, log=None):
        self.child = Child([program, "serve", *arguments], core=OTHER_CORE, log=log)
        for _, _, line in self.child.lines(30):
            self.urls = json.loads(line)["urls"]
            return
        self.child.end()
        raise Failed("the test camera does not come up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.end()


def busy_cores(seconds=0.5):
    """How many cores are at work, to be asked when nothing of ours is running."""

    def read():
        with open("/proc/stat") as stat:
            fields = [int(field) for field in stat.readline().split()[1:]]
        return sum(fields[:8]) - fields[3] - fields[4], sum(fields[:8])

    before = read()
    time.sleep(seconds)
    after = read()
    share = (after[0] - before[0]) / max(1, after[1] - before[1])
    return share * os.cpu_count()

