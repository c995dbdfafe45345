"""The event log of a run."""

import json

from engine.events import EVENTS, EventLog
from engine.source.filesystem import open_location


def lines(folder):
    parts = sorted((folder / EVENTS).glob("*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def test_event_log_without_events_writes_nothing(tmp_path):
    EventLog(open_location(str(tmp_path))).flush()
    assert not (tmp_path / EVENTS).exists()


def test_event_log_writes_each_event_once_in_order(tmp_path):
    log = EventLog(open_location(str(tmp_path)))
    log.add("shard_done", shard=0)
    log.flush()
    log.flush()
    log.add("shard_done", shard=1)
    log.flush_if_due()  # not within the first minute
    assert [event["shard"] for event in lines(tmp_path)] == [0]
    log.flush()
    assert [(event["event"], event["shard"]) for event in lines(tmp_path)] == [
        ("shard_done", 0),
        ("shard_done", 1),
    ]
