"""What importing the engine may load, and who may import whom.

`make check` proves the order of layers with import-linter; here is what no linter sees.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = {"ray", "torch", "spacy", "transformers", "ultralytics", "easyocr", "cv2", "matplotlib"}
RAY_FILES = {"engine/cluster.py", "refinement/training/distributed.py"}
SOURCES = sorted(
    path
    for package in ("engine", "specialists", "filters", "refinement")
    for path in (ROOT / package).rglob("*.py")
)


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh process after that code."""
    code += "; import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    return set(json.loads(run.stdout))


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_measure_sees_a_heavy_import():
    assert "spacy" in loaded_by("import types, sys; sys.modules['spacy'] = types.ModuleType('s')")


@pytest.mark.parametrize(
    "code",
    [
        "import engine",
        "import engine.run, engine.stages, engine.reading",
        "import specialists, filters",
        "from filters import RULES; [RULES.find(name) for name in RULES.table]",
        "from specialists import SPECIALISTS; [SPECIALISTS.find(n) for n in SPECIALISTS.table]",
        "import engine.cli",
    ],
    ids=["engine", "driver", "packages", "rules", "specialists", "command-line"],
)
def test_importing_loads_no_ray_torch_or_spacy(code):
    assert not loaded_by(code) & HEAVY


def test_only_cluster_and_the_trainer_import_ray():
    users = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if any(name.split(".")[0] == "ray" for name in imports_of(path))
    }
    assert "engine/cluster.py" in users
    assert users <= RAY_FILES


def test_nothing_imports_the_command_line():
    assert [p.name for p in SOURCES if "engine.cli" in imports_of(p) and p.name != "cli.py"] == []


@pytest.mark.parametrize("package", ["specialists", "filters"])
def test_the_engine_knows_no_model_and_no_rule(package):
    """All but the composition root and what it alone uses find them by name."""
    users = {
        path.stem
        for path in SOURCES
        if path.is_relative_to(ROOT / "engine")
        and any(name.split(".")[0] == package for name in imports_of(path))
    }
    assert users <= {"cli", "compose", "demo", "refine_checks"}


def test_no_file_but_the_command_line_prints():
    printers = [
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
    ]
    assert set(printers) <= {"cli.py"}
