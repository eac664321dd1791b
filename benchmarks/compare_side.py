"""One side of compare_reference.py: does what it is told on standard input and says how long it took.

It runs in a process of its own, ours in this package's environment, the reference in one of its own, which
imports from ours only what `Borrowed` needs: nano's network, for the reference's own generator.

    python compare_side.py ours|reference SETTINGS.json
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

BATCH = 64  # prompts that the reference decodes at once
POINT = (0.4, 0.6)  # (y, x) of the single click, as fractions


class Ours:
    """This package."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from napari_samscape import load_model
        from napari_samscape.model.process import keep_freed_memory

        keep_freed_memory()  # as the command samscape does
        self.settings = settings
        self.pixels = np.load(settings["picture"])
        self.model = load_model(settings["weights"], device="cpu")
        self.points = _points(self.pixels.shape[0])
        self.embedding: Any = None

    @contextlib.contextmanager
    def _precision(self, half: bool) -> Iterator[None]:
        self.model.precision = torch.bfloat16 if half else torch.float32
        try:
            yield
        finally:
            self.model.precision = torch.float32

    def encode(self, half: bool = False) -> None:
        """See the picture."""
        self.embedding = self._embedded(half)

    def _embedded(self, half: bool) -> Any:
        from napari_samscape import embed

        with self._precision(half):
            return embed(self.model, self.pixels)

    def decode_one(self, half: bool = False) -> None:
        """Answer a click with three masks of the picture's size."""
        from napari_samscape import Prompts, predict

        with self._precision(half):
            predict(self.model, self.embedding, Prompts(points=self.points[:1]))

    def decode_batch(self, half: bool = False) -> None:
        """Answer many clicks with three masks each, at low resolution."""
        self._decoded(self.embedding, half)

    def _decoded(self, embedding: Any, half: bool) -> Any:
        from napari_samscape.prediction.predict import decode_points

        with self._precision(half):
            return decode_points(self.model, embedding, self.points)[0]

    def agreement(self) -> float:
        """Mean IoU of masks with 16 bits, in encoder and decoder, and with 32."""
        one, two = (self._decoded(self._embedded(half), half) > 0 for half in (False, True))
        union = (one | two).sum((-1, -2))
        return float(((one & two).sum((-1, -2))[union > 0] / union[union > 0]).mean())

    def everything(self, half: bool = False) -> list[Any]:
        """Find everything with the reference's settings."""
        from napari_samscape.prediction.automatic import everything
        from napari_samscape.prediction.options import EverythingOptions

        options = EverythingOptions(prompt_source="grid", **self.settings["everything"])
        with self._precision(half):
            return list(everything(self.model, self.pixels, options))

    def masks(self, half: bool = False) -> Any:
        """Find everything, and give whole masks (n, y, x)."""
        found = self.everything(half)
        whole = np.zeros((len(found), *self.pixels.shape[:2]), bool)
        for mask, item in zip(whole, found, strict=True):
            y0, x0, y1, x1 = item.box
            mask[y0:y1, x0:x1] = item.mask
        return whole


class Reference:
    """Meta's package."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.nms = _see_to_nms()
        from segment_anything import SamPredictor

        self.settings = settings
        self.pixels = np.load(settings["picture"])
        self.model = Borrowed(settings["weights"]) if settings["vit"] is None else _reference_model(settings)
        self.predictor = SamPredictor(self.model)
        self.points = _points(self.pixels.shape[0])

    def encode(self) -> None:
        """See the picture."""
        self.predictor.set_image(self.pixels)

    def decode_one(self) -> None:
        """Answer a click with three masks of the picture's size."""
        self.predictor.predict(self.points[:1, ::-1], np.ones(1))

    @torch.no_grad()
    def decode_batch(self) -> None:
        """Answer many clicks with three masks each, at low resolution."""
        where = self.predictor.transform.apply_coords(self.points[:, ::-1].copy(), self.pixels.shape[:2])
        points = torch.as_tensor(where, dtype=torch.float32)[:, None], torch.ones(BATCH, 1, dtype=torch.int)
        sparse, dense = self.model.prompt_encoder(points=points, boxes=None, masks=None)
        self.model.mask_decoder(
            image_embeddings=self.predictor.features,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )

    def everything(self) -> list[Any]:
        """Find everything."""
        from segment_anything import SamAutomaticMaskGenerator

        return SamAutomaticMaskGenerator(self.model, **self.settings["everything"]).generate(self.pixels)

    def masks(self) -> Any:
        """Find everything, and give whole masks (n, y, x)."""
        found = [record["segmentation"] for record in self.everything()]
        return np.stack(found) if found else np.zeros((0, *self.pixels.shape[:2]), bool)


class Borrowed:
    """nano with the face of the reference's model, so that the reference's own generator can ask it."""

    mask_threshold = 0.0
    image_format = "RGB"
    device = torch.device("cpu")

    def __init__(self, weights: str) -> None:
        from napari_samscape import load_model
        from napari_samscape.model.sam import MULTI, PromptTensors

        model = load_model(weights, device="cpu")

        def encode(pixels: Any) -> Any:
            return model.encode(pixels)

        def take(points: Any, boxes: Any, masks: Any) -> Any:
            return points, None

        def decode(image_embeddings: Any, sparse_prompt_embeddings: Any, **_: Any) -> Any:
            where, labels = sparse_prompt_embeddings
            return model.decode(image_embeddings, PromptTensors(where.float(), labels.long()), MULTI)

        encode.img_size = model.image_size  # type: ignore[attr-defined]
        take.get_dense_pe = lambda: None  # type: ignore[attr-defined]
        self.image_encoder, self.prompt_encoder, self.mask_decoder = encode, take, decode
        self._model = model

    def preprocess(self, pixels: Any) -> Any:
        """Pixels (1, 3, h, w) to the encoder's input."""
        return self._model.normalise(pixels.float())

    def postprocess_masks(self, masks: Any, input_size: Any, original_size: Any) -> Any:
        """Logits at low resolution to the picture's size, with the reference's steps."""
        pad = self._model.pad_multiple
        padded = tuple(side + -side % pad for side in input_size)
        shown = F.interpolate(masks, padded, mode="bilinear", align_corners=False)
        shown = shown[..., : input_size[0], : input_size[1]]
        return F.interpolate(shown, tuple(original_size), mode="bilinear", align_corners=False)


def _reference_model(settings: dict[str, Any]) -> Any:
    """Build the reference's model of the sizes that `ViTConfig` has; its decoder's never differ."""
    from segment_anything import modeling

    vit = settings["vit"]
    side, grid, width = vit["image_size"], vit["image_size"] // vit["patch_size"], vit["out_channels"]
    model = modeling.Sam(
        modeling.ImageEncoderViT(
            depth=len(vit["windows"]),
            embed_dim=vit["width"],
            img_size=side,
            mlp_ratio=vit["hidden"] / vit["width"],
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=vit["heads"],
            patch_size=vit["patch_size"],
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=[index for index, window in enumerate(vit["windows"]) if window == 0],
            window_size=max(vit["windows"]),
            out_chans=width,
        ),
        modeling.PromptEncoder(width, (grid, grid), (side, side), mask_in_chans=16),
        modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(2, width, 8, 2048),
            transformer_dim=width,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    model.load_state_dict(torch.load(settings["weights"], weights_only=True))
    return model.eval()


_KEPT: list[Any] = []  # what Python must not throw away


def _see_to_nms() -> str:
    """Where torchvision's compiled part does not fit torch's build, put a suppression of ours in its place.

    It does the same, and the generator spends next to no time in it.
    """
    spec = find_spec("torchvision")
    folder = Path((spec.submodule_search_locations or [""])[0]) if spec else Path()
    for compiled in folder.glob("_C.*"):
        with contextlib.suppress(OSError):
            torch.ops.load_library(str(compiled))
            return "torchvision"
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):  # the second is only asked whether it is there
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _KEPT.append(library)
    import torchvision

    torchvision.extension._has_ops = lambda: True
    return "stand-in"


def _nms(boxes: Any, scores: Any, threshold: float) -> Any:
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    left = torch.ones(len(boxes), dtype=torch.bool)
    for index in range(len(boxes)):
        if left[index]:
            corners = (
                torch.maximum(boxes[index, :2], boxes[:, :2]),
                torch.minimum(boxes[index, 2:], boxes[:, 2:]),
            )
            shared = (corners[1] - corners[0]).clamp(min=0).prod(1)
            beaten = shared > threshold * (areas[index] + areas - shared)
            beaten[: index + 1] = False
            left &= ~beaten
    return order[left]


def _points(side: int) -> Any:
    points = np.random.default_rng(1).uniform(0.05, 0.95, (BATCH, 2))
    points[0] = POINT
    return points * side


def _peak_mb(forget: bool = False) -> float:
    """Most memory since it was last forgotten, or since the start where the system does not forget."""
    try:
        if forget:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 2**20 if sys.platform == "darwin" else most / 2**10


def main() -> None:
    """Do what comes in, line by line."""
    # Whatever a library prints goes elsewhere.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side, path = sys.argv[1:]
    settings = json.loads(Path(path).read_text())
    torch.set_num_threads(settings["threads"])
    worker: Any = (Ours if side == "ours" else Reference)(settings)
    print(json.dumps({"nms": getattr(worker, "nms", "")}), file=answers, flush=True)
    for line in sys.stdin:
        _peak_mb(forget=True)
        start = time.perf_counter()
        what, *half = line.split()
        given = getattr(worker, what)(*(word == "half" for word in half))
        answer: dict[str, Any] = {"seconds": time.perf_counter() - start, "peak_mb": _peak_mb()}
        if isinstance(given, np.ndarray):
            np.save(answer.setdefault("file", str(Path(path).with_name(f"{side}.npy"))), given)
        elif given is not None:
            answer["value"] = given if isinstance(given, float) else len(given)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
