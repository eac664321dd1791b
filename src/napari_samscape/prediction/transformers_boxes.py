"""Object-detection models of the library `transformers`: the DETR family, and those that are asked by words.

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
from napari_samscape.prediction.phrase import DETECTED, Phrase
from napari_samscape.prediction.pretrained import load_pretrained

SURE = 0.5


class TransformersDetector:
    """An object-detection model, with the processor of pictures that is stored beside it.

    Parameters
    ----------
    source : str
        A folder as the library's `save_pretrained` leaves it, with the weights as safetensors; or a name in
        the library's store, from where it is downloaded.
    threshold : float, optional
        Boxes of a lower score are left out; 0.5 where left out, or what the phrase says.
    device : str
        See `napari_samscape.model.weights.choose_device`.
    phrase : Phrase, optional
        What to find, by models for zero-shot detection (OWL-ViT, OWLv2, Grounding DINO), and by no others.

    Raises
    ------
    InputError
        If the library is not installed, or the model cannot be loaded.
    """

    def __init__(
        self,
        source: str,
        threshold: float | None = None,
        device: str = "auto",
        phrase: Phrase | None = None,
    ) -> None:
        what = f"The detector transformers:{source}"
        model = {"use_safetensors": True}  # pickles can run code
        kinds: dict[str, dict[str, Any]] = (
            {"AutoModelForObjectDetection": model, "AutoImageProcessor": {}}
            if phrase is None
            else {"AutoModelForZeroShotObjectDetection": model, "AutoProcessor": {}}
        )
        loaded, self.processor = load_pretrained(what, "detectors", source, kinds)
        self.words = None if phrase is None else phrase.text
        usual = SURE if phrase is None else DETECTED if phrase.threshold is None else phrase.threshold
        self.threshold = usual if threshold is None else threshold
        self.top = None if phrase is None else phrase.top
        self.model = loaded.to(choose_device(device)).eval()

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[Any], /) -> Detections:
        """Find the objects of a picture.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (y, x) or (y, x, 3)

        Returns
        -------
        Detections
            With scores; as classes the names the model has for them, or the phrase.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=-1)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise InputError(
                "Detectors of transformers look at 8-bit grey or RGB pictures; "
                f"this is {pixels.dtype} of shape {pixels.shape}."
            )
        found = self._named(pixels) if self.words is None else self._worded(pixels, self.words)
        order = torch.argsort(found["scores"], descending=True, stable=True)[: self.top].tolist()
        return Detections(
            boxes=found["boxes"].cpu().numpy()[order][:, [1, 0, 3, 2]],
            scores=found["scores"].cpu().numpy()[order],
            classes=[found["classes"][index] for index in order],
        )

    def _named(self, pixels: NDArray[np.uint8]) -> dict[str, Any]:
        given = self.processor(pixels, return_tensors="pt", input_data_format="channels_last")
        answer = self.model(**given.to(self.model.device))
        (found,) = self.processor.post_process_object_detection(
            answer, threshold=self.threshold, target_sizes=[pixels.shape[:2]]
        )
        names = self.model.config.id2label
        return {**found, "classes": [names.get(number, number) for number in found["labels"].tolist()]}

    def _worded(self, pixels: NDArray[np.uint8], words: str) -> dict[str, Any]:
        given = self.processor(
            images=pixels, text=[[words]], return_tensors="pt", input_data_format="channels_last"
        )
        answer = self.model(**given.to(self.model.device))
        (found,) = self.processor.post_process_grounded_object_detection(
            answer, threshold=self.threshold, target_sizes=[pixels.shape[:2]], text_labels=[[words]]
        )
        return {name: found[name] for name in ("boxes", "scores")} | {
            "classes": [words] * len(found["scores"])
        }
