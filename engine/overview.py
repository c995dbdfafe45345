"""Tables for the terminal: what a run would do, what is missing, what failed, what options are."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from engine import dataset
from engine.checks import Check
from engine.job import Job
from engine.reading import read_failures
from engine.registry import Registry
from engine.run import Listed, levels_of
from engine.source.shapes import Location

_NO_DEFAULT = "(must be given)"


def plan_overview(job: Job, listed: Listed) -> Group:
    """Resolved config, images, shards, ignored files and the levels specialists run in."""
    plan = listed.plan
    shards = dataset.count_shards(plan)
    parts: list[RenderableType] = [
        Syntax(dataset.dump_config(job.config), "yaml", background_color="default"),
        Text(
            f"{plan.num_rows:,} images in {shards:,} shards of up to {job.config.source.shard_size}"
            f", {_size(plan)} to read"
        ),
    ]
    workers = job.config.runner.workers
    for reason, count in sorted(listed.ignored.items()):
        parts.append(Text(f"ignored: {count:,} x {reason}"))
    for number, names in enumerate(levels_of(job)):
        shown = ", ".join(f"{name} x {workers.get(name, 'auto')}" for name in names)
        parts.append(Text(f"level {number}: {shown}"))
    parts.append(
        Text("`auto` workers follow from what the first batches cost, and so does the time")
    )
    parts.append(Text("nothing was written; `fld annotate` with the same arguments runs it"))
    return Group(*parts)


def _size(plan: pa.Table) -> str:
    total = pc.sum(plan["size_bytes"]).as_py()
    return "an unknown size" if total is None else f"{total / 1e6:,.1f} MB"


def checks_table(checks: Sequence[Check]) -> Table:
    """One line per check, failing ones with the command that mends them."""
    table = Table(box=None, show_header=False)
    for check in checks:
        mark = Text("ok", style="green") if check.ok else Text("MISSING", style="bold red")
        table.add_row(mark, Text(check.what), Text(check.detail))
    return table


def failures_table(output: Location, version: str) -> Table:
    """Every failure of a dataset, one line each."""
    table = Table(box=None, header_style="dim")
    names = ("image_key", "uri", "status", "stage", "source", "cause", "message")
    for name in names:
        table.add_column(name, overflow="fold")
    for failure in read_failures(output, version):
        table.add_row(*(Text(str(failure[name] or "-")) for name in names))
    return table


def options_table(registry: Registry, name: str | None) -> RenderableType:
    """All names of a registry with one line each; or the options of one, with types and defaults.

    Raises:
        ConfigError: There is no such name.
    """
    if name is None:
        table = Table(box=None, header_style="dim")
        table.add_column(registry.what)
        table.add_column("what it does")
        for known in sorted(registry.names()):
            table.add_row(known, _summary(registry.find(known)))
        return table
    cls = registry.find(name)
    table = Table(box=None, header_style="dim")
    for heading in ("option", "type", "default"):
        table.add_column(heading)
    for field in dataclasses.fields(cls):
        if field.init:
            # as Text: rich would read the brackets of a type as markup
            row = (field.name, _type_name(field.type), _default(field))
            table.add_row(*map(Text, row))
    return Group(Padding(Text(inspect.getdoc(cls) or ""), (0, 0, 1, 0)), table)


def _summary(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n", 1)[0].replace("\n", " ")


def _type_name(annotation: Any) -> str:
    is_plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if is_plain else str(annotation)


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return _NO_DEFAULT
