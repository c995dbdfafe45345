"""YOLO: lines, layouts, names, pictures that are missing, and what Ultralytics makes of it."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.config import LimitsConfig
from engine.errors import LabelsError
from engine.formats.label_files import Paths
from engine.formats.shapes import LabelSet, ReadOptions
from engine.formats.yolo import Yolo
from tests.builders import tables
from tests.label_folders import (
    boxes,
    content,
    copy,
    export,
    failures,
    fill,
    nothing,
    picture,
    place,
    read,
)

WHOLE = "0 0.5 0.5 1 1"
ONCE = (".txt", ".yaml", ".names", ".data")
NAMES = "names: [cat, no, 'd \u00fc']\n"


def flat(tmp_path, text, *, width=100, height=50, more=()):
    """One picture and its label file in one folder, and names for three classes."""
    source = fill(tmp_path / "yolo", {"a.txt": text, "data.yaml": NAMES, **dict(more)})
    picture(source / "a.png", width, height)
    return source


def test_an_empty_folder_is_an_empty_set(tmp_path):
    _, images, rows = read(Yolo(), fill(tmp_path, {}))
    assert (images.num_rows, rows.num_rows) == (0, 0)


def test_lines_are_boxes_outlines_and_scores(tmp_path):
    lines = [
        "0 0.5 0.5 0.2 0.4",
        "1 0.5 0.5 0.2 0.4 0.75",
        "2 0.1 0.2 0.3 0.2 0.3 0.4",
        "2 0.1 0.2 0.3 0.2 0.3 0.4 0.5",
        "2 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.6",
    ]
    header, images, rows = read(Yolo(), flat(tmp_path, "\n".join(lines)))
    assert header.classes == ["cat", "no", "d \u00fc"]
    assert rows["text"].to_pylist() == ["cat", "no", "d \u00fc", "d \u00fc", "d \u00fc"]
    assert boxes(rows) == [
        [40, 15, 60, 35],
        [40, 15, 60, 35],
        [10, 10, 30, 20],
        [10, 10, 30, 20],
        [10, 10, 30, 30],
    ]
    assert rows["score"].to_pylist() == [None, 0.75, None, 0.5, None]
    rings = [None if rings is None else np.round(rings, 3).tolist() for rings in outlines(rows)]
    assert rings == [
        None,
        None,
        *[[[10, 10, 30, 10, 30, 20]]] * 2,
        [[10, 10, 30, 10, 30, 20, 10, 30]],
    ]
    assert images.select(["uri", "width", "height"]).to_pylist() == [
        {"uri": "a.png", "width": 100, "height": 50}
    ]


def outlines(rows):
    return rows["polygon"].to_pylist()


def test_poses_keep_their_points_behind_the_box(tmp_path):
    names = ("data.yaml", "kpt_shape: [2, 3]\nnames: {0: person}\n")
    line = "0 0.5 0.5 0.2 0.4 0.1 0.2 2 0.3 0.4 1"
    source = flat(tmp_path, f"{line}\n{line} 0.5\n", more=[names])
    _, _, rows = read(Yolo(), source)
    assert boxes(rows) == [[40, 15, 60, 35]] * 2
    assert rows["polygon"].to_pylist() == [None, None]
    assert rows["score"].to_pylist() == [None, 0.5]
    copy(Yolo(), source, tmp_path / "out")
    assert (tmp_path / "out/a.txt").read_text() == f"{line}\n{line} 0.5\n"


def test_a_box_that_rounding_pushed_over_the_border_ends_there(tmp_path):
    lines = "0 0.133333 0.5 0.266667 1.0\n0 0.866667 0.5 0.266667 1\n0 0.13 0.5 0.28 1\n"
    _, _, rows = read(Yolo(), flat(tmp_path, lines, width=15, height=10))
    found = np.array(rows["box"].to_pylist())
    assert found[0, 0] == 0
    assert found[1, 2] == 15
    assert found[2, 0] == pytest.approx(-0.15, abs=1e-5)  # too far out to be rounding


def test_broken_numbers_are_rows_as_claimed_and_no_numbers_are_failures(tmp_path):
    lines = ["0 nan 0.5 0.2 0.4", "0 0.5 0.5 -0.2 inf", "0 2 2 1 1", "0 0.1 nan 0.3 0.2 0.3 0.4"]
    lines[2] = f"0 2 2 1e{'0' * 5000} 1"  # one unit, in more digits than Python converts
    bad = [
        "0 x 0.5 0.2 0.4",
        "0 0.5 0.5",
        "0.5 0.5 0.5 0.1 0.1",
        "-1 0.5 0.5 0.1 0.1",
        "3 0.5 0.5 0.1 0.1",
        "1_0 0.5 0.5 0.1 0.1",
        "nan 0.5 0.5 0.1 0.1",
        "0",
    ]
    _, images, rows = read(Yolo(), flat(tmp_path, "\n".join([*lines, "", *bad])))
    assert rows.num_rows == 4
    assert np.isnan(rows["box"].to_pylist()[0][0])
    assert boxes(rows)[2] == [150, 75, 250, 125]
    assert outlines(rows) == [None] * 4
    told = failures(images)
    causes = ["bad_labels"] * 3 + ["unknown_category"] * 2 + ["bad_labels"] * 3
    assert [cause for cause, _ in told] == causes
    assert [f"line {number}:" in said for number, (_, said) in enumerate(told, start=6)] == [
        True
    ] * 8


def test_a_score_that_is_no_number_is_told_and_left_out(tmp_path):
    _, images, rows = read(Yolo(), flat(tmp_path, "0 0.5 0.5 0.2 0.4 nan"))
    assert rows["score"].to_pylist() == [None]
    assert failures(images) == [("bad_labels", "a.txt: line 1: score 'nan' is not a finite number")]


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"data.yaml": "names:\n- cat\n- dog\n"}, id="list"),
        pytest.param({"data.yaml": "names: {1: dog, 0: cat}"}, id="mapping"),
        pytest.param({"classes.txt": "cat\r\ndog\r\n\r\n"}, id="classes-txt"),
        pytest.param({"obj.names": "cat\ndog", "obj.data": "names = obj.names"}, id="darknet"),
    ],
)
def test_names_of_classes_come_from_any_of_their_files(tmp_path, files):
    source = fill(tmp_path / "in", {"labels/a.txt": "1 0.5 0.5 1 1\n", **files})
    picture(source / "images/a.png", 8, 8)
    header, _, rows = read(Yolo(), source)
    assert (list(header.classes), rows["text"].to_pylist()) == (["cat", "dog"], ["dog"])
    copy(Yolo(), source, tmp_path / "out")
    assert content(tmp_path / "out") == content(
        source, endings=(".txt", ".yaml", ".names", ".data")
    )


def test_without_names_a_class_is_its_number_and_given_names_win(tmp_path):
    source = fill(tmp_path / "in", {"a.txt": "7 0.5 0.5 1 1\n"})
    picture(source / "a.png", 8, 8)
    assert read(Yolo(), source)[2]["text"].to_pylist() == ["7"]
    assert read(Yolo(), source, classes=list("abcdefgh"))[2]["text"].to_pylist() == ["h"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [a\n", r"data.yaml: line 2: no YAML"),
        ("names: {a: b}\n", r"names has a key that is no number"),
        ("names: 7\n", r"wanted a list of texts"),
        ("names: [[a]]\n", r"wanted a list of texts"),
        ("names: {9999999999: a}\n", r"wanted a list of texts"),
        ("names: [a]\nkpt_shape: 17\n", r"kpt_shape is '17'"),
    ],
)
def test_names_that_cannot_be_understood_are_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(LabelsError, match=said) as caught:
        read(Yolo(), flat(tmp_path, "", more=[("data.yaml", text)]))
    assert "\n" not in str(caught.value)


def test_an_alias_bomb_or_a_python_object_of_yaml_is_no_harm(tmp_path):
    pairs = zip("abcdefgh", "bcdefghi", strict=True)
    deep = "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in pairs)
    text = f"a: &a [x]\n{deep}z: !!python/object/apply:os.system [ls]\nnames: [cat]\n"
    source = flat(tmp_path, "0 0.5 0.5 1 1", more=[("data.yaml", text)])
    assert read(Yolo(), source)[2]["text"].to_pylist() == ["cat"]


def test_a_copy_is_the_same_to_the_letter(tmp_path):
    files = {
        "data.yaml": "# mine\npath: .\ntrain: images/train\nval: val.txt\nnames:\n  0: cat\n",
        "val.txt": "./images/val/d.png\n/abs/images/val/e.png\n",
        "labels/train/a.txt": "0 .5 5e-1 0.20 0.400000  0.5\r\n0 0.1 0.1 0.2 0.1 0.2 0.2\r\n",
        "labels/train/empty.txt": "",
        "labels/val/d.txt": "\ufeff0 0.5 0.5 1 1",
        "labels/val/e.txt": "0 0.5 0.5 1 1\n",
    }
    source = fill(tmp_path / "in", files)
    for name in ("train/a", "train/empty", "train/background", "val/d", "val/e"):
        picture(source / f"images/{name}.png", 8, 8)
    _, images, rows = read(Yolo(), source)
    assert (images.num_rows, rows.num_rows, failures(images)) == (5, 4, [])
    assert copy(Yolo(), source, tmp_path / "out") == []
    assert content(tmp_path / "out") == content(source, endings=(".txt", ".yaml"))


def test_a_file_whose_lines_all_go_stays_as_an_empty_file(tmp_path):
    copy(Yolo(), flat(tmp_path, "0 0.5 0.5 1 1\n"), tmp_path / "out", keep=nothing)
    assert content(tmp_path / "out") == {"a.txt": b"", "data.yaml": NAMES.encode()}


def test_labels_without_a_picture_are_rows_of_an_unknown_image(tmp_path):
    source = flat(tmp_path, "0 0.5 0.5 1 1\n", more=[("b.txt", "1 0.5 0.5 1 1 0.5\n")])
    _, images, rows = read(Yolo(), source)
    assert images["status"].to_pylist() == ["ok", "failed"]
    assert failures(images) == [("unknown_image", "b.txt: there is no picture of that name")]
    assert rows.select(["text", "box", "score"]).to_pylist()[1] == {
        "text": "no",
        "box": None,
        "score": 0.5,
    }
    copy(Yolo(), source, tmp_path / "out")
    assert content(tmp_path / "out") == content(source, endings=(".txt", ".yaml"))


def test_without_any_picture_one_line_says_what_to_give(tmp_path):
    with pytest.raises(LabelsError, match=r"give their folder as source\.images"):
        read(Yolo(), fill(tmp_path, {"a.txt": "0 0.5 0.5 1 1\n"}))


def test_pictures_may_lie_elsewhere(tmp_path):
    source = fill(tmp_path / "in", {"labels/train/a.txt": WHOLE, "labels/b.txt": WHOLE})
    picture(tmp_path / "photos/train/a.png", 8, 4)
    picture(tmp_path / "photos/deep/b.png", 6, 2)
    picture(tmp_path / "photos/other/c.png", 6, 2)
    _, images, rows = read(Yolo(), source, images=place(tmp_path / "photos").location)
    assert images["uri"].to_pylist() == ["deep/b.png", "other/c.png", "train/a.png"]
    assert boxes(rows) == [[0, 0, 6, 2], [0, 0, 8, 4]]


def test_a_bare_name_that_two_pictures_bear_decides_nothing(tmp_path):
    source = fill(tmp_path / "in", {"a.txt": "0 0.5 0.5 1 1"})
    for folder in ("x", "y"):
        picture(tmp_path / f"photos/{folder}/a.png", 8, 4)
    _, images, _ = read(Yolo(), source, images=place(tmp_path / "photos").location)
    assert [cause for cause, _ in failures(images)] == ["unknown_image"]


def test_a_second_label_file_of_a_picture_is_told_and_kept(tmp_path):
    source = fill(tmp_path / "in", {"labels/a.txt": WHOLE, "x/labels/a.txt": "1 0.5 0.5 1 1"})
    picture(source / "images/a.png", 8, 4)
    _, images, rows = read(Yolo(), source)
    assert {cause for cause, _ in failures(images)} == {"duplicate_id"}
    assert rows["text"].to_pylist() == ["0", "1"]
    copy(Yolo(), source, tmp_path / "out")
    assert content(tmp_path / "out") == content(source, endings=(".txt",))


def test_fractions_are_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    Image.new("L", (40, 20)).save(turned, "jpeg", exif=exif)
    source = fill(tmp_path, {"a.txt": "0 0.5 0.5 1 1", "a.jpg": turned.getvalue()})
    assert boxes(read(Yolo(), source)[2]) == [[0, 0, 20, 40]]


def test_a_picture_without_a_readable_size_is_told(tmp_path):
    source = fill(tmp_path, {"a.txt": "0 0.5 0.5 1 1", "a.jpg": b"no picture"})
    _, images, rows = read(Yolo(), source)
    assert rows["box"].to_pylist() == [None]
    assert failures(images) == [("bad_labels", "a.jpg: has no readable size, so no boxes")]


def test_a_label_file_that_is_not_utf8_or_too_large_is_a_failure(tmp_path):

    source = flat(tmp_path, b"0 0.5 0.5 1 1\n\xff\n", more=[("b.txt", "0 0.5 0.5 1 1\n" * 99)])
    picture(source / "b.png", 8, 8)
    _, images, _ = read(Yolo(), source, limits=LimitsConfig(max_label_bytes=100))
    assert failures(images) == [
        ("bad_labels", "a.txt: line 2: byte FF is not UTF-8; save it as UTF-8"),
        ("too_many_labels", "b.txt: larger than limits.max_label_bytes (100)"),
    ]
    copy(Yolo(), source, tmp_path / "out", limits=LimitsConfig(max_label_bytes=100))
    assert sorted(content(tmp_path / "out")) == ["data.yaml"]


def test_lists_lose_the_pictures_that_are_not_written(tmp_path):
    source = fill(
        tmp_path / "in",
        {
            "train.txt": "images/a.png\nimages/b.png\nimages/gone.png\n",
            "data.yaml": NAMES,
            "labels/a.txt": "",
            "labels/b.txt": "",
        },
    )
    for name in "ab":
        picture(source / f"images/{name}.png", 8, 8)
    labels = Yolo().read(place(source), ReadOptions())
    (part,) = labels.parts
    assert part.images["uri"].to_pylist() == ["images/a.png", "images/b.png", "images/gone.png"]
    (tmp_path / "out").mkdir()
    kept = part._replace(images=part.images.take([0, 2]))
    Yolo().write(place(tmp_path / "out"), LabelSet(labels.header, iter([kept])))
    written = content(tmp_path / "out")
    assert written["train.txt"] == b"images/a.png\nimages/gone.png\n"
    assert "labels/b.txt" not in written


def exported(tmp_path, **columns):
    made = tables(**columns)
    images = made.images.set_column(1, "uri", [["images/train/a.png"]])
    notes = export(Yolo(), tmp_path, images, made.annotations)
    picture(tmp_path / "images/train/a.png", 100, 80)
    return notes


def test_rows_of_other_origin_come_back(tmp_path):
    notes = exported(
        tmp_path,
        text=["dog", "no: 1", "dog", "x"],
        box=[[0, 0, 100, 80], [1.5, 2.25, 30, 40], [10, 10, 11, 11], None],
        score=[0.5, None, None, None],
        ignore=[False, True, False, False],
    )
    _, _, rows = read(Yolo(), tmp_path)
    assert rows["text"].to_pylist() == ["dog", "no: 1", "dog"]
    assert boxes(rows) == [[0, 0, 100, 80], [1.5, 2.25, 30, 40], [10, 10, 11, 11]]
    assert notes == [
        "yolo: 1 scores are not written: a set to train on has no sixth column",
        "yolo: 1 boxes to be ignored (crowd, difficult) are written as any other",
        "yolo: 1 rows of region/category without a box are not written",
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 4096, width=32), min_size=4, max_size=4))
def test_any_box_comes_back_within_a_thousandth_of_a_pixel(tmp_path_factory, sides):
    folder = tmp_path_factory.mktemp("yolo")
    box = [min(sides[0::2]), min(sides[1::2]), max(sides[0::2]), max(sides[1::2])]
    made = tables(text=["a"], box=[box], width=4096, height=4096)
    export(Yolo(), folder, made.images.set_column(1, "uri", [["a.png"]]), made.annotations)
    picture(folder / "a.png", 4096, 4096)
    _, _, rows = read(Yolo(), folder)
    assert rows["box"].to_pylist()[0] == pytest.approx(box, abs=1e-3)


@pytest.mark.parametrize("outlined", [False, True])
def test_ultralytics_takes_what_is_written_for_it(tmp_path, outlined):
    verify = pytest.importorskip("ultralytics.data.utils").verify_image_label
    ring = [[10.0, 10.0, 50.0, 10.0, 50.0, 40.0]]
    columns = {
        "text": ["dog", "cat"],
        "box": [[10, 10, 50, 40], [0, 0, 100, 80]],
        "score": [0.5, 0.5],
    }
    exported(tmp_path, **columns, polygon=[ring, None] if outlined else None)
    image, label = tmp_path / "images/train/a.png", tmp_path / "labels/train/a.txt"
    found = verify((str(image), str(label), "", False, 2, 0, 0, False))
    assert found[1] is not None, found[-1]
    assert found[1].tolist() == [
        pytest.approx([0, 0.3, 0.3125, 0.4, 0.375]),
        pytest.approx([1, 0.5, 0.5, 1, 1]),
    ]
    assert len(found[3]) == 2 * outlined


def test_an_image_without_a_size_cannot_be_written(tmp_path):
    made = tables(text=["a"], box=[[0, 0, 1, 1]], width=None, height=None)
    images = made.images.set_column(1, "uri", [["a.png"]])
    with pytest.raises(LabelsError, match=r"a\.png: has no width and height.*source\.images"):
        export(Yolo(), tmp_path, images, made.annotations)


def test_no_name_of_an_image_leads_out_of_the_output(tmp_path):
    names = [
        "../../a.png",
        "/etc/b.png",
        "..\\..\\c.png",
        "\\x2e\\x2e/\\x2e\\x2e/d.png",
        "C:/e.png",
        "..",
        "",
    ]
    made = tables(image_key=[str(n) for n in range(7)], text=["a"] * 7, box=[[0, 0, 1, 1]] * 7)
    images = made.images.set_column(1, "uri", [names])
    export(Yolo(), tmp_path / "deep/er/out", images, made.annotations)
    assert [path for path in content(tmp_path) if not path.startswith("deep/er/out/")] == []
    assert len(content(tmp_path, endings=(".txt",))) == 7


def test_paths_are_given_once():
    paths = Paths()
    assert [paths.claim(name) for name in ("a.txt", "a.txt", "a-2.txt", "a.txt")] == [
        "a.txt",
        "a-2.txt",
        "a-2-2.txt",
        "a-3.txt",
    ]
    assert paths.renamed == 3


def test_it_knows_its_sets_by_yaml_darknet_or_lines(tmp_path):
    def knows(name, files):
        return Yolo().recognises(place(fill(tmp_path / name, files)), b"")

    assert knows("a", {"data.yaml": NAMES})
    assert knows("b", {"obj.data": ""})
    assert knows("c", {"labels/train/a.txt": "0 0.5 0.5 1 1"})
    assert not knows("d", {})
    assert not knows("e", {"a.txt": "1,2,3,4,5,6,7,8,word", "b.yaml": "runner: ray"})
    assert not knows("f", {"train.txt": "a.jpg 4\n"})
    assert not knows("g", {"a.txt": '38 43 920 215 "Tiredness"'})


def test_data_yaml_stands_for_its_folder(tmp_path):
    source = flat(tmp_path, "0 0.5 0.5 1 1")
    assert Yolo().recognises(place(source / "data.yaml"), NAMES.encode())
    assert read(Yolo(), source / "data.yaml")[2].num_rows == 1


SAMPLES = [
    "yolo",
    "yolov8_detection",
    "yolov8_detection_with_list_of_imgs",
    "yolov8_detection_with_list_of_names",
    "yolov8_detection_with_subset_txt",
    "yolov8_oriented_boxes",
    "yolov8_pose",
    "yolov8_pose_two_values_per_point",
    "yolov8_segmentation",
]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_come_back_to_the_letter(data, tmp_path, name):
    source = data / "format-fixtures/yolo_dataset" / name
    _, images, rows = read(Yolo(), source)
    assert (images.num_rows, rows.num_rows > 0, failures(images)) == (1, True, [])
    assert copy(Yolo(), source, tmp_path) == []
    assert content(tmp_path) == content(source, endings=ONCE)


def test_the_labels_of_the_photos_come_back_and_lie_inside_them(data, tmp_path):
    photos = place(data / "coco80/images").location
    source = data / "coco80/labels-yolo"
    _, images, rows = read(Yolo(), source, images=photos, part_size=16)
    assert images.num_rows == 80
    found = np.array(rows["box"].to_pylist())
    keys = {key: n for n, key in enumerate(images["image_key"].to_pylist())}
    at = [keys[key] for key in rows["image_key"].to_pylist()]
    sides = np.stack([images["width"].to_numpy(), images["height"].to_numpy()], axis=1)[at]
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= sides).all()
    copy(Yolo(), source, tmp_path, images=photos)
    assert content(tmp_path) == content(source)
