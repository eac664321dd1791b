"""Object-detection models of the library `transformers`, such as the DETR family, as detectors.

An extra, `pip install "napari-samscape[detectors]"`; imported only when such a detector is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_samscape.errors import InputError
from napari_samscape.model.weights import choose_device
from napari_samscape.prediction.detections import Detections


class TransformersDetector:
    """An object-detection model, with the processor of pictures that is stored beside it.

    Parameters
    ----------
    source : str
        A folder as the library's `save_pretrained` leaves it, with the weights as safetensors; or a name in
        the library's store, from where it is downloaded.
    threshold : float
        Boxes of a lower score are left out.
    device : str
        See `napari_samscape.model.weights.choose_device`.

    Raises
    ------
    InputError
        If the library is not installed, or the model cannot be loaded.
    """

    def __init__(self, source: str, threshold: float = 0.5, device: str = "auto") -> None:
        try:
            from transformers import AutoImageProcessor, AutoModelForObjectDetection
        except ImportError as error:
            raise InputError(
                f"The detector transformers:{source} needs the library transformers; "
                'install it with: pip install "napari-samscape[detectors]".'
            ) from error
        try:
            # Never code from the store, nor pickles, which can run code.
            self.processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
            model = AutoModelForObjectDetection.from_pretrained(
                source, trust_remote_code=False, use_safetensors=True
            )
        except Exception as error:  # the library fails in many ways, often at length
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
            raise InputError(f"The detector transformers:{source} cannot be loaded: {reason}.") from error
        self.threshold = threshold
        self.model = model.to(choose_device(device)).eval()

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[Any], /) -> Detections:
        """Find the objects of a picture.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (y, x) or (y, x, 3)

        Returns
        -------
        Detections
            With scores, and as classes the names the model has for them.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=-1)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise InputError(
                "Detectors of transformers look at 8-bit grey or RGB pictures; "
                f"this is {pixels.dtype} of shape {pixels.shape}."
            )
        given = self.processor(pixels, return_tensors="pt", input_data_format="channels_last")
        answer = self.model(**given.to(self.model.device))
        (found,) = self.processor.post_process_object_detection(
            answer, threshold=self.threshold, target_sizes=[pixels.shape[:2]]
        )
        names = self.model.config.id2label
        return Detections(
            boxes=found["boxes"].cpu().numpy()[:, [1, 0, 3, 2]],
            scores=found["scores"].cpu().numpy(),
            classes=[names.get(number, number) for number in found["labels"].tolist()],
        )
