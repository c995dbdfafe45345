"""`fld model`: its commands, added to `fld` by `engine.cli`."""

from pathlib import Path
from typing import Annotated

import typer

model_app = typer.Typer(help="Make Florence-2 checkpoints.", no_args_is_help=True)


@model_app.callback()
def _model() -> None:
    """Keeps `init` a command of its own: of one command alone typer would make the whole app."""


@model_app.command("init")
def model_init(
    folder: Annotated[Path, typer.Argument(help="An empty or new folder for the checkpoint.")],
    preset: Annotated[str, typer.Option(help="tiny, base or large.")] = "tiny",
    dataset: Annotated[
        str | None, typer.Option(help="A dataset whose texts the tokenizer is trained on.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A folder with a BART vocabulary to take instead.")
    ] = None,
    vocabulary_size: Annotated[
        int | None, typer.Option(min=1, help="Most words of a trained tokenizer; the preset's.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=32, help="Side of the pictures it sees, pixels.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights.")] = 0,
) -> None:
    """Make an untrained Florence-2 checkpoint with a tokenizer."""
    from engine.refine_commands import run_model_init

    told = run_model_init(
        folder,
        preset=preset,
        dataset_uri=dataset,
        tokenizer=tokenizer,
        vocabulary_size=vocabulary_size,
        image_size=image_size,
        seed=seed,
    )
    typer.echo(told)
