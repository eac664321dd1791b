"""``samscape models``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from napari_samscape.cli.app import AsJson, app, print_json, progress_bar


@app.command()
def models(
    download: Annotated[str | None, typer.Option(metavar="NAME", help="Fetch this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the known models, or download one.

    samscape models

    samscape models --download vit_b
    """
    from napari_samscape.model import registry

    if download is not None:
        with progress_bar(in_bytes=True) as progress:
            fetched = registry.download(download, progress=progress)
        if as_json:
            print_json({"name": download, "path": str(fetched)})
        else:
            typer.echo(f"{download}: {fetched}")
        return
    rows = []
    for known in registry.KNOWN.values():
        path = registry.local_path(known.name)
        size = path.stat().st_size if path else known.size_bytes
        rows.append(
            {
                "name": known.name,
                "here": path is not None,
                "path": str(path) if path else None,
                "size_bytes": size,
                "licence": known.licence,
                "url": known.url,
                "sha256": known.sha256,
                "about": known.about,
            }
        )
    if as_json:
        print_json({"models": rows})
    else:
        _print_models(rows)


def _print_models(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "here", "size", "licence", "about", box=None, pad_edge=False)
    for row in rows:
        size = f"{row['size_bytes'] / 1e6:.0f} MB" if row["size_bytes"] else "?"
        table.add_row(row["name"], "yes" if row["here"] else "no", size, row["licence"], row["about"])
    Console().print(table)
