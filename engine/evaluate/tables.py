"""An evaluation on the terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engine.evaluate.results import Assessment, FamilyResult, Measures, Step

# Measures of one row of claims; the rest of a family's measures describe its ranking or its counts.
_COUNTS = "num_"
_CURVE = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
_CURVE_SIZES = ("ar_small", "ar_medium", "ar_large")
_MAX_CLASSES = 30  # rows of a table by class; the rest are in the JSON
_NAMES = {"f1": "F1", "cider_d": "CIDEr-D", "bleu4": "BLEU-4", "rouge_l": "ROUGE-L"}


def render(found: Assessment) -> Group:
    """Tables of an evaluation: images, each family, its classes, its rules, and what to know."""
    parts: list[RenderableType] = [Text(_heading(found), style="bold"), Text(_images(found))]
    for name, family in found.families.items():
        parts += [Text(), *_family(name, family)]
    parts += [Text(), *(Text.from_markup(f"[yellow]note:[/] {escape(n)}") for n in found.notes)]
    return Group(*parts)


def _heading(found: Assessment) -> str:
    rows = f"kept rows of {found.source}" if found.source else "kept rows of all sources"
    return f"{found.output} {found.version}: {rows}, IoU {found.min_iou:g}"


def _images(found: Assessment) -> str:
    images = found.images
    how = ", ".join(f"{count:,} by {name}" for name, count in images.num_by.items() if count)
    return (
        f"{images.num_compared:,} images compared ({how or 'none'}); {images.num_missing:,} of the "
        f"truth are not in the dataset, {images.num_ambiguous:,} are ambiguous, "
        f"{images.num_extra:,} of the dataset are not in the truth"
    )


def _family(name: str, family: FamilyResult) -> Iterator[RenderableType]:
    plain = {key: value for key, value in family.measures.items() if key not in _ranking(family)}
    yield _one_row(name, plain)
    ranking = {key: family.measures[key] for key in _ranking(family)}
    if ranking:
        yield _one_row(f"{name}: ranked by score, as COCO does", ranking)
    if family.by_class:
        yield _classes(name, family.by_class)
    telling = family.telling_steps()
    if telling:
        yield _steps(name, telling)
    idle = [step.rule for step in family.steps if not step.num_rejected]
    if idle:
        yield Text(f"rejected none of these rows: {', '.join(idle)}", style="dim")


def _ranking(family: FamilyResult) -> list[str]:
    return [name for name in (*_CURVE, *_CURVE_SIZES) if name in family.measures]


def _one_row(title: str, measures: Measures) -> Table:
    table = _table(title, [], [_shown(name) for name in measures])
    table.add_row(*(_number(value) for value in measures.values()))
    return table


def _classes(name: str, by_class: Mapping[str, Measures]) -> Table:
    measures = list(next(iter(by_class.values())))
    shown = sorted(by_class, key=lambda each: (-(by_class[each]["num_true"] or 0), each))
    more = len(shown) - _MAX_CLASSES
    title = f"{name} by class" + (f" ({more:,} more are in the JSON)" if more > 0 else "")
    table = _table(title, ["class"], [_shown(measure) for measure in measures])
    for each in shown[:_MAX_CLASSES]:
        table.add_row(escape(each), *(_number(by_class[each][measure]) for measure in measures))
    return table


def _steps(name: str, steps: Sequence[Step]) -> Table:
    measures = list(steps[0].before)
    headings = [heading for each in measures for heading in (_shown(each), "change")]
    table = _table(f"{name} before and after every rule", ["rule"], ["rejected", *headings])
    first = [cell for each in measures for cell in (_number(steps[0].before[each]), "")]
    table.add_row("(all claims)", "", *first)
    for step in steps:
        cells = [c for each in measures for c in (_number(step.after[each]), _change(step, each))]
        table.add_row(escape(step.rule), f"{step.num_rejected:,}", *cells)
    return table


def _change(step: Step, name: str) -> str:
    change = step.change(name)
    if change is None or not change:
        return ""
    return f"[{'green' if change > 0 else 'red'}]{change:+.3f}[/]"


def _shown(name: str) -> str:
    if name.startswith(("ap", "ar")):
        name = name[:2].upper() + name[2:]
    shown = name.removeprefix(_COUNTS).replace("_", " ").replace(" f1", " F1")
    return _NAMES.get(name, shown)


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _table(title: str, words: list[str], numbers: list[str]) -> Table:
    table = Table(
        title=escape(title), title_justify="left", title_style="bold", box=None, header_style="dim"
    )
    for word in words:
        table.add_column(word)
    for number in numbers:
        table.add_column(number, justify="right")
    return table
