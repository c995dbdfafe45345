"""ImageNet: folders, lists with names, localisation; and that no format takes another's folder."""

import pytest

from engine.config import LimitsConfig
from engine.errors import LabelsError
from engine.formats.cvat import Cvat
from engine.formats.icdar import Icdar
from engine.formats.imagenet import ImageNet
from engine.formats.labelme import LabelMe
from engine.formats.voc import Voc
from engine.formats.yolo import Yolo
from tests import tiny
from tests.builders import tables
from tests.label_folders import (
    content,
    copy,
    export,
    failures,
    fill,
    nothing,
    place,
    read,
)

NAMES = "n01440764 tench, Tinca tinca\nno\n\u00fc x\n"


def lists(tmp_path, text, names=NAMES):
    return fill(tmp_path / "in", {"train.txt": text, "synset_words.txt": names})


def test_an_empty_folder_is_an_empty_set(tmp_path):
    assert read(ImageNet(), fill(tmp_path, {}))[1].num_rows == 0


def test_a_list_gives_each_image_its_classes(tmp_path):
    source = lists(tmp_path, 'a.jpg 1\n"b c.jpg" 0 2\r\nd/e f.jpg 2\nnone.jpg\n\n')
    header, images, rows = read(ImageNet(), source)
    assert list(header.classes) == ["n01440764 tench, Tinca tinca", "no", "\u00fc x"]
    assert images["uri"].to_pylist() == ["a.jpg", "b c.jpg", "d/e f.jpg", "none.jpg"]
    assert rows["text"].to_pylist() == [
        "no",
        "n01440764 tench, Tinca tinca",
        "\u00fc x",
        "\u00fc x",
    ]
    names = ["kind", "role", "prompt", "box", "human"]
    assert set(map(tuple, (row.values() for row in rows.select(names).to_pylist()))) == {
        ("text", "alt", "cls", None, False)
    }


def test_numbers_without_names_stay_numbers_and_given_names_win(tmp_path):
    source = fill(tmp_path, {"train.txt": "a.jpg 2\n"})
    assert read(ImageNet(), source)[2]["text"].to_pylist() == ["2"]
    assert read(ImageNet(), source, classes=["x", "y", "z"])[2]["text"].to_pylist() == ["z"]


def test_a_class_without_a_name_is_a_failure(tmp_path):
    source = lists(tmp_path, f"a.jpg 1\nb.jpg 3\nc.jpg {'9' * 5000}\n")
    _, images, rows = read(ImageNet(), source)
    assert rows["text"].to_pylist() == ["no"]
    assert [cause for cause, _ in failures(images)] == ["unknown_category"] * 2
    assert "train.txt: line 2: class 3; 3 classes are named" in failures(images)[0][1]


def test_an_image_that_stands_twice_is_told(tmp_path):
    _, images, rows = read(ImageNet(), lists(tmp_path, "a.jpg 1\na.jpg 2\n"))
    assert (images.num_rows, rows.num_rows) == (2, 2)
    assert failures(images) == [("duplicate_id", "a.jpg: a second record of this image")]


def test_a_copy_is_the_same_to_the_letter(tmp_path):
    files = {"val.txt": 'x/a.jpg 1\n"b c.jpg" 0 02\nnone.jpg\n', "train.txt": "\u00fc.jpg 2\n"}
    source = fill(lists(tmp_path, ""), files)
    assert copy(ImageNet(), source, tmp_path / "out") == []
    assert content(tmp_path / "out") == content(source)


def test_an_image_that_loses_its_classes_keeps_its_line(tmp_path):
    copy(ImageNet(), lists(tmp_path, "a.jpg 1\nb.jpg 0 2\n"), tmp_path / "out", keep=nothing)
    assert content(tmp_path / "out")["train.txt"] == b"a.jpg\nb.jpg\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a.jpg 1\n\xff.jpg 1\n", r"train\.txt: line 2: is not UTF-8"),
        (b"a.jpg 1\n" + b"x" * 5000, r"train\.txt: line 2: longer than limits\.max_label_bytes"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_in_one_line(tmp_path, data, said):
    source = fill(tmp_path, {"train.txt": data})
    with pytest.raises(LabelsError, match=said):
        read(ImageNet(), source, limits=LimitsConfig(max_label_bytes=1000))


def folders(tmp_path):
    names = ("train/n01440764/a.png", "train/n01440764/b.png", "val/n01443537/c.png", "train/d.png")
    return fill(tmp_path / "in", dict.fromkeys(names, tiny.PNG))


def test_the_folder_of_a_picture_is_its_class(tmp_path):
    header, images, rows = read(ImageNet(), folders(tmp_path))
    assert list(header.classes) == ["n01440764", "n01443537"]
    assert images.num_rows == 4
    assert rows["text"].to_pylist() == ["n01440764", "n01440764", "n01443537"]


def test_folders_are_written_as_lists_because_no_picture_is_moved(tmp_path):
    source, out = folders(tmp_path), tmp_path / "out"
    notes = copy(ImageNet(), source, out, keep=lambda _: [True, False, True])
    assert notes == ["imagenet: 1 set of folders is written as lists: no picture was moved"]
    assert content(out) == {
        "synsets.txt": b"n01440764\nn01443537\n",
        "train.txt": b"train/d.png\ntrain/n01440764/a.png 0\ntrain/n01440764/b.png\n",
        "val.txt": b"val/n01443537/c.png 1\n",
    }


def test_localisation_is_boxes_and_comes_back_to_the_letter(tmp_path):
    xml = (
        "<annotation>\n\t<filename>n01440764_18</filename><size><width>9</width><height>8</height>"
        "</size><object><name>n01440764</name><subcategory/><bndbox><xmin>1</xmin><ymin>2</ymin>"
        "<xmax>9</xmax><ymax>8</ymax></bndbox></object>\n</annotation>\n"
    )
    source = fill(tmp_path / "in", {"Annotations/CLS-LOC/train/n01440764/n01440764_18.xml": xml})
    _, _, rows = read(ImageNet(), source)
    assert rows.select(["text", "box"]).to_pylist() == [{"text": "n01440764", "box": [0, 1, 9, 8]}]
    assert copy(ImageNet(), source, tmp_path / "out") == []
    assert content(tmp_path / "out") == content(source)


def test_classes_of_other_origin_come_back(tmp_path):
    made = tables(
        kind=["text", "text", "region", "text"],
        role=["alt", "alt", "category", "alt"],
        text=["dog", "c\u00e4t 7", "box", "a caption"],
        prompt=["cls", "tag", None, "txt"],
        box=[None, None, [0, 0, 1, 1], None],
    )
    images = made.images.set_column(1, "uri", [["val/my photo 2.jpg"]])
    assert export(ImageNet(), tmp_path, images, made.annotations) == [
        "imagenet: 1 rows of region/category are not written",
        "imagenet: 1 rows of text/alt are not written",
    ]
    assert content(tmp_path) == {
        "synsets.txt": "dog\nc\u00e4t 7\n".encode(),
        "val.txt": b'"val/my photo 2.jpg" 0 1\n',
    }
    _, found, rows = read(ImageNet(), tmp_path)
    assert found["uri"].to_pylist() == ["val/my photo 2.jpg"]
    assert rows["text"].to_pylist() == ["dog", "c\u00e4t 7"]


def test_every_line_is_read_however_long_the_list(tmp_path):
    text = "".join(f"images/{n:06}.jpg {n % 3}\n" for n in range(60_000)).removesuffix("\n")
    source = lists(tmp_path, text)
    assert len(text) > 1_048_576  # read in more than one piece
    _, images, rows = read(ImageNet(), source, part_size=20_000)
    assert images["uri"].to_pylist() == [f"images/{n:06}.jpg" for n in range(60_000)]
    assert rows.num_rows == 60_000


SETS = {
    "yolo": {
        "data.yaml": "names: [a]\n",
        "labels/a.txt": "0 0.5 0.5 1 1\n",
        "images/a.png": tiny.PNG,
    },
    "icdar": {"gt_img_1.txt": "1,2,3,4,5,6,7,8,word\n"},
    "labelme": {"a.json": '{"version": "5", "flags": {}, "shapes": [], "imagePath": "a.jpg"}'},
    "voc": {"Annotations/a.xml": "<annotation><filename>a.jpg</filename></annotation>"},
    "cvat": {"annotations.xml": "<annotations><version>1.1</version></annotations>"},
    "imagenet": {"train.txt": "a.jpg 1\n", "synsets.txt": "a\nb\n"},
    "folders": {"n01440764/a.png": tiny.PNG, "n01443537/b.png": tiny.PNG},
    "photos": {"2019/a.png": tiny.PNG, "images/b.png": tiny.PNG},
    "notes": {
        "README.md": "# x",
        "notes.txt": "hello world\n",
        "a.json": "{}",
        "b.csv": "a,b\n1,2\n",
    },
    "empty": {},
}


@pytest.mark.parametrize("name", SETS)
def test_every_folder_is_known_to_its_own_format_alone(tmp_path, name):
    folder = place(fill(tmp_path / name, SETS[name]))
    formats = (Cvat(), LabelMe(), Voc(), ImageNet(), Icdar(), Yolo())
    known = [kind.name for kind in formats if kind.recognises(folder, b"")]
    expected = {"folders": ["imagenet"], "photos": [], "notes": [], "empty": []}
    assert known == expected.get(name, [name])


@pytest.mark.parametrize("name", ["basic", "custom_labels", "no_labels"])
def test_the_samples_come_back_to_the_letter(data, tmp_path, name):
    source = data / "format-fixtures/imagenet_txt_dataset" / name
    _, images, rows = read(ImageNet(), source)
    assert (rows.num_rows, failures(images)) == (images.num_rows, [])
    assert copy(ImageNet(), source, tmp_path) == []
    assert content(tmp_path) == content(source, endings=(".txt",))
