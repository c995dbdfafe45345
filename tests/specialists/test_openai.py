"""An OpenAI-compatible endpoint, asked for real over HTTP, on good days and on bad ones.

The server is tests/specialists/misbehaving_server.py; whole runs are in tests/faults/test_endpoint.
"""

import math
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from misbehaving_server import (
    BEHAVIOURS,
    COMPLETION_TOKENS,
    HUGE_BYTES,
    KEY,
    PROMPT_TOKENS,
    caption_of,
    misbehaving_server,
)
from specialist_photos import noise

from engine.config import build
from engine.errors import ConfigError, SpecialistError
from engine.failures import CAUSES
from engine.schema import empty_claims
from engine.worker import BATCH, Host, SpecialistSpec
from specialists.endpoint import Pace, retry_after_s
from specialists.openai import OpenAi

TASKS = ("brief", "detailed", "more_detailed", "ocr")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with misbehaving_server() as running:
        yield running


def endpoint(server, **options):
    """A loaded specialist that gives up soon."""
    quick = {"timeout_s": 1, "max_tries": 3, "max_wait_s": 0.02}
    specialist = OpenAi(model="tiny", base_url=server.url, **{**quick, **options})
    specialist.load()
    return specialist


def ask(specialist, *images):
    return specialist.annotate(images, empty_claims())


def misbehaved(server, behaviour, key="a"):
    image = noise(key, 12, 8, seed=len(behaviour))
    server.behave(bytes(image.data), behaviour)
    return image


def test_no_images_ask_nothing(server):
    answer = ask(endpoint(server))
    assert answer.rows == empty_claims()
    assert (answer.failures, dict(answer.usage), server.record.seen) == ((), {}, [])


def test_one_image_gets_a_row_per_caption_task_and_per_line(server):
    image = noise("a", 40, 20)
    answer = ask(endpoint(server, tasks=TASKS), image)
    rows = answer.rows.to_pylist()
    assert [(r["kind"], r["role"]) for r in rows] == [
        ("text", "brief"),
        ("text", "detailed"),
        ("text", "more_detailed"),
        ("region", "ocr"),
        ("region", "ocr"),
    ]
    assert [r["text"] for r in rows[3:]] == ["STOP", "Stra\u00dfe"]
    assert rows[3]["box"] == [0, 0, 20, 20]
    assert rows[4]["box"] == pytest.approx([10.02, 2, 40, 4])
    assert [r["prompt"] for r in rows[:4]] == [seen.prompt for seen in by_task(server)]
    assert {(r["score"], r["text_score"]) for r in rows} == {(None, None)}
    assert answer.failures == []


def by_task(server):
    """The requests in the order of tasks: they arrive in any."""
    words = ["short", "two or three", "paragraph", "JSON"]
    return [next(s for s in server.record.seen if word in s.prompt) for word in words]


def test_images_keep_their_order_and_their_own_words(server):
    images = [noise(f"k{n}", 12, 8, seed=n) for n in (3, 1, 2)]
    answer = ask(endpoint(server), *images)
    assert answer.rows["image_key"].to_pylist() == ["k3", "k1", "k2"]
    digests = {s.digest for s in server.record.seen}
    assert set(answer.rows["text"].to_pylist()) == {caption_of(d) for d in digests}


def test_rows_and_failures_pass_the_worker(server):
    images = [noise("good", 12, 8), misbehaved(server, "breaks", "bad")]
    batch = pa.table(
        {
            "image_key": [i.image_key for i in images],
            "width": [i.width for i in images],
            "height": [i.height for i in images],
            "data": [bytes(i.data) for i in images],
        },
        schema=BATCH,
    )
    specialist = endpoint(server, tasks=("brief", "ocr"))
    rows, receipt = Host(SpecialistSpec(specialist, specialist.prepare())).annotate(batch, None)
    assert rows["image_key"].to_pylist() == ["good"] * 3
    assert set(rows["source"].to_pylist()) == {"openai"}
    assert set(rows["model"].to_pylist()) == {"tiny"}
    assert len(set(rows["annotation_id"].to_pylist())) == 3
    ((key, failure),) = receipt.failures
    assert (key, failure.source, failure.cause) == ("bad", "openai", "refused")
    assert receipt.usage["requests"] == 2 + 2 * 3  # nothing was asked a second time


@pytest.mark.parametrize(("behaviour", "cause"), BEHAVIOURS.items())
def test_every_behaviour_of_a_service_is_told_of_that_image_alone(server, behaviour, cause):
    specialist = endpoint(server, tasks=("brief", "ocr"))
    answer = ask(specialist, misbehaved(server, behaviour), noise("b", 12, 8, seed=99))
    assert [(key, found) for key, found, _ in answer.failures] == ([("a", cause)] if cause else [])
    assert cause is None or cause in CAUSES
    expected = (["a"] * 3 if cause is None else []) + ["b"] * 3
    assert answer.rows["image_key"].to_pylist() == expected
    told = repr(answer.failures) + repr(answer.rows.to_pylist())
    assert not [KEY[i : i + 6] for i in range(len(KEY) - 6) if KEY[i : i + 6] in told]


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (
            "breaks",
            "brief: HTTP 500: <html><body>Internal Server Error</body></html>; tried 3 times",
        ),
        ("throttled", "brief: HTTP 429: slow down; tried 3 times"),
        ("bad_request", "brief: HTTP 400: this picture is too small at /srv/app/vision.py"),
        (
            "masks_key",
            "brief: HTTP 401, the key is not accepted: Incorrect API key provided: <key>",
        ),
        ("slow", "brief: no answer within 1 s; tried 3 times"),
        ("trickles", "brief: no answer within 1 s; tried 3 times"),
        ("cut_off", "brief: the answer was cut off; raise max_tokens"),
        ("refuses", "brief: the model refused: I cannot help with that."),
        ("huge", "brief: an answer of more than 8,388,608 bytes"),
        ("no_choices", "brief: no chat completion: choices: List should have at least 1 item"),
        ("silent", "brief: an empty answer, finish_reason 'stop'"),
    ],
)
def test_failures_say_what_happened(server, behaviour, message):
    ((_, _, said),) = ask(endpoint(server), misbehaved(server, behaviour)).failures
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("behaviour", "requests", "answers"),
    [
        ("good", 1, 1),
        ("throttled_once", 2, 1),
        ("throttled_once_politely", 2, 1),
        ("hangs_up_once", 2, 1),
        ("breaks", 3, 0),
        ("bad_request", 1, 0),
        ("echoes_key", 1, 0),
        ("html", 1, 0),
        ("cut_off", 1, 1),
        ("no_choices", 1, 1),
        ("refuses", 1, 1),
    ],
)
def test_usage_counts_every_try_and_the_tokens_of_failed_images(
    server, behaviour, requests, answers
):
    answer = ask(endpoint(server), misbehaved(server, behaviour))
    assert answer.usage == {
        "requests": requests,
        "retries": requests - 1,
        "prompt_tokens": answers * PROMPT_TOKENS,
        "completion_tokens": answers * COMPLETION_TOKENS,
    }
    assert len(server.record.seen) == requests


def test_one_failed_task_costs_an_image_no_other_row(server):
    image = noise("a", 12, 8)  # the server takes a prompt without the word JSON for a caption's
    specialist = endpoint(
        server, tasks=("brief", "ocr"), prompts={"ocr": "Read the text in this image."}
    )
    answer = ask(specialist, image)
    assert answer.rows["role"].to_pylist() == ["brief"]
    ((key, cause, message),) = answer.failures
    assert (key, cause) == ("a", "bad_answer")
    assert message.startswith("ocr: not the JSON asked for: Invalid JSON: expected value")
    assert "found 'a picture with the digest" in message


@pytest.mark.parametrize("behaviour", ["huge", "breaks_at_length"])
def test_a_huge_answer_is_not_read_to_its_end(server, behaviour):
    ask(endpoint(server, max_tries=1, timeout_s=60), misbehaved(server, behaviour))
    assert 8 << 20 <= server.record.sent_bytes < HUGE_BYTES


def test_requests_at_the_same_time_reach_the_limit_and_stay_below_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with misbehaving_server(crowd=4) as server:  # a fourth would find three that wait for it
        specialist = endpoint(server, concurrency=3, timeout_s=30)
        answer = ask(specialist, *(noise(f"k{n}", 12, 8, seed=n) for n in range(8)))
    assert answer.rows.num_rows == 8
    assert server.record.most_at_once == 3


def test_a_batch_ends_in_time_with_the_answers_it_got(server):
    images = misbehaved(server, "slow"), noise("b", 12, 8, seed=99)
    answer = ask(endpoint(server, timeout_s=60, batch_timeout_s=1), *images)
    assert answer.failures == [
        ("a", "timeout", "brief: not answered before the batch's 1 s were over")
    ]
    assert answer.rows["image_key"].to_pylist() == ["b"]
    assert answer.usage["requests"] == 2


def test_what_is_sent_is_what_the_options_say(server):
    options = {"detail": "low", "extra_body": {"top_k": 1}, "seed": 7, "max_tokens": 50}
    ask(endpoint(server, tasks=("ocr",), **options), noise("a", 12, 8))
    (seen,) = server.record.seen
    sent = {k: v for k, v in seen.body.items() if k not in ("messages", "response_format")}
    assert sent == {"model": "tiny", "max_tokens": 50, "temperature": 0.0, "seed": 7, "top_k": 1}
    assert seen.body["response_format"]["type"] == "json_schema"
    assert seen.parts[0]["image_url"]["detail"] == "low"
    assert seen.authorization == f"Bearer {KEY}"


def test_what_a_service_refuses_can_be_left_out(server):
    options = {"temperature": None, "seed": None, "max_tokens": None, "json_mode": "prompt"}
    ask(endpoint(server, tasks=("ocr",), **options), noise("a", 12, 8))
    assert server.record.seen[0].body.keys() == {"model", "messages"}


def test_log_probabilities_become_the_score_of_captions_alone(server):
    answer = ask(endpoint(server, tasks=("brief", "ocr"), logprobs=True), noise("a", 12, 8))
    assert answer.rows["text_score"].to_pylist() == [pytest.approx(math.exp(-1)), None, None]
    assert answer.rows["score"].null_count == 3


def test_endpoint_without_a_key_gets_none(server):
    ask(endpoint(server, key_variable=None), noise("a", 12, 8))
    assert KEY not in server.record.seen[0].authorization


def test_a_missing_key_is_told_with_the_command_that_mends_it(monkeypatch):
    monkeypatch.setenv("MY_KEY", " ")
    specialist = OpenAi(model="tiny", key_variable="MY_KEY")
    assert [need.present for need in specialist.needs()] == [True, False]
    message = "environment variable MY_KEY is missing; export MY_KEY="
    for step in (specialist.prepare, specialist.load):
        with pytest.raises(SpecialistError, match=message):
            step()


def test_a_key_no_header_can_carry_is_refused_unquoted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-12 34")
    with pytest.raises(SpecialistError, match="value of OPENAI_API_KEY holds") as refused:
        OpenAi(model="tiny").load()
    assert "sk-" not in str(refused.value)


def test_the_key_leaves_in_no_pickle_and_no_repr(server):
    specialist = endpoint(server)
    assert ask(specialist, noise("a", 12, 8)).failures == []
    assert KEY.encode() not in pickle.dumps(specialist)
    assert KEY not in repr(specialist)
    assert pickle.loads(pickle.dumps(specialist)) == specialist


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": f"https://ann:{KEY}@example.org/v1"}, "base_url holds credentials"),
        ({"base_url": f"https://{KEY}@example.org/v1"}, "base_url holds credentials"),
        ({"base_url": f"https://example.org/v1?key={KEY}"}, "base_url holds credentials"),
        ({"base_url": f"{KEY}"}, "base_url is no URL"),
        ({"base_url": f"file:///{KEY}"}, "base_url is no URL"),
        ({"base_url": f"http://[{KEY}/"}, "base_url is no URL"),
        ({"key_variable": KEY}, "key_variable is no name"),
        ({"tasks": []}, r"tasks \[\]; allowed: one or more of brief, detailed, more_detailed, ocr"),
        ({"tasks": ["ocr", "ocr"]}, r"tasks \['ocr', 'ocr'\]; allowed"),
        ({"prompts": {"ocr": "Read."}}, "prompts.ocr is empty or not among the tasks"),
        ({"prompts": {"brief": " "}}, "prompts.brief is empty"),
        ({"concurrency": 0}, "concurrency 0; allowed: 1 or more"),
        ({"max_tries": 0}, "max_tries 0"),
        ({"timeout_s": 0}, "timeout_s 0"),
        ({"requests_per_minute": -1.0}, "requests_per_minute -1.0; allowed: more than 0"),
        ({"extra_body": {"n": 2}}, "extra_body.n is not yours to set"),
        ({"tasks": ["objects"]}, r"tasks\[0\]"),
    ],
)
def test_wrong_options_are_refused_and_secrets_not_quoted(options, message):
    with pytest.raises(ConfigError, match=message) as refused:
        build(OpenAi, {"model": "tiny", **options}, "specialists[0]")
    assert KEY not in str(refused.value)


def test_revision_follows_what_is_asked_and_nothing_else(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    first = OpenAi(model="tiny").prepare()
    assert OpenAi(model="tiny", concurrency=2, base_url="http://b/v1").prepare() == first
    others = [{"seed": 1}, {"max_side_px": 9}, {"prompts": {"brief": "?"}}, {"tasks": ("ocr",)}]
    revisions = {OpenAi(model="tiny", **options).prepare() for options in others}
    assert len(revisions | {first}) == 5


def test_pace_without_a_limit_waits_for_nothing():
    assert [Pace(None).delay(0.0) for _ in range(3)] == [0, 0, 0]


@given(st.floats(0.1, 10_000), st.lists(st.floats(0, 100), min_size=1))
def test_pace_spaces_requests_evenly_and_never_more(per_minute, gaps):
    pace, now, starts = Pace(per_minute), 0.0, []
    for gap in gaps:
        now += gap
        starts.append(now + pace.delay(now))
    spaces = np.diff(starts)
    assert (spaces >= 60 / per_minute - 1e-6).all()
    assert starts[0] == gaps[0]  # the first waits for nobody


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_and_as_a_date(header, seconds):
    headers = {} if header is None else {"retry-after": header}
    assert retry_after_s(headers, now=10.0) == seconds
