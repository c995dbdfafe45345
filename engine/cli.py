"""The `fld` command: reads configs, builds jobs, runs them, prints what happened.

The composition root: nothing imports it. It alone turns errors into exit codes: 0 all fine; 1
finished, with failures; 2 could not start; 3 stopped, the same command resumes.
"""

import logging
import signal
import sys
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Annotated, Never

import typer
from rich.console import Console

from engine import config as config_module
from engine import dataset
from engine.checks import run_checks
from engine.cli_model import model_app
from engine.compose import compose
from engine.errors import ConfigError, EngineError, StoppedError
from engine.filter_summary import versions_table
from engine.formats import FORMATS
from engine.job import VERSION, Job
from engine.label_commands import (
    filter_job,
    labels_config,
    run_evaluate,
    run_export,
    run_filter,
    run_import,
)
from engine.overview import checks_table, failures_table, options_table, plan_overview
from engine.progress import LogObserver, TerminalObserver
from engine.run import annotate as run_annotate
from engine.run import list_source, open_output
from engine.source import SOURCES
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from engine.status import read_status
from engine.summary import summary
from filters import RULES
from specialists import SPECIALISTS

EXIT_FAILURES, EXIT_REFUSED, EXIT_STOPPED = 1, 2, 3

app = typer.Typer(
    help="Annotate, filter and refine image labels into FLD-style datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at configurations.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(model_app, name="model")
out = Console(width=None if sys.stdout.isatty() else 120)

# a str: a Path would make s3:/bucket of an override
ConfigFile = Annotated[str, typer.Argument(help="YAML config; `fld init` writes one.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as source.uri=photos"),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Plan this many images at most.")]
Place = Annotated[str, typer.Argument(metavar="OUT", help="A dataset: folder or bucket.")]
Endpoint = Annotated[str | None, typer.Option(help="Server address of an S3-compatible bucket.")]
Region = Annotated[str | None, typer.Option(help="Region of the bucket.")]


@app.command()
def annotate(
    config: ConfigFile,
    overrides: Overrides = None,
    limit: Limit = None,
    overwrite: Annotated[
        bool, typer.Option(help="Delete the dataset there and start again.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option(help="Take only the images that failed in finished shards.")
    ] = False,
    extend: Annotated[
        bool, typer.Option(help="List the source again and append new images as new shards.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Same as `fld plan`: write nothing.")] = False,
) -> None:
    """Annotate a bucket of images; the same command again resumes a run that was cut off."""
    if dry_run:
        plan(config, overrides, limit)
        return
    if overwrite and extend:
        raise ConfigError("--overwrite starts again and --extend goes on; choose one of them")
    job = _job(config, overrides)
    observer = TerminalObserver(out) if out.is_terminal else LogObserver()
    try:
        run_annotate(
            job,
            observer,
            limit=limit,
            overwrite=overwrite,
            retry_failed=retry_failed,
            extend=extend,
        )
    finally:
        observer.close()
    found = read_status(open_output(job.config), VERSION)
    out.print(summary(found, job.config.output.uri))
    if found["failures"]:
        raise typer.Exit(EXIT_FAILURES)


@app.command()
def plan(config: ConfigFile, overrides: Overrides = None, limit: Limit = None) -> None:
    """Show what `fld annotate` would do: config, images, shards, levels. Writes nothing."""
    job = _job(config, overrides)
    out.print(plan_overview(job, list_source(job.config, limit)))


@app.command()
def checks(config: ConfigFile, overrides: Overrides = None) -> None:
    """Look at weights, packages, source, output; failing lines say the command that mends them."""
    settings = _config(config, overrides)
    if settings.refine:
        from engine.refine_checks import refine_checks

        found = list(refine_checks(settings))
    else:
        found = list(run_checks(compose(settings)))
    out.print(checks_table(found))
    if not all(check.ok for check in found):
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def status(place: Place, endpoint: Endpoint = None, region: Region = None) -> None:
    """How a run or dataset stands; works from any machine, at any time."""
    output = open_location(place, endpoint=endpoint, region=region)
    out.print(summary(read_status(output, _current(output)), place))


@app.command()
def failures(place: Place, endpoint: Endpoint = None, region: Region = None) -> None:
    """Every failed image with stage, cause and message."""
    output = open_location(place, endpoint=endpoint, region=region)
    out.print(failures_table(output, _current(output)))


@app.command()
def inspect(
    place: Place,
    image: Annotated[str | None, typer.Argument(help="Its key, or its path in the source.")] = None,
    draw: Annotated[
        Path | None, typer.Option(help="Write a PNG: of the image, or a sheet.")
    ] = None,
    rejected: Annotated[bool, typer.Option(help="Draw rejected rows too.")] = True,
    num_images: Annotated[int, typer.Option("--images", min=1, help="Pictures on a sheet.")] = 12,
    endpoint: Endpoint = None,
    region: Region = None,
) -> None:
    """Print or draw the rows of one image; without one, draw a contact sheet."""
    from engine.pictures import (  # fonts and drawing are slow to load
        draw_one,
        draw_sheet,
        print_one,
    )

    output = open_location(place, endpoint=endpoint, region=region)
    version = _current(output)
    if image is not None:
        out.print(print_one(output, version, image))
        if draw is not None:
            draw_one(output, version, image, draw, rejected=rejected)
    elif draw is not None:
        draw_sheet(output, version, draw, num_images=num_images, rejected=rejected)
    else:
        raise ConfigError("inspect: name an image, or give --draw FILE.png for a contact sheet")
    if draw is not None:
        out.print(f"wrote {draw}")


@app.command("filter")
def filter_(
    config: ConfigFile,
    overrides: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Judge by this rule alone again; may be repeated."),
    ] = None,
    undo: Annotated[
        bool, typer.Option(help="Make the version before the current one current again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the summary; write nothing.")] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Of labels: start again where other rules made the ledger.")
    ] = False,
) -> None:
    """Judge labels by rules: of a dataset, or of a file or folder in a format others use."""
    job = filter_job(config, overrides or [])
    failed = run_filter(job, out, only=only, undo_last=undo, dry_run=dry_run, overwrite=overwrite)
    if failed:
        raise typer.Exit(EXIT_FAILURES)


@app.command()
def versions(place: Place, endpoint: Endpoint = None, region: Region = None) -> None:
    """The label versions of a dataset, and what changed from one to the next."""
    out.print(versions_table(open_location(place, endpoint=endpoint, region=region)))


@app.command()
def report(
    place: Place,
    version: Annotated[str | None, typer.Option(help="Label version; the current one.")] = None,
    card: Annotated[
        bool, typer.Option(help="Write the dataset's card too: a README.md in the dataset.")
    ] = False,
    endpoint: Endpoint = None,
    region: Region = None,
) -> None:
    """Write one HTML page about a label version: counts, rejections, failures, photos."""
    from engine.card import write_card  # drawing is slow to load
    from engine.report import write_report

    output = open_location(place, endpoint=endpoint, region=region)
    out.print(f"wrote {write_report(output, version)}", soft_wrap=True)
    if card:
        out.print(f"wrote {write_card(output, version)}", soft_wrap=True)


@app.command()
def evaluate(
    place: Place,
    truth: Annotated[str, typer.Argument(help="True labels in any format, or a dataset.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Of the truth: kind=coco images=photos"),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Label version; the current one.")] = None,
    source: Annotated[str | None, typer.Option(help="Rows of this source alone.")] = None,
    family: Annotated[
        list[str] | None, typer.Option(help="boxes, words, captions or phrases; repeatable.")
    ] = None,
    min_iou: Annotated[float, typer.Option(help="Least overlap of a box with a true one.")] = 0.5,
    match_case: Annotated[bool, typer.Option(help="Words must agree in case too.")] = False,
    merged_boxes: Annotated[
        bool, typer.Option(help="Hold a phrase against the one box around all its true boxes.")
    ] = False,
    count_missing: Annotated[
        bool, typer.Option(help="Truth on images that the dataset has not counts as missed.")
    ] = False,
    count_extra: Annotated[
        bool, typer.Option(help="Rows on images that the truth has not count as wrong.")
    ] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Write all numbers here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw precision and recall by rule.")] = None,
    endpoint: Endpoint = None,
    region: Region = None,
) -> None:
    """Compare a label version with ground truth, as it is and before and after every rule."""
    output = open_location(place, endpoint=endpoint, region=region)
    found = run_evaluate(
        output,
        labels_config(truth, truth, options or []),  # it is only read: no other place is needed
        version=version,
        source=source,
        families=family,
        min_iou=min_iou,
        ignore_case=not match_case,
        merged_boxes=merged_boxes,
        count_missing=count_missing,
        count_extra=count_extra,
    )
    out.print(found.tables())
    if json_ is not None:
        json_.write_text(found.to_json(), encoding="utf-8")
        out.print(f"wrote {json_}", soft_wrap=True)
    if plot is not None:
        found.plot(plot)
        out.print(f"wrote {plot}", soft_wrap=True)


@app.command()
def refine(
    config: ConfigFile,
    overrides: Overrides = None,
    cold_start: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="KIND GOLD",
            help="Learn a new kind of rows from a few labels instead, and annotate all with it.",
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Pictures of a cold start's labels, if not the dataset's.")
    ] = None,
) -> None:
    """Train Florence-2 on the kept labels and let it correct them, round by round."""
    if images is not None and cold_start is None:
        raise ConfigError("--images are those of a --cold-start, which is not asked for")
    settings = _config(config, overrides)
    observer = TerminalObserver(out) if out.is_terminal else LogObserver()
    try:
        if cold_start is not None:
            from engine.cold_start_command import run_cold_start

            run_cold_start(settings, *cold_start, observer, out, images=images)
        else:
            from engine.refine_commands import run_refine

            run_refine(settings, observer, out)
    finally:
        observer.close()


@app.command()
def rounds(place: Place, endpoint: Endpoint = None, region: Region = None) -> None:
    """The rounds of a refinement: quality, counts and cost as a table and a plot."""
    from engine.refine_commands import show_rounds

    show_rounds(open_location(place, endpoint=endpoint, region=region), out)


@app.command()
def train(
    config: ConfigFile,
    folder: Annotated[Path, typer.Argument(help="Where the model and its log are written.")],
    overrides: Overrides = None,
) -> None:
    """Train Florence-2 on the kept labels of a dataset; the same command resumes."""
    from engine.refine_commands import run_train

    run_train(_config(config, overrides), folder, out)


@app.command("import")
def import_(
    labels: Annotated[str, typer.Argument(metavar="SRC", help="A file or folder of labels.")],
    place: Place,
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Of the source, such as kind=coco images=photos; or of the config by full name.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Delete the dataset there and start again.")
    ] = False,
) -> None:
    """Make a dataset of labels in a format others use, with its pictures where given."""
    job = compose(labels_config(labels, place, options or []))
    if run_import(job, out, overwrite=overwrite):
        raise typer.Exit(EXIT_FAILURES)


@app.command("export")
def export_(
    place: Place,
    target: Annotated[str, typer.Argument(metavar="DST", help="The file or folder to write.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="kind=KIND", help="A format; `fld formats`.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Label version; the current one.")] = None,
    source: Annotated[str | None, typer.Option(help="Rows of this source alone.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files of the same names.")] = False,
    endpoint: Endpoint = None,
    region: Region = None,
) -> None:
    """Write the kept rows of a dataset in a format others use."""
    given = dict(option.partition("=")[::2] for option in options or [])
    if set(given) != {"kind"}:
        raise ConfigError(f"export: give kind=KIND; known: {', '.join(sorted(FORMATS.names()))}")
    dataset_place = open_location(place, endpoint=endpoint, region=region)
    run_export(
        dataset_place,
        {"uri": target, **given},
        out,
        version=version,
        source=source,
        overwrite=overwrite,
    )


@app.command()
def formats() -> None:
    """What label formats there are to read and write."""
    out.print(options_table(FORMATS, None))


@app.command()
def sources(name: Annotated[str | None, typer.Argument()] = None) -> None:
    """What kinds of sources there are; with a name, its options and defaults."""
    out.print(options_table(SOURCES, name))


@app.command()
def specialists(name: Annotated[str | None, typer.Argument()] = None) -> None:
    """What specialists there are; with a name, its options and defaults."""
    out.print(options_table(SPECIALISTS, name))


@app.command()
def rules(name: Annotated[str | None, typer.Argument()] = None) -> None:
    """What rules there are; with a name, its options and defaults."""
    out.print(options_table(RULES, name))


@app.command()
def init(
    path: Annotated[
        Path, typer.Argument(help="A config of ours, such as laptop, or where to write one.")
    ] = Path("annotate.yaml"),
) -> None:
    """Write a commented config to start from: ours of that name, or annotate.yaml."""
    ours = sorted(file.name for file in files("configs").iterdir() if file.name.endswith(".yaml"))
    if not path.suffix:
        known = [name.removesuffix(".yaml") for name in ours]
        if path.name not in known:
            hint = config_module.nearest(path.name, known)
            raise ConfigError(f"{path}: no config of ours, and no name of a YAML file; {hint}")
        path = path.with_suffix(".yaml")
    if path.exists():
        raise ConfigError(f"{path}: is there already; give another name")
    template = path.name if path.name in ours else "annotate.yaml"
    try:
        path.write_text((files("configs") / template).read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror}") from err
    # a command line that can be copied is never broken in two
    out.print(
        f"wrote {path}; edit source.uri and output.uri, then: fld checks {path}", soft_wrap=True
    )


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Everything is written below it.")] = Path("demo"),
    detector: Annotated[str | None, typer.Option(help="A COCO detector for the photos.")] = None,
) -> None:
    """Annotate synthetic scenes and photos with real models; scores and contact sheets."""
    from engine.demo import run_demo  # draws; see inspect

    run_demo(folder, out, detector=detector)


@config_app.command("show")
def config_show(config: ConfigFile, overrides: Overrides = None) -> None:
    """Print the resolved config, every default filled in."""
    sys.stdout.write(dataset.dump_config(_job(config, overrides).config))


def _job(config: str, overrides: list[str] | None) -> Job:
    return compose(_config(config, overrides))


def _config(config: str, overrides: list[str] | None) -> config_module.Config:
    # `fld annotate source.uri=x ...` without a file: the first argument is an override then
    if "=" in config and not Path(config).exists():
        return config_module.load_config(None, [config, *(overrides or [])])
    return config_module.load_config(Path(config), overrides or [])


def _current(output: Location) -> str:
    return str(dataset.read_dataset(output)["current"])


def main() -> None:
    """Runs the command; errors meant for users become one line and an exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise_signalled)
    try:
        # ends in SystemExit: 0, a command's own code, or 2 for a wrong command line
        app(prog_name="fld")
    except StoppedError as err:
        _say("stopped", err)
        sys.exit(EXIT_STOPPED)
    except EngineError as err:
        _say("error", err)
        sys.exit(EXIT_REFUSED)
    except _SignalledError:
        _say("stopped", "the same command resumes")
        sys.exit(EXIT_STOPPED)


class _SignalledError(BaseException):
    """Ctrl-C or SIGTERM; typer would turn a KeyboardInterrupt into an exit code of its own."""


def _raise_signalled(_number: int, _frame: FrameType | None) -> Never:
    raise _SignalledError


def _say(word: str, message: object) -> None:
    sys.stderr.write(f"{word}: {message}\n")


if __name__ == "__main__":
    main()
