"""Tables of uris and texts: which image a row means, what is refused, and where a record lies."""

import csv
import io
import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.failures import fail
from engine.source import open_source
from engine.source.plan import make_plan
from engine.source.shapes import ReadError, Sample
from engine.source.shard import read_shard
from engine.source.tables import Tables
from tests.tiny import BMP, GIF, PNG

DEFAULTS = LimitsConfig()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name, content in {"a.png": PNG, "b.bmp": BMP, "sub/c.gif": GIF}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def tables(tmp_path, photos):
    """Writes a table beside the photos and opens it."""

    def write(content: str | bytes | pa.Table, name: str = "t.csv", **options) -> Tables:
        path = tmp_path / name
        if isinstance(content, pa.Table):
            pq.write_table(content, path, row_group_size=2)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Tables(**{"uri": str(path), "images": str(photos), **options})

    return write


def read(source: Tables, limits: LimitsConfig = DEFAULTS) -> dict[str, Sample | ReadError]:
    images = source.listing().images
    answers = source.read(images, limits)
    return dict(zip(images["uri"].to_pylist(), answers, strict=True))


def causes(source: Tables) -> dict[str, str | None]:
    return {uri: getattr(answer, "cause", None) for uri, answer in read(source).items()}


def said(source: Tables) -> dict[str, list[tuple[str, str]]]:
    """Prompt and text of the rows of each image."""
    return {
        uri: [(row["prompt"], row["text"]) for row in sample.rows]
        for uri, sample in read(source).items()
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "t.csv: is empty; give a table with a header", id="no-bytes"),
        pytest.param("\n\r\n", "t.csv: is empty", id="blank-lines"),
        pytest.param(
            "path,caption\n",
            r"no row names an image among 0 rows of 1 files \(t.csv\)",
            id="header",
        ),
        pytest.param("path,caption\n,a\n ,b\n", "among 2 rows of 1 files", id="no-uris"),
    ],
)
def test_a_table_without_images_is_refused_by_name(tables, content, message):
    with pytest.raises(ConfigError, match=message):
        tables(content).listing()


def test_an_empty_parquet_table_is_refused_by_name(tables):
    source = tables(pa.table({"path": pa.array([], pa.string())}), "t.parquet")
    with pytest.raises(ConfigError, match=r"t.parquet': no row names an image among 0 rows"):
        source.listing()


def test_rows_are_images_with_texts(tables):
    source = tables(
        "file_name,caption,license,other\na.png,a cat,CC0,x\nsub/c.gif,,,y\n", name="t.csv"
    )
    assert said(source) == {"a.png": [("caption", "a cat")], "sub/c.gif": []}
    found = read(source)
    assert [found[uri].data.to_pybytes() for uri in found] == [PNG, GIF]
    assert [found[uri].licence for uri in found] == ["CC0", None]
    listed = source.listing().images
    assert listed["size_bytes"].null_count == listed["modified"].null_count == 2


def test_rows_of_one_uri_are_one_image_in_the_order_of_its_first_row(tables):
    rows = ["b.bmp,x", "a.png,one", "./a.png,two", "b.bmp,x", "a.png,one", "b.bmp,y"]
    source = tables("path,caption\n" + "\n".join(rows))
    assert said(source) == {
        "b.bmp": [("caption", "x"), ("caption", "y")],
        "a.png": [("caption", "one"), ("caption", "two")],
    }


def test_an_image_of_two_tables_has_the_texts_of_both(tables, tmp_path):
    tables("path,caption\na.png,one\n", "0.csv")
    tables(pa.table({"path": ["b.bmp", "a.png"], "text": ["x", "two"]}), "1.parquet")
    source = tables("path\ttitle\na.png\tthree\n", "2.tsv", uri=str(tmp_path))
    assert said(source) == {
        "a.png": [("caption", "one"), ("text", "two"), ("title", "three")],
        "b.bmp": [("text", "x")],
    }


def test_a_limit_takes_the_first_images_with_all_their_texts(tables):
    source = tables("path,caption\na.png,one\nb.bmp,x\nsub/c.gif,y\na.png,two\n")
    assert source.listing(2).images.equals(source.listing().images.slice(0, 2))
    assert source.listing(1).images["place"].to_pylist()[0][1]["offset"] > 0
    with pytest.raises(ConfigError, match="limit is 0"):
        source.listing(0)


def test_a_parquet_table_is_its_csv(tables):
    rows = {"path": ["a.png", "b.bmp", "a.png", None, "sub/c.gif"], "text": list("vwxyz")}
    out = io.StringIO()
    csv.writer(out).writerows([rows, *zip(*rows.values(), strict=True)])
    parquet, text = tables(pa.table(rows), "t.parquet"), tables(out.getvalue())
    assert said(parquet) == said(text)
    assert parquet.listing().ignored == text.listing().ignored == {"row without a uri": 1}


def test_a_uri_that_is_refused_fails_alone_and_is_not_shown(tables):
    uris = [
        "a.png",
        "https://ann:secret@h/a.png?key=secret",
        "../x",
        "gone.png",
        "s3://k:secret@b/x",
    ]
    source = tables("path,caption\n" + "\n".join(f"{uri},a" for uri in uris))
    assert causes(source) == {
        "a.png": None,
        "t.csv//00000003": "unsafe_path",
        "t.csv//00000004": "unsafe_path",
        "gone.png": "missing",
        "t.csv//00000006": "unsafe_path",
    }
    plan = make_plan(source.listing(), 9)
    shard = read_shard(source, plan.rows, plan.modified)
    assert "secret" not in str(shard.images.to_pylist())
    assert shard.images["status"].to_pylist() == ["ok", *["failed"] * 4]


def test_an_image_named_like_a_refused_one_is_another(tables, photos):
    (photos / "t.csv").mkdir()
    (photos / "t.csv" / "00000003").write_bytes(PNG)
    source = tables("path\nt.csv//00000003\nhttp://h/a\n")
    assert causes(source) == {"t.csv/00000003": None, "t.csv//00000003": "unsafe_path"}


def test_no_link_out_of_the_folder_is_followed(tables, photos, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.png").write_bytes(PNG)
    (photos / "out.png").symlink_to(outside / "x.png")
    (photos / "out").symlink_to(outside)
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "in.png").symlink_to(photos / "a.png")
    source = tables("path\nout.png\nout/x.png\nout/../a.png\nin.png\nloop.png\nsub\n")
    found = causes(source)
    assert list(found.values())[:4] == ["unsafe_path", "unsafe_path", "unsafe_path", None]
    assert found["loop.png"] in ("unreadable", "missing")
    assert found["sub"] == "special_file"


def test_a_folder_reached_by_a_link_is_its_own_inside(tables, photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    source = tables("path\na.png\n", images=str(tmp_path / "link"))
    assert causes(source) == {"a.png": None}
    absolute = tables(f"path\n{tmp_path}/link/a.png\n", images=str(tmp_path / "link"))
    assert causes(absolute) == {"a.png": None}


def test_names_that_are_no_utf_8_are_found(tables, photos):
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)
    assert causes(tables(b"path,caption\ncaf\xe9.png,x\n")) == {"caf\\xe9.png": None}


def test_a_text_that_is_no_utf_8_is_a_failure_of_the_labels(tables):
    source = tables(b"path,caption,title\na.png,caf\xe9,fine\nb.bmp,good,\n")
    sample = read(source)["a.png"]
    assert [(f.stage, f.cause) for f in sample.failures] == [("labels", "not_json")]
    assert said(source) == {"a.png": [("title", "fine")], "b.bmp": [("caption", "good")]}


def test_a_byte_order_mark_is_no_part_of_a_name(tables):
    assert said(tables(b"\xef\xbb\xbfpath,caption\na.png,x\n")) == {"a.png": [("caption", "x")]}
    headless = tables(b"\xef\xbb\xbfa.png,x\nb.bmp,y\n", columns=["path", "caption"])
    assert said(headless) == {"a.png": [("caption", "x")], "b.bmp": [("caption", "y")]}


def test_utf_16_is_refused(tables):
    with pytest.raises(ConfigError, match=r"t.csv: is UTF-16; save it as UTF-8"):
        tables("path,caption\na.png,x\n".encode("utf-16")).listing()


def test_quoted_cells_hold_delimiters_quotes_and_line_breaks(tables):
    source = tables('path,caption\r\n"a.png","a, ""b""\r\nc"\r\nb.bmp,after\r\n')
    assert said(source) == {
        "a.png": [("caption", 'a, "b"\r\nc')],
        "b.bmp": [("caption", "after")],
    }


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("t.tsv", 'path\tcaption\na.png\t"never closed\nb.bmp\tnext\n', '"never closed'),
        ("t.tsv", 'path\tcaption\na.png\t"so" he said\nb.bmp\tnext\n', '"so" he said'),
        ("t.csv", 'path,caption\na.png,"never closed\nb.bmp,next\n', "never closed"),
        ("t.csv", 'path,caption\na.png,5" pipe\nb.bmp,next\n', '5" pipe'),
    ],
)
def test_a_quote_that_does_not_pair_takes_no_other_record(tables, name, content, text):
    found = said(tables(content, name))
    assert found == {"a.png": [("caption", text)], "b.bmp": [("caption", "next")]}


def test_a_cell_larger_than_csv_takes_fails_as_its_record(tables):
    large = "x" * 200_000
    source = tables(f'path,caption\na.png,x\nb.bmp,"{large}"\nsub/c.gif,y\n')
    found = causes(source)
    assert found == {"a.png": None, "t.csv//00000003": "broken_archive", "sub/c.gif": None}


def test_uneven_records_fail_their_labels_and_not_their_image(tables):
    source = tables("path,caption\na.png,one, two\nb.bmp\nsub/c.gif,fine\n")
    found = read(source)
    for uri, cells in {"a.png": 3, "b.bmp": 1}.items():
        [failure] = found[uri].failures
        assert failure.cause == "bad_labels"
        assert failure.message == f"the record has {cells} cells, the table 2 columns"
        assert found[uri].rows == []
    assert found["sub/c.gif"].rows[0]["text"] == "fine"


def test_nul_and_control_characters_harm_only_their_record(tables):
    source = tables(b"path,caption\na\0.png,x\na.png,nul \0 inside\nb\x01.bmp,y\n")
    assert list(causes(source).values()) == ["unsafe_path", None, "unsafe_path"]


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("url,file_name", 1),
        ("URL,TEXT", 0),
        ("caption,Image_Path", 1),
        ('"uri"," x "', 0),
    ],
)
def test_the_column_of_uris_is_found(tables, header, column):
    cells = ["http://h/x", "http://h/x"]
    cells[column] = "a.png"
    assert causes(tables(f"{header}\n{','.join(cells)}\n")) == {"a.png": None}


def test_a_column_can_be_named(tables):
    content = "path,local\nhttp://h/x,a.png\n"
    assert causes(tables(content, column="local")) == {"a.png": None}
    with pytest.raises(ConfigError, match=r"no column 'locl'; found 'path', 'local'; name it in"):
        tables(content, column="locl").listing()
    rows = pa.table({"path": ["http://h/x"], "local": ["a.png"], "id": [1]})
    assert causes(tables(rows, "t.parquet", column="local")) == {"a.png": None}
    with pytest.raises(ConfigError, match=r"the column 'id' holds int64, wanted uris"):
        tables(rows, "t.parquet", column="id").listing()


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_with_another_delimiter_is_read(tables, delimiter):
    source = tables("path,caption\na.png,x\n".replace(",", delimiter))
    assert said(source) == {"a.png": [("caption", "x")]}


def test_a_table_of_captions_and_addresses_needs_no_header(tables):
    source = tables("a cat .\ta.png\na dog , and more\tb.bmp\n", "t.tsv")
    assert said(source) == {
        "a.png": [("caption", "a cat .")],
        "b.bmp": [("caption", "a dog , and more")],
    }


def test_columns_name_what_has_no_header(tables):
    content = "a.png,1,x\nb.bmp,0,y\n"
    source = tables(content, columns=["path", "label", "caption"], classes=["cat", "dog"])
    assert said(source)["a.png"] == [("label", "dog"), ("caption", "x")]
    with pytest.raises(ConfigError, match=r"found 'a.png', '1', 'x'; .*source.columns if the file"):
        tables(content).listing()


def test_no_secret_of_a_first_record_is_in_the_message(tables):
    with pytest.raises(ConfigError, match="no column of a usual name for uris") as caught:
        tables("1,https://ann:secret@h/a.png?key=secret,x\n").listing()
    assert "secret" not in str(caught.value)


def test_two_columns_of_one_name_are_refused(tables):
    with pytest.raises(ConfigError, match="two columns are named 'caption'; rename one"):
        tables("path,caption,caption\na.png,x,y\n").listing()


def test_a_broken_parquet_table_is_a_candidate_that_fails(tables, tmp_path):
    tables("path\na.png\n", "a.csv")
    source = tables(pa.table({"path": ["b.bmp"]}), "b.parquet", uri=str(tmp_path))
    path = tmp_path / "b.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert causes(source) == {"a.png": None, "b.parquet//00000000": "broken_archive"}


def test_labels_beyond_the_limit_are_told(tables):
    source = tables("path,caption\na.png," + "x" * 60 + "\n")
    sample = read(source, LimitsConfig(max_label_bytes=50))["a.png"]
    assert [failure.cause for failure in sample.failures] == ["too_many_labels"]


def test_images_beyond_the_limit_are_refused(tables):
    found = read(tables("path\na.png\nb.bmp\n"), LimitsConfig(max_bytes=len(PNG)))
    assert found["b.bmp"].cause == "too_many_bytes"
    assert found["a.png"].data.to_pybytes() == PNG


def test_a_table_that_changed_is_told(tables):
    source = tables("path,caption\na.png,x\nb.bmp,y\n")
    images = source.listing().images
    for content in ("path,caption\nb.bmp,y\na.png,x\n", "path,caption\n", "x", ""):
        tables(content)
        answers = list(source.read(images, DEFAULTS))
        assert [answer.cause for answer in answers] == ["changed", "changed"]


def test_a_shard_reads_its_own_records(tables):
    """The others may be unreadable by then."""
    source = tables("path,caption\na.png,x\nb.bmp,y\nsub/c.gif,z\n")
    images = source.listing().images.slice(1, 1)
    tables(b"path,caption\n" + b"\xff" * 8 + b"b.bmp,y\n" + b"\xff" * 12)
    [sample] = source.read(images, DEFAULTS)
    assert [row["text"] for row in sample.rows] == ["y"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": None}, "source.images is missing; give the folder or bucket"),
        ({"endpoint": "http://h"}, "endpoint is set, but .* is a local path"),
        ({"images": "ftp://h/x"}, "uri scheme 'ftp' is not known"),
        ({"texts": {"a": "b"}}, "source.texts.a is 'b'; allowed"),
    ],
)
def test_options_are_checked(tables, options, message):
    with pytest.raises(ConfigError, match=message):
        tables("path\na.png\n", **options)


def test_bucket_options_go_to_what_is_in_a_bucket(tmp_path):
    here = str(tmp_path / "t.csv")
    source = Tables(uri=here, images="s3://b/p", endpoint="http://h:1", anonymous=True)
    assert (source.image_location.endpoint, source.location.uri) == ("http://h:1", str(tmp_path))
    source = Tables(uri="s3://b/t.csv", images=here, endpoint="http://h:1")
    assert (source.location.endpoint, source.image_location.uri) == ("http://h:1", here)


def test_a_source_pickles_and_is_found_by_its_ending(tables, photos, tmp_path):
    tables("path\na.png\n")
    source = open_source(uri=str(tmp_path / "t.csv"), images=str(photos))
    assert isinstance(source, Tables)
    assert causes(pickle.loads(pickle.dumps(source))) == {"a.png": None}
    with pytest.raises(ConfigError, match=r"none.csv': there is no such file; correct"):
        Tables(uri=str(tmp_path / "none.csv"), images=str(photos)).listing()


def test_loose_images_say_which_kind_reads_tables(tmp_path):
    for name in ("a.csv", "b.tsv", "c.tar"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"set source.kind=table and source.images to the folder"):
        make_plan(open_source(uri=str(tmp_path)).listing(), 3)


@pytest.mark.parametrize(
    ("table", "num_images"),
    [
        ("url-text-parquet/test_1000.parquet", 1000),
        ("cc3m-val-tsv/Validation_GCC-1.1.0-Validation.tsv", 15_833),
    ],
)
def test_web_tables_list_whole_and_fail_clearly(data, photos, table, num_images):
    source = Tables(uri=str(data / table), images=str(photos))
    listing = source.listing()
    assert listing.images.num_rows == num_images
    assert listing.ignored == {}
    plan = make_plan(listing, 256, 256)
    images = read_shard(source, plan.rows, plan.modified).images
    message = fail("read", "unsafe_path", "the uri is a web address, and nothing is fetched")
    for [failure] in images["failures"].to_pylist():
        assert failure["cause"] == message.cause
        assert failure["message"].startswith(message.message)


@pytest.mark.s3
def test_a_bucket_gives_the_rows_of_a_folder(s3, tables, photos, tmp_path):
    lines = [
        f"{name},{n}" for n in range(400) for name in ("a.png", "b.bmp", "sub/c.gif", "no.png")
    ]
    content = "path,caption\n" + "\n".join(lines)
    here = tables(content, "t.csv")
    s3.fill("tables", tmp_path)
    for uri in ("s3://tables/t.csv", str(tmp_path / "t.csv")):
        there = Tables(uri=uri, images="s3://tables/photos", endpoint=s3.endpoint)
        plans = [make_plan(source.listing(), 99) for source in (here, there)]
        assert plans[0].rows.equals(plans[1].rows)
        shards = [
            read_shard(source, plan.rows, plan.modified)
            for source, plan in zip((here, there), plans, strict=True)
        ]
        assert shards[0].given == shards[1].given
        columns = [name for name in shards[0].images.column_names if name != "failures"]
        assert shards[0].images.select(columns).equals(shards[1].images.select(columns))
        assert shards[1].images["status"].to_pylist() == ["ok", "ok", "ok", "failed"]
    absolute = tables("path\ns3://tables/photos/a.png\ns3://other/a.png\n", "u.csv")
    source = Tables(uri=absolute.uri, images="s3://tables/photos/", endpoint=s3.endpoint)
    assert list(causes(source).values()) == [None, "unsafe_path"]
