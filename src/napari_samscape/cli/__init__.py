"""The command line: parse, build a `Job`, call. Heavy imports wait inside the commands, so help is quick.

A further command is a module of its own here: a function with ``@app.command()`` that raises `InputError` for
bad input and leaves the rest to `app.Commands`. The order of the imports is the order in ``samscape --help``.
"""

# ruff: noqa: I001
from napari_samscape.cli import segment, batch, cache, models, info, evaluate, train, finetune, engine
from napari_samscape.cli.app import app, main

__all__ = [
    "app",
    "batch",
    "cache",
    "engine",
    "evaluate",
    "finetune",
    "info",
    "main",
    "models",
    "segment",
    "train",
]
