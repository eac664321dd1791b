"""From a picture to labels on disk, in six lines of Python."""

from napari_samscape import load_model, open_image, segment
from napari_samscape.io import write_labels
from napari_samscape.sample_files import sample_path

image = open_image(sample_path("nuclei"))  # or any PNG, TIFF, OME-Zarr, NumPy or dask array
labels = segment(image, model=load_model("nano"))
write_labels("nuclei_labels.ome.zarr", labels, like=image, overwrite=True)
