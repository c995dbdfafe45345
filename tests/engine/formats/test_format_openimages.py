"""Open Images' boxes and labels, read and written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import foreign, place_of, read, small_limits, write
from PIL import Image

from engine.errors import LabelsError
from engine.formats.openimages import OpenImages
from engine.formats.openimages_records import BOX_COLUMNS

HEADER = ",".join(BOX_COLUMNS)
KIND = OpenImages()


def boxes_file(folder, *lines, header=HEADER, newline="\n", name="boxes.csv", bom=b""):
    path = folder / name
    path.write_bytes(bom + newline.join([header, *lines, ""]).encode())
    return path


def photos(folder, **sizes):
    folder = folder / "images"
    folder.mkdir()
    for name, size in sizes.items():
        Image.new("RGB", size).save(folder / f"{name}.jpg")
    return folder


def line(image="a", corners="0.1,0.5,0.2,0.4", label="/m/0", score="1", flags="0,0,0,0,0"):
    return f"{image},xclick,{label},{score},{corners},{flags}"


def test_a_file_without_lines_has_no_images(tmp_path):
    told = read(KIND, boxes_file(tmp_path), images=photos(tmp_path))
    assert told.images == []
    assert write(KIND, tmp_path / "out.csv", told) == []
    assert (tmp_path / "out.csv").read_text() == HEADER + "\n"


def test_corners_become_pixels_of_the_picture(tmp_path):
    told = read(KIND, boxes_file(tmp_path, line()), images=photos(tmp_path, a=(200, 100)))
    (row,) = told.rows
    np.testing.assert_allclose(row["box"], [20, 20, 100, 40], rtol=1e-6)
    assert (row["text"], row["score"], row["human"], row["ignore"]) == ("/m/0", 1.0, True, False)
    (image,) = told.images
    assert (image["uri"], image["width"], image["height"]) == ("a.jpg", 200, 100)


def test_a_picture_on_its_side_is_measured_upright(tmp_path):
    folder = photos(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(folder / "a.jpg", exif=exif)
    (image,) = read(KIND, boxes_file(tmp_path, line()), images=folder).images
    assert (image["width"], image["height"]) == (100, 200)


def test_without_sizes_one_error_says_what_to_give(tmp_path):
    with pytest.raises(LabelsError, match=r"source\.images"):
        read(KIND, boxes_file(tmp_path, line()))


def test_a_list_of_images_tells_sizes_licences_and_which_images_there_are(tmp_path):
    info = tmp_path / "info.csv"
    info.write_text(
        "ImageID,License,Title,Width,Height\n"
        'b,CC0,"two\nlines",50,40\na,CC-BY,plain,200,100\nempty,CC0,,10,10\n'
    )
    path = boxes_file(tmp_path, line("a"), line("stranger"))
    told = read(KIND, path, annotations=place_of(info))
    shown = {image["source_id"]: image for image in told.images}
    assert {name: image["status"] for name, image in shown.items()} == {
        "a": "ok",
        "stranger": "failed",
        "b": "ok",
        "empty": "ok",
    }
    assert (shown["a"]["licence"], shown["a"]["width"]) == ("CC-BY", 200)
    assert ("stranger.jpg", "unknown_image") in [failure[:2] for failure in told.failures]
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_a_listed_id_that_looks_like_a_number_is_a_name(tmp_path):
    info = tmp_path / "info.csv"
    info.write_text("ImageID,Width,Height\n000123,200,100\n")
    told = read(KIND, boxes_file(tmp_path, line("000123")), annotations=place_of(info))
    assert [row["uri"] for row in told.rows] == ["000123.jpg"]


def test_sizes_as_datumaro_leaves_them_are_enough(tmp_path):
    (tmp_path / "images.meta").write_text("# name height width\n\na 48 64\n'sub/b, c' 20 10\n")
    path = boxes_file(tmp_path, line(), line('"sub/b, c"'))
    told = read(KIND, path)
    assert [(image["uri"], image["width"]) for image in told.images] == [
        ("a.jpg", 64),
        ("sub/b, c.jpg", 10),
    ]
    (tmp_path / "images.meta").write_text("a 48\n")
    with pytest.raises(LabelsError, match=r"images\.meta line 1: wanted an image"):
        read(KIND, path)


def test_names_of_classes_stand_beside_and_others_are_unknown(tmp_path):
    boxes_file(
        tmp_path,
        '/m/0,"Cat, tame"',
        header="LabelName,DisplayName",
        name="v6-class-descriptions.csv",
    )
    path = boxes_file(tmp_path, line(), line(label="/m/9"))
    told = read(KIND, path, images=photos(tmp_path, a=(10, 10)))
    assert [row["text"] for row in told.rows] == ["Cat, tame"]
    assert told.header.classes == ["Cat, tame"]
    ((uri, cause, message),) = told.failures
    assert (uri, cause) == ("a.jpg", "unknown_category")
    assert "line 3: LabelName 'm/9'" in message
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_flags_tell_groups_and_people_from_models(tmp_path):
    path = boxes_file(
        tmp_path,
        line(flags="0,0,1,0,0"),
        line().replace("xclick", "activemil"),
        line(flags="-1,-1,-1,-1,-1"),
    )
    rows = read(KIND, path, images=photos(tmp_path, a=(10, 10))).rows
    assert [row["ignore"] for row in rows] == [True, False, False]
    assert [row["human"] for row in rows] == [True, False, True]


@pytest.mark.parametrize(
    ("header", "record"),
    [
        (HEADER, 'a,xclick,/m/0,"0,7","0,1","0,5","0,25","0,4",0,0,0,0,0'),
        (HEADER.replace(",", ";"), "a;xclick;/m/0;0,7;0,1;0,5;0,25;0,4;0;0;0;0;0"),
        (HEADER, "a,xclick,/m/0,0,700000,0,100000,0,500000,0,250000,0,400000,0,0,0,0,0"),
        (HEADER, "a,xclick,/m/0,0,7,0,1,0,5,0,25,0,4,0,0,0,0,0"),
        (HEADER.replace(",", "\t"), "a\txclick\t/m/0\t0.7\t0.1\t0.5\t0.25\t0.4\t0\t0\t0\t0\t0"),
    ],
    ids=["quoted", "semicolons", "six bare decimals", "short bare decimals", "tabs"],
)
def test_decimal_commas_are_read_and_given_back(tmp_path, header, record):
    path = boxes_file(tmp_path, record, header=header)
    assert KIND.recognises(place_of(path), path.read_bytes())
    told = read(KIND, path, images=photos(tmp_path, a=(100, 100)))
    assert told.failures == []
    np.testing.assert_allclose(told.rows[0]["box"], [10, 25, 50, 40], rtol=1e-6)
    assert told.rows[0]["score"] == pytest.approx(0.7)
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_bare_decimal_commas_leave_whole_numbers_alone(tmp_path):
    record = "a,xclick,/m/0,1,0,100000,0,500000,0,250000,1,0,1,0,1,0"
    told = read(KIND, boxes_file(tmp_path, record), images=photos(tmp_path, a=(100, 100)))
    np.testing.assert_allclose(told.rows[0]["box"], [10, 25, 50, 100], rtol=1e-6)
    assert told.rows[0]["ignore"] is False
    assert told.rows[0]["score"] == 1.0


def test_broken_boxes_are_claims_and_other_words_are_failures(tmp_path):
    path = boxes_file(
        tmp_path,
        line(corners="nan,0.5,0.2,0.4"),
        line(corners="0.9,0.1,inf,-3"),
        line(corners="0.5,0.5,0.5,0.5"),
        line(corners="left,0.5,0.2,0.4"),
        line(score="nan"),
        "a,xclick",
        'a,"xclick',
    )
    told = read(KIND, path, images=photos(tmp_path, a=(10, 10)))
    assert len(told.rows) == 3
    assert np.isnan(told.rows[0]["box"][0])
    assert np.isinf(told.rows[1]["box"][1])
    assert [cause for _, cause, _ in told.failures] == ["bad_labels"] * 4
    assert told.failures[0][2].startswith("line 5: XMin is 'left'")
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_a_line_that_names_no_image_is_told_and_kept(tmp_path):
    path = boxes_file(tmp_path, line(), line(image=""))
    told = read(KIND, path, images=photos(tmp_path, a=(10, 10)))
    assert [(image["status"], image["uri"]) for image in told.images] == [
        ("ok", "a.jpg"),
        ("failed", "boxes.csv:3"),
    ]
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_images_whose_lines_stand_apart_are_whole_and_the_order_survives(tmp_path):
    lines = [line("a", label=f"/m/{n}") if n % 2 else line("b", label=f"/m/{n}") for n in range(9)]
    path = boxes_file(tmp_path, *lines)
    told = read(KIND, path, images=photos(tmp_path, a=(10, 10), b=(20, 20)), part_size=1)
    assert [(image["uri"]) for image in told.images] == ["b.jpg", "a.jpg"]
    assert [row["text"] for row in told.rows[:5]] == [f"/m/{n}" for n in (0, 2, 4, 6, 8)]
    write(KIND, tmp_path / "out.csv", told, lambda row: row["text"] != "/m/4")
    written = (tmp_path / "out.csv").read_text().splitlines()
    assert written == [HEADER, *lines[:4], *lines[5:]]


def test_line_ends_and_a_byte_order_mark_survive(tmp_path):
    path = boxes_file(tmp_path, line(), line(), newline="\r\n", bom=b"\xef\xbb\xbf")
    told = read(KIND, path, images=photos(tmp_path, a=(10, 10)))
    assert len(told.rows) == 2
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_labels_of_images_are_texts_but_those_that_say_no(tmp_path):
    path = boxes_file(
        tmp_path,
        "a,verification,/m/1,1",
        "a,verification,/m/2,0",
        "a,machine,/m/3,0.6",
        header="ImageID,Source,LabelName,Confidence",
    )
    told = read(KIND, path)
    assert [(row["kind"], row["text"], row["human"]) for row in told.rows] == [
        ("text", "/m/1", True),
        ("text", "/m/3", False),
    ]
    assert told.rows[1]["text_score"] == pytest.approx(0.6)
    assert "absent" in told.header.notes[0]
    write(KIND, tmp_path / "out.csv", told, lambda row: row["text"] == "/m/3")
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == [
        "a,verification,/m/2,0",
        "a,machine,/m/3,0.6",
    ]


def test_relations_are_refused(tmp_path):
    path = boxes_file(tmp_path, header="ImageID,LabelName1,LabelName2,XMin1,RelationLabel")
    assert not KIND.recognises(place_of(path), path.read_bytes())
    with pytest.raises(LabelsError, match=r"boxes\.csv line 1.*relations"):
        read(KIND, path)


def test_an_encoding_that_is_not_utf8_is_named_with_its_line(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_bytes((HEADER + "\n" + line() + "\n").encode() + line("caf\xe9").encode("cp1252"))
    with pytest.raises(LabelsError, match=r"boxes\.csv line 3: byte 0xe9"):
        read(KIND, path, images=photos(tmp_path, a=(10, 10)))
    path.write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(LabelsError, match="UTF-16"):
        read(KIND, path)


def test_an_endless_line_is_refused(tmp_path):
    path = boxes_file(tmp_path, line() + "0" * 5000)
    with pytest.raises(LabelsError, match="line 2: longer than 1000 bytes"):
        read(KIND, path, images=photos(tmp_path), limits=small_limits(1000))


def test_a_picture_that_is_missing_or_none_fails_its_image_alone(tmp_path):
    folder = photos(tmp_path, a=(10, 10))
    (folder / "b.jpg").write_text("no picture")
    path = boxes_file(tmp_path, line("a"), line("b"), line("c"), line("../../b"))
    told = read(KIND, path, images=folder)
    assert [row["uri"] for row in told.rows] == ["a.jpg"]
    assert [uri for uri, _, _ in told.failures] == ["b.jpg", "c.jpg", "b.jpg"]
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_rows_from_elsewhere_come_back_from_the_file_they_were_written_to(tmp_path):
    told = foreign(
        [
            {"uri": "x/a.jpg", "width": 640, "height": 480, "licence": "CC0"},
            {"uri": "x/a.png", "width": 10, "height": 20},
            {"uri": "empty.jpg", "width": 5, "height": 5},
        ],
        [
            {
                "uri": "x/a.jpg",
                "kind": "region",
                "role": "category",
                "text": 'say "hi", dog',
                "box": [1.5, 2, 300.25, 479],
                "score": 0.123456789,
                "ignore": True,
            },
            {
                "uri": "x/a.png",
                "kind": "region",
                "role": "brief",
                "text": "cat",
                "box": [0, 0, 10, 20],
                "human": True,
            },
            {"uri": "x/a.png", "kind": "region", "role": "proposal", "box": [0, 0, 10, 20]},
            {"uri": "x/a.png", "kind": "text", "role": "brief", "text": "a cat"},
        ],
    )
    notes = write(KIND, tmp_path / "out.csv", told)
    assert [note[:1] for note in notes] == ["1", "1"]
    back = read(KIND, tmp_path / "out.csv")
    assert back.failures == []
    assert [image["uri"] for image in back.images] == ["x/a.jpg", "x/a.png", "empty.jpg"]
    assert back.images[0]["licence"] == "CC0"
    first, second = back.rows
    np.testing.assert_allclose(first["box"], [1.5, 2, 300.25, 479], atol=1e-3)
    assert (first["text"], first["ignore"], first["human"]) == ('say "hi", dog', True, False)
    assert first["score"] == np.float32(0.123456789)
    assert (second["score"], second["human"], second["uri"]) == (None, True, "x/a.png")


@settings(max_examples=25, deadline=None)
@given(
    cells=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8),
        min_size=2,
        max_size=6,
    ),
    numbers=st.lists(st.floats(width=64), min_size=4, max_size=4),
)
def test_whatever_stands_in_further_columns_comes_back(tmp_path_factory, cells, numbers):
    folder = tmp_path_factory.mktemp("any")
    corners = ",".join(repr(number) for number in numbers)
    quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    header = ",".join([HEADER, *(f"more{n}" for n in range(len(cells)))])
    path = boxes_file(folder, f"{line(corners=corners)},{quoted}", header=header)
    told = read(KIND, path, images=photos(folder, a=(10, 10)))
    assert len(told.rows) == 1
    write(KIND, folder / "out.csv", told)
    assert (folder / "out.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "name", ["oidv6-train-annotations-bbox.csv", "train-annotations-bbox-v4.csv"]
)
def test_published_boxes_come_back_byte_for_byte(data, tmp_path, name):
    path = data / "openimages-v6-heads" / name
    folder = photos(tmp_path, **{"000002b66c9c498e": (1024, 768)})
    # the names of classes beside it are the first three alone, so none of its boxes is known there
    copy = tmp_path / name
    copy.write_bytes(path.read_bytes())
    told = read(KIND, copy, images=folder)
    assert len(told.rows) == len(path.read_text().splitlines()) - 1
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_published_labels_of_images_come_back_byte_for_byte(data, tmp_path):
    path = data / "openimages-v6-heads" / "train-annotations-human-imagelabels-boxable.csv"
    write(KIND, tmp_path / "out.csv", read(KIND, path))
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("oidv6-train-annotations-bbox.csv", 1),
        ("test-annotations-bbox.csv", 1),
        ("train-annotations-object-segmentation.csv", 1),
        ("oidv6-train-annotations-human-imagelabels.csv", 1),
        ("test-annotations-human-imagelabels.csv", 2),
    ],
)
def test_datumaros_fixtures_come_back_byte_for_byte(data, tmp_path, name, count):
    folder = data / "format-fixtures" / "open_images_dataset" / "v6"
    path = folder / "annotations" / name
    told = read(KIND, path, images=folder / "images")
    assert told.failures == []
    assert len(told.rows) == count
    assert all(row["text"].startswith("Generic label #") for row in told.rows)
    write(KIND, tmp_path / "out.csv", told)
    assert (tmp_path / "out.csv").read_bytes().split() == path.read_bytes().split()
