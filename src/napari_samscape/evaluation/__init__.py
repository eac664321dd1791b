"""How good masks are, measured as the SAM paper does it; see `napari_samscape.evaluation.run.evaluate`."""
