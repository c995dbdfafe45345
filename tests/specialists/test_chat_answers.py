"""What a chat endpoint says about text in a picture: lines of the shape asked for, or a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specialist_photos import noise

from specialists.chat_answers import AskError, Lines, read_lines


def test_no_lines_are_no_rows():
    assert Lines(lines=[]).boxes(noise("a", 2, 2)).shape == (0, 4)


@given(st.tuples(*[st.floats(0, 1000)] * 4), st.integers(1, 100_000), st.integers(1, 100_000))
def test_boxes_of_the_grid_lie_within_the_picture(box, width, height):
    class Size:
        pass

    image = Size()
    image.width, image.height = width, height
    lines = Lines.model_validate_json(
        json.dumps({"lines": [{"text": "", "box": box}, {"text": "", "box": [0, 0, 1000, 1000]}]})
    )
    inside, whole = lines.boxes(image)
    assert whole.tolist() == [0, 0, width, height]
    assert (inside >= 0).all()
    assert (inside <= whole[[2, 3, 2, 3]]).all()


@pytest.mark.parametrize(
    "text",
    [
        '{"lines": [{"text": "A", "box": [1, 2, 3, 4]}]}',
        '```json\n{"lines": [{"text": "A", "box": [1, 2, 3, 4]}]}\n```',
        '```\n{"lines": [{"text": "A", "box": [1, 2, 3, 4], "language": "en"}]}```',
    ],
)
def test_lines_are_read_with_and_without_a_fence(text):
    assert read_lines(text).model_dump() == {"lines": [{"text": "A", "box": (1, 2, 3, 4)}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "Input should be an object"),
        ("{}", "lines: Field required"),
        ("```", "Invalid JSON"),
        ("``````", "Invalid JSON"),
        ('{"lines": [{"text": "A"}]}', "lines.0.box: Field required"),
        (
            '{"lines": [{"text": 5, "box": [1, 2, 3, 4]}]}',
            "lines.0.text: Input should be a valid s",
        ),
        ('{"lines": [{"text": "A", "box": [1, 2, 3]}]}', "lines.0.box.3: Field required"),
        (
            '{"lines": [{"text": "A", "box": [1, 2, 3, "4"]}]}',
            "lines.0.box.3: Input should be a va",
        ),
        ('{"lines": [{"text": "A", "box": [1, 2, 3, 1001]}]}', "less than or equal to 1000"),
        ('{"lines": [{"text": "A", "box": [1, 2, 3, NaN]}]}', "lines.0.box.3"),
    ],
)
def test_lines_of_another_shape_are_told(text, message):
    with pytest.raises(AskError, match=message) as refused:
        read_lines(text)
    assert refused.value.cause == "bad_answer"
