#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_trace.py FILE MESSAGES: whether a trace is well-formed and says everything once.

Well-formed JSON; MESSAGES messages, each in every stage at most once, the stages in order and
without gaps; no two slices of a track overlap; every track has a name; one arrow a message.
"""
import collections
import decimal
import json
import re
import sys

STAGES = {1: "enqueue", 2: "wait", 3: "process", 4: "notice"}


def main(path, messages):
    with open(path, encoding="ascii") as file:
        text = file.read()
    for time in re.findall(r'"(?:ts|dur)":([^,}]*)', text):
        assert re.fullmatch(r"\d+\.\d{3}", time), f"a time is {time}"
    trace = json.loads(text, parse_float=decimal.Decimal)
    other = trace["otherData"]
    assert int(other["recorded"]) == messages, f"recorded is {other['recorded']}"
    # What may have been moved: a consumer's own slices, by no more than its clock is off.
    slack = 2 * decimal.Decimal(other["clock_error_ns"]) / 1000

    processes, tracks = {}, {}
    slices = collections.defaultdict(dict)
    on_track = collections.defaultdict(list)
    flows = collections.defaultdict(list)
    for event in trace["traceEvents"]:
        at = (event["pid"], event.get("tid"))
        if event["ph"] == "M" and event["name"] == "process_name":
            processes[event["pid"]] = event["args"]["name"]
        elif event["ph"] == "M" and event["name"] == "thread_name":
            assert at not in tracks, f"track {at} has two names"
            tracks[at] = event["args"]["name"]
        elif event["ph"] == "X":
            stages = slices[event["args"]["msg_id"]]
            assert event["pid"] not in stages, f"message {event['args']} is twice in a stage"
            stages[event["pid"]] = event
            on_track[at].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] in "stf":
            flows[event["id"]].append(event["ph"])
        else:
            assert event["ph"] == "M", f"what is {event}?"
    assert set(processes) == set(STAGES), processes
    assert len(slices) == messages, f"{len(slices)} messages"

    for at, there in on_track.items():
        assert at in tracks, f"track {at} has no name"
        there.sort()
        for (_, end), (begin, _) in zip(there, there[1:]):
            assert end <= begin, f"slices of track {at} overlap at {begin}"
    assert set(tracks) == set(on_track), "a track is empty"

    outcomes = collections.Counter()
    for msg_id, stages in slices.items():
        lost = 3 not in stages
        assert set(stages) == ({1, 2} if lost else {1, 2, 3, 4}), f"{msg_id}: {set(stages)}"
        assert flows[msg_id] == ([] if lost else ["s", "t", "f"]), f"{msg_id}: {flows[msg_id]}"
        for before, after in zip(sorted(stages), sorted(stages)[1:]):
            gap = stages[after]["ts"] - stages[before]["ts"] - stages[before]["dur"]
            assert abs(gap) <= (slack if 3 in (before, after) else 0), f"{msg_id}: gap {gap}"
        args = stages[2 if lost else 3]["args"]
        assert lost == (args["outcome"] == "lost"), args
        ran = args["outcome"] in ("ok", "failed")
        names = [stages[stage]["name"] for stage in sorted(stages)]
        want = [STAGES[stage] for stage in sorted(stages)]
        if not ran:
            want[1 if lost else 2] = args["outcome"]
        assert names == want, f"{msg_id}: {names}"
        outcomes[args["outcome"]] += 1
    print(f"{path}: {messages} messages:", dict(outcomes))


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except AssertionError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
