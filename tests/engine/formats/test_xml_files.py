"""XML kept to the letter: where elements stand, in a stream cut anywhere, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.formats.records import Skeleton, skeleton_of
from engine.formats.xml_files import (
    Container,
    XmlError,
    attribute,
    containers,
    join_elements,
    parse_root,
    skeleton_of_container,
    spelled,
    text_element,
)

ODD = """\ufeff<?xml version="1.0" encoding="UTF-8"?>
<!-- <image/> --><annotations a='>'><version>1.1</version><meta x="1"/>
 <image id="1" name="\u00e9>x.jpg"/><image id="2">
   <box a="/>"/><box></box ><poly x='1'><box/></poly><!-- <box/> --><![CDATA[<box/>]]></image
 ><image></image>
</annotations>
"""


def found(text, size):
    data = text.encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    return list(containers(chunks, depth=1, tag="image", max_bytes=10_000))


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_elements_are_found_where_they_stand_however_the_file_is_cut(size):
    parts = found(ODD, size)
    images = [part for part in parts if isinstance(part, Container)]
    children = [[image.text[s.start : s.end] for s in image.spans] for image in images]
    assert children == [[], ['<box a="/>"/>', "<box></box >", "<poly x='1'><box/></poly>"], []]
    assert "".join(image.before + image.text for image in images) + parts[-1] == ODD
    assert [part.tag for part in parts[:2]] == ["version", "meta"]


NAMES = st.sampled_from(["a", "image", "b-c", "\u00e9"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=9)


@given(st.lists(st.tuples(NAMES, TEXTS, st.booleans()), max_size=5), st.integers(1, 40))
def test_any_elements_come_back_as_they_were(records, size):
    inside = [
        f"<{name} x={attribute(text)}/>" if odd else f"<{name}>{text_element('t', text)}</{name}>"
        for name, text, odd in records
    ]
    text = f"<annotations><image>{' '.join(inside)}</image></annotations>"
    image, tail = found(text, size)
    assert [image.text[span.start : span.end] for span in image.spans] == inside
    assert image.before + image.text + tail == text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "line 1: .*refused", id="entity"),
        pytest.param(b'\n<!DOCTYPE a SYSTEM "file:///x"><a/>', "line 2: .*refused", id="external"),
        pytest.param(b"<a>\n<b></a>", "line 2, column 6: no well-formed XML: mis", id="unbalanced"),
        pytest.param(b"", "line 1, column 1: no well-formed XML", id="empty"),
        pytest.param(b"<a>\xff</a>", "line 1, column 4: no well-formed XML", id="not-utf-8"),
        pytest.param("<a/>".encode("utf-16"), "line 1: is not UTF-8", id="utf-16"),
        pytest.param(
            b'<?xml version="1.0" encoding="x-y"?><a/>', "'x-y' is not known", id="unknown"
        ),
        pytest.param(b'<?xml version="1.0" encoding="utf-7"?><a/>', "is not read", id="utf-7"),
        pytest.param(b"<a>" * 100, "nested deeper than 64", id="deep"),
        pytest.param(b"<a>&undefined;</a>", "undefined entity", id="undefined"),
    ],
)
def test_what_is_broken_or_unsafe_is_refused_with_its_line(data, said):
    with pytest.raises(XmlError, match=said):
        parse_root(data, max_bytes=1000)


def test_an_image_that_never_ends_is_refused_before_it_fills_the_memory():
    endless = iter([b"<a><image>", *[b"x" * 100] * 1000])
    with pytest.raises(XmlError, match=r"more than 1000 bytes .* without the end of one <image>"):
        list(containers(endless, depth=1, tag="image", max_bytes=1000))
    assert sum(1 for _ in endless) > 900  # most of it was never read


def test_a_record_can_be_added_to_an_element_that_was_empty():
    for text, written in [
        ("<image id='1'/>", "<image id='1'>\n  <box/>\n</image>"),
        ("<image></image>", "<image>\n  <box/></image>"),
    ]:
        root, tail = parse_root(text.encode(), max_bytes=1000)
        skeleton = skeleton_of_container(root, [], tail)
        assert join_elements(skeleton, {}, [], tag="image", indent="\n  ") == text
        assert join_elements(skeleton, {}, ["<box/>"], tag="image", indent="\n  ") == written


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        ([], "[ ]"),
        ([0], "[ a ]"),
        ([2], "[ c ]"),
        ([0, 2], "[ a;, c ]"),
        ([0, 1, 2], "[ a,; b;, c ]"),
    ],
)
def test_separators_go_with_the_record_before_which_they_stand(kept, text):
    """A sign that is neither blank nor comma belongs to the file and stays."""
    skeleton = Skeleton("[ ", (", ", ", "), " ]")
    plain = text.replace(";", "")
    records = dict(enumerate("abc"))
    assert skeleton.join({n: records[n] for n in kept}, comma=",") == plain.replace("[ ]", "[  ]")


def test_what_is_no_record_stays_wherever_records_go():
    skeleton = Skeleton("<", (" own ", " "), ">", {1: "fixed"})
    assert skeleton.join({}) == "< own fixed>"
    assert skeleton.join({0: "a", 2: "c"}, ["new"]) == "<a own fixed cnew>"


def test_a_number_that_no_file_has_costs_nothing():
    assert Skeleton("[", (), "]").join({10**15: "a", 10**16: "b"}, comma=",") == "[a,b]"


@given(TEXTS, st.lists(TEXTS, max_size=3), TEXTS)
def test_a_skeleton_survives_its_json(head, between, tail):
    skeleton = Skeleton(head, between, tail, {3: tail})
    assert skeleton_of(skeleton.to_json(path="a/b")) == skeleton


@pytest.mark.parametrize("extra", ["", "null", "[]", "{}", '{"head": 1}', "\x00", '"text"'])
def test_what_is_no_skeleton_is_told_from_one(extra):
    assert skeleton_of(extra) is None


@given(st.floats(width=32, allow_nan=False))
def test_numbers_are_spelled_so_that_they_come_back(value):

    assert np.float32(float(spelled(value))) == np.float32(value)
