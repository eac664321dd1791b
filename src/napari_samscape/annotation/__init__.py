"""The data engine: pictures get labelled, and the model learns on the way (SAM paper, section 4)."""
