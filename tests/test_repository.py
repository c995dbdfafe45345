"""The repository itself: sizes, endings, paths, and documents that name only what exists."""

import re
import subprocess
from pathlib import Path

import pytest
import typer

from engine import cli
from engine.formats import FORMATS
from filters import RULES
from specialists import SPECIALISTS

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES, MAX_BYTES = 500, 500_000
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "configs").glob("*.yaml")])
BINARY = {".pt", ".onnx", ".safetensors", ".png", ".jpg", ".bin"}
# Folders that only a machine has, and the one example of how they are taken out of messages.
MACHINE_PATH = re.compile(
    rf"(?<![\w.$}}/])/({'|'.join(['work', 'root', 'tmp', 'home', 'Users'])})/\w+"
)
EXAMPLES = {"/home/ann"}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[str, str]]:
    """Name and content of every tracked text file."""
    return [
        (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for path in tracked()
        if path.suffix not in BINARY
    ]


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_file_ends_with_one_newline():
    bad = [name for name, text in texts() if text and (text[-1] != "\n" or text[-2:] == "\n\n")]
    assert bad == []


def test_no_python_file_is_longer_than_a_reader_likes():
    lengths = {name: text.count("\n") for name, text in texts() if name.endswith(".py")}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_no_file_is_large_but_weights():
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked()}
    large = {name for name, size in sizes.items() if size > MAX_BYTES}
    assert {name for name in large if "/weights/" not in name} == set()


def test_no_file_names_a_path_of_some_machine():
    found = {
        f"{name}: {match[0]}"
        for name, text in texts()
        for match in MACHINE_PATH.finditer(text)
        if match[0] not in EXAMPLES
    }
    assert found == set()


def test_sources_are_ascii():
    suffixes = (".py", ".toml", ".yaml", ".yml", "Makefile")
    bad = [name for name, text in texts() if name.endswith(suffixes) and not text.isascii()]
    assert bad == []


def test_test_files_have_names_of_their_own():
    names = [path.name for path in tracked() if path.name.startswith("test_")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def tree_lines() -> list[tuple[str, str]]:
    """Paths and their descriptions in README's tree, folders ending in a slash."""
    block = re.search(r"^```\n(engine/ .*?)^```", readme(), re.MULTILINE | re.DOTALL)
    assert block, "README.md has no tree that starts with engine/"
    found, parent = [], ""
    for line in block[1].splitlines():
        name, _, what = line.strip().partition(" ")
        if not line.startswith(" "):
            parent = name
            found.append((name, what.strip()))
        else:
            found.append((parent + name, what.strip()))
    return found


def test_readmes_tree_names_what_exists():
    assert [name for name, _ in tree_lines() if not (ROOT / name).exists()] == []
    assert [name for name, what in tree_lines() if not what] == []


def test_readmes_tree_is_complete():
    wanted = {
        str(path.relative_to(ROOT)) for path in tracked() if path.parent == ROOT / "engine"
    } - {"engine/__init__.py"}
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.parts) > 1}
    wanted |= {f"{name}/" for name in folders if (ROOT / name).is_dir() and name[0] != "."}
    wanted |= {
        f"engine/{path.parent.name}/"
        for path in tracked()
        if "__init__.py" in path.name and path.parent.parent == ROOT / "engine"
    }
    assert wanted - {name for name, _ in tree_lines()} == set()


def commands() -> dict[str, set[str]]:
    """Every `fld` command with its options; groups count as commands."""
    group = typer.main.get_command(cli.app)
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", {"": command}).values()
        params = [param for each in inner for param in each.params]
        found[name] = {
            option for param in params for option in (*param.opts, *param.secondary_opts)
        }
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_commands_that_exist(path):
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w.-])fld ([a-z][a-z-]*)", text))
    assert named - commands().keys() == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_make_targets_that_exist(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    text = path.read_text(encoding="utf-8")
    lines = re.findall(r"`make ([a-z][a-z -]*)`|^make ([a-z-]+)", text, re.MULTILINE)
    named = {word for line in lines for words in line for word in words.split()}
    assert named - targets == set()


def test_readme_names_options_that_exist():
    options = set().union(*commands().values())
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", readme()))
    assert named
    assert named - options == set()


def test_readme_lists_every_specialist():
    rows = set(re.findall(r"^\| `([a-z0-9_]+)` \|", readme(), re.MULTILINE))
    assert SPECIALISTS.table.keys() - rows == set()


def test_golden_update_flag_is_off(request):
    assert not request.config.getoption("--update-golden"), "golden files were written, not tested"


def test_readme_names_every_rule_and_format():
    words = set(re.findall(r"`([a-z0-9_]+)`", readme()))
    assert RULES.table.keys() - words == set()
    assert FORMATS.table.keys() - words == set()
