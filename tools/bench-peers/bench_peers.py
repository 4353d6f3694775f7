#!/usr/bin/env python3
"""`make bench-peers`: watchpost beside what people use today, in one run, on one machine.

    bench_peers.py [--quick] [--only SECTION,…] [--output docs/benchmarks.md]

Sections: offline, startup, latency, live, cost. Everybody gets the same clip or camera, model, thresholds and threads, one
core, one after the other in each round; what counts are ratios within a round, and medians over rounds. Writes a page with
tables and bar plots beside it. About 28 minutes, with --quick 5. A machine that does something else meanwhile spoils the
figures: how busy it was is measured before each round and written on the page."""

import argparse
import os
import pathlib
import sys
import time

import cost
import int8
import latency
import live
import offline
import places
import report
import startup
from child import Failed, busy_cores

SECTIONS = {"offline": offline, "startup": startup, "latency": latency, "live": live, "cost": cost}


class Bench:
    """What was measured: section -> who -> a list of values, one for each round; and how busy the machine was."""

    def __init__(self, quick):
        self.quick = quick
        self.values = {section: {} for section in SECTIONS}
        self.missing = []
        #: What `watchpost engine build` said of the INT8 model.
        self.int8 = ""
        self.loads = []
        self.began = time.time()
        # Before the page itself is another one than in that commit.
        self.commit = places.output_of(["git", "-C", places.ROOT, "describe", "--always", "--dirty"])

    def load(self, what):
        """To be called before each round, when nothing of ours runs."""
        self.loads.append((what, os.getloadavg()[0], busy_cores()))
        say(f"{what}: load average {self.loads[-1][1]:.1f}, {self.loads[-1][2]:.2f} cores busy with something else")

    def add(self, section, who, value):
        self.values[section].setdefault(who, []).append(value)
        say(f"  {section} {who}: " + ", ".join(f"{name} {number:.1f}" for name, number in value.items()))

    def miss(self, section, who, failed):
        self.missing.append((section, who, str(failed)))
        say(f"  {section} {who}: NOT MEASURED: {failed}")


def say(line):
    print(line, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of each: for trying the harness out")
    parser.add_argument("--only", metavar="SECTION,…", default=",".join(SECTIONS))
    parser.add_argument("--output", type=pathlib.Path, default=places.ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is no section; there are {', '.join(SECTIONS)}")
    if (os.cpu_count() or 1) < 2:
        parser.error("one core is measured while another one serves: this machine has one")
    try:
        places.check()
    except Failed as failed:
        sys.exit(f"bench-peers: {failed}")
    bench = Bench(args.quick)
    try:
        bench.int8 = int8.build()
    except Failed as failed:
        bench.miss("INT8", "yolov8n", failed)
    for section in wanted:
        SECTIONS[section].run(bench)
        # What was measured is not lost when a later section is interrupted.
        report.write(bench, args.output)
    say(f"bench-peers: {args.output} after {(time.time() - bench.began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
