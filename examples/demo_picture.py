"""Put the demo's overlays side by side into docs/images/demo.png; run `make demo` first."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from napari_samscape.sample_files import PICTURES

ROOT = Path(__file__).resolve().parents[1]
HEIGHT = 320


def main() -> None:
    """Scale every overlay to one height and paste them in a row."""
    overlays = [Image.open(ROOT / "demo_output" / f"{name}_overlay.png") for name in PICTURES]
    resized = [o.resize((o.width * HEIGHT // o.height, HEIGHT), Image.Resampling.LANCZOS) for o in overlays]
    row = Image.new("RGB", (sum(r.width for r in resized) + 8 * (len(resized) - 1), HEIGHT), "white")
    left = 0
    for picture in resized:
        row.paste(picture, (left, 0))
        left += picture.width + 8
    row.save(ROOT / "docs" / "images" / "demo.png", optimize=True)


if __name__ == "__main__":
    main()
