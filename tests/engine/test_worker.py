"""How the host of a specialist takes its answers. Whole runs: tests/faults."""

from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from engine.protocols import Answer, Resources
from engine.schema import claims, empty_claims
from engine.worker import BATCH, Host, SpecialistSpec


@dataclass(kw_only=True)
class Service:
    """Answers as told; counts how often it is asked."""

    answers: dict[str, object]
    name: str = "service"
    model: str = "m"
    quiet_limit: int | None = None
    produces: tuple[str, ...] = ("text/brief",)
    requires: tuple[str, ...] = ()
    replaces: str = "never"
    resources: Resources = field(default_factory=Resources)
    asked: list[list[str]] = field(default_factory=list)

    def needs(self):
        return []

    def prepare(self):
        return "r"

    def load(self):
        """Nothing."""

    def annotate(self, images, rows):
        keys = [image.image_key for image in images]
        self.asked.append(keys)
        good = [key for key in keys if self.answers.get(key) is None]
        bad = [(key, *self.answers[key]) for key in keys if self.answers.get(key) is not None]
        told = claims(image_key=good, kind="text", role="brief", text=["hello"] * len(good))
        return Answer(rows=told, failures=bad, usage={"tokens": 10 * len(keys)})


def batch(*keys):
    columns = [list(keys), [1] * len(keys), [1] * len(keys), [b""] * len(keys)]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, BATCH, strict=True)]
    return pa.Table.from_arrays(arrays, schema=BATCH)


def ask(answers, *keys):
    service = Service(answers=answers)
    rows, receipt = Host(SpecialistSpec(service, "r")).annotate(batch(*keys), None)
    return service, rows, receipt


def test_a_failure_told_by_the_specialist_is_that_images_alone_and_nobody_is_asked_twice():
    service, rows, receipt = ask({"b": ("refused", "429 too many")}, "a", "b", "c")
    assert rows["image_key"].to_pylist() == ["a", "c"]
    [(key, failure)] = receipt.failures
    assert (key, failure.stage, failure.source, failure.cause, failure.message) == (
        *("b", "annotate", "service", "refused"),
        "429 too many",
    )
    assert service.asked == [["a", "b", "c"]]


def test_what_an_answer_cost_is_in_the_receipt():
    _, _, receipt = ask({"a": ("bad_answer", "")}, "a", "b")
    assert receipt.usage == {"tokens": 20}


@pytest.mark.parametrize("key", ["foreign", "z"])
def test_a_failure_of_an_image_that_was_not_given_is_refused(key):
    class Lying(Service):
        def annotate(self, images, rows):
            return Answer(rows=empty_claims(), failures=[(key, "refused", "")])

    host = Host(SpecialistSpec(Lying(answers={}), "r"))
    rows, receipt = host.annotate(batch("a"), None)
    assert rows.num_rows == 0
    assert [(k, f.cause) for k, f in receipt.failures] == [("a", "bad_rows")]
    assert f"failure of '{key}', not among the images" in receipt.failures[0][1].message


def test_a_cause_that_is_not_known_is_the_specialists_own_error():
    _, rows, receipt = ask({"a": ("whatever", "")}, "a", "b")
    assert rows["image_key"].to_pylist() == ["b"]
    assert [(k, f.cause) for k, f in receipt.failures] == [("a", "raised")]
