#!/usr/bin/env python3
"""Runs the installed daemon in ROOT as its own user, as systemd would, and checks every message it sends.

usage: notify_stand_in.py ROOT
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

ROOT = sys.argv[1]
PATIENCE_S = 60
REGISTRY = "/var/cache/watchpost/gstreamer-registry.bin"


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def user():
    with open(f"{ROOT}/etc/passwd", encoding="utf-8") as passwd:
        fields = next(line.split(":") for line in passwd if line.startswith("watchpost:"))
    return int(fields[2]), int(fields[3])


def folder(path, uid, gid):
    os.makedirs(ROOT + path, exist_ok=True)
    os.chown(ROOT + path, uid, gid)


def started(uid, gid):
    def become():
        os.chroot(ROOT)
        os.chdir("/")
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)

    environment = {
        "PATH": "/usr/bin:/bin",
        "NOTIFY_SOCKET": "/run/watchpost-notify",
        "WATCHDOG_USEC": "5000000",
        "RUNTIME_DIRECTORY": "/run/watchpost",
        "STATE_DIRECTORY": "/var/lib/watchpost",
        "CACHE_DIRECTORY": "/var/cache/watchpost",
        "RTEN_NUM_THREADS": "1",
        "GST_REGISTRY": REGISTRY,
    }
    command = ["/usr/bin/watchpost", "--log-format", "systemd", "run"]
    return subprocess.Popen(
        command, env=environment, preexec_fn=become, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )


def read_record():
    """The first detections record that a reader of the socket gets."""
    reader = socket.socket(socket.AF_UNIX)
    reader.settimeout(PATIENCE_S)
    reader.connect(f"{ROOT}/run/watchpost/detections.sock")
    for line in reader.makefile(encoding="utf-8"):
        record = json.loads(line)
        check(record["schema"] == "watchpost/1", line)
        if record["type"] == "detections":
            return record
    sys.exit("FAILED: the socket was closed without a record")


def main():
    uid, gid = user()
    for path in ["/run/watchpost", "/var/lib/watchpost", "/var/cache/watchpost"]:
        folder(path, uid, gid)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(f"{ROOT}/run/watchpost-notify")
    os.chown(f"{ROOT}/run/watchpost-notify", uid, gid)
    notify.settimeout(PATIENCE_S)
    daemon = started(uid, gid)
    try:
        told = []
        alive = 0
        while alive < 3 or not any(re.match(r"STATUS=1 of 1 cameras up, \d+ frames/s", text) for text in told):
            for text in notify.recv(4096).decode().split("\n"):
                if text:
                    told.append(text)
                    alive += text == "WATCHDOG=1"
        check(told[0] == "READY=1", f"READY=1 is not the first message: {told}")
        unknown = [text for text in told if not text.startswith(("READY=1", "WATCHDOG=1", "STATUS="))]
        check(not unknown, f"unknown messages: {unknown}")
        record = read_record()
        check(record["camera"] == "scene" and record["model"]["name"] == "demo", record)
        mode = os.stat(f"{ROOT}/run/watchpost/detections.sock")
        check(mode.st_gid == gid and mode.st_mode & 0o777 == 0o660, oct(mode.st_mode))
        debug = subprocess.run(["chroot", ROOT, "watchpost", "debug"], capture_output=True, text=True, check=False)
        check(debug.returncode == 0 and "streaming" in debug.stdout, debug)

        daemon.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        last = ""
        while "STOPPING=1" not in last:
            last = notify.recv(4096).decode()
        check("EXTEND_TIMEOUT_USEC=" in last, last)
        code = daemon.wait(timeout=PATIENCE_S)
        check(code == 0, f"exit code {code}")
        check(time.monotonic() - asked < 2, "SIGTERM to exit took 2 s or longer")
        left = os.listdir(f"{ROOT}/run/watchpost")
        check(not left, f"left in /run/watchpost: {left}")
        print(f"deb-test: READY, {alive} WATCHDOG, {told[-1]!r}, records, STOPPING, exit 0")
    finally:
        daemon.kill()
        log = daemon.communicate()[1].decode()
        notify.close()
        os.unlink(f"{ROOT}/run/watchpost-notify")
        if sys.exc_info()[0] is not None:
            print(log[-3000:], file=sys.stderr)
    os.unlink(ROOT + REGISTRY)
    for path in ["/run/watchpost", "/var/lib/watchpost", "/var/cache/watchpost"]:
        left = os.listdir(ROOT + path)
        check(not left, f"the daemon left something in {path}: {left}")
        os.rmdir(ROOT + path)


if __name__ == "__main__":
    main()
