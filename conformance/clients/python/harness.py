"""Runs scenarios and tells how each went; what the scenarios do is none of its business.

Spoken with the suite, one JSON line at a time:
  <program> list                       -> {"scenario", "method", "fast"} for each
  <program> run HOST:PORT NAME...      -> {"scenario", "ok", "error"} for each, in this order
While a scenario runs it may print {"ask": "restart" | "kill" | "start"} about the server, and reads a line once that is done.
"""

import json
import os
import sys
import threading
import time
import traceback

# Longer than any scenario on a busy machine; the suite's own limit is longer still.
SCENARIO_LIMIT = 90
SCENARIOS = {}


def scenario(method, fast=False):
    """Marks a function as a scenario about an API method; `fast` ones are part of every test run."""

    def mark(function):
        SCENARIOS[function.__name__] = (method, fast, function)
        return function

    return mark


def tell(**line):
    print(json.dumps(line), flush=True)


def ask(what):
    """Has the suite kill, start or restart the server."""
    tell(ask=what)
    if not sys.stdin.readline():
        raise RuntimeError("the suite is gone")


def equal(seen, expected, what):
    if seen != expected:
        raise AssertionError(f"{what}: {str(seen)[:300]} instead of {str(expected)[:300]}")


def sure(truth, what):
    if not truth:
        raise AssertionError(what)


def until(limit, condition, what):
    """Asks until there is a true answer."""
    deadline = time.monotonic() + limit
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"within {limit} s not: {what}")
        time.sleep(0.05)


def raises(kinds, call, *args, **kwargs):
    """The exception of one of these kinds that the call ends with."""
    try:
        answer = call(*args, **kwargs)
    except kinds as error:
        return error
    raise AssertionError(f"answered {str(answer)[:200]} instead of failing")


def outcome(play):
    """Plays on a thread, so that what hangs is told as a failure like any other."""
    failure = ["did not end in time"]

    def run():
        try:
            play()
            failure[0] = ""
        except BaseException as error:  # a failed scenario must not end the others
            place = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in place if frame.filename.endswith("_scenarios.py")]
            failure[0] = f"{type(error).__name__}: {error} (line {lines[-1] if lines else '?'})"

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SCENARIO_LIMIT)
    return failure[0]


def main(play):
    """`play(function, host, port)` runs one scenario to its end."""
    if sys.argv[1] == "list":
        for name, (method, fast, _) in SCENARIOS.items():
            tell(scenario=name, method=method, fast=fast)
        return
    host, port = sys.argv[2].split(":")
    for name in sys.argv[3:]:
        function = SCENARIOS[name][2]
        error = outcome(lambda: play(function, host, int(port)))
        tell(scenario=name, ok=not error, error=error[:600])
    # Threads of a client that hangs must not keep the program.
    os._exit(0)
