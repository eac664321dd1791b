"""`nano`: a small model of our own in SAM's design, for CPUs and small objects.

What differs from SAM, and why:

- The encoder is convolutional (with a little attention at stride 32) and accepts any size that is a
  multiple of 32, so a picture is not padded to a square.
- Finer features at strides 8, 4 and 2 go to the decoder's upscaling, as in SAM 2 (Ravi et al. 2024) and
  HQ-SAM (Ke et al. 2023): a nucleus 15 pixels wide is a single cell at stride 16.
- Points and boxes are also *drawn*, next to the mask prompt, and join the dense prompt; the decoder need
  not learn from scratch where a coordinate lies.
- A dense head tells 'inside an object', 'near its centre' (which gives everything-mode its prompts) and
  where that centre is. What belongs to one centre is one object (Neven et al. 2019), so how near every cell's
  centre lies to that of the prompt is drawn as well: *kinship*.
- The predicted IoU starts from how sure the mask is of its own pixels; the head corrects that.
- Positions are absolute and any grid will do, so small objects are decoded in a window of the embedding as
  large as the crops of training, at a quarter of the cost: see `model.window`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_samscape.model.config import DecoderConfig, Shapes, count
from napari_samscape.model.layers import LayerNorm2d, MLPBlock
from napari_samscape.model.mask_decoder import Attention, MaskDecoder
from napari_samscape.model.opinion import Opinion, agreement, expected_iou
from napari_samscape.model.prompt_encoder import (
    BACKGROUND,
    BOX_START,
    FOREGROUND,
    PromptEncoder,
)

STRIDE = 16  # of the image embedding
PAD_MULTIPLE = 32
IMAGE_SIZE = 512
POINT_SIGMA = 4.0  # pixels of the shown picture; how large a click is drawn
DENSE_STRIDE = 4
DENSE_MAPS = 4
OFFSET_UNIT = 16.0  # pixels of the shown picture
KIN_SIGMAS = (4.0, 10.0, 25.0)  # pixels; how far apart centres may lie that are taken for one


@dataclass(frozen=True)
class NanoConfig:
    """Widths at strides 2, 4, 8, 16 and depths at strides 4, 8, 16, 32."""

    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    depths: tuple[int, int, int, int] = (2, 4, 4, 2)
    fine: tuple[int, int, int] = (48, 24, 12)  # decoder's widths at strides 8, 4, 2
    decoder: DecoderConfig = DecoderConfig(width=128, heads=4, hidden=512, inner=64, depth=2, iou_hidden=128)


def nano_config(shapes: Shapes, decoder: DecoderConfig) -> NanoConfig:
    """Infer the configuration from a checkpoint's names and shapes."""
    prefix = "image_encoder."
    widths = [shapes[f"{prefix}downs.{i}.0.weight"][0] for i in range(4)]
    depths = [count(shapes, rf"image_encoder\.stages\.{i}\.(\d+)\.") for i in range(4)]
    fine = [shapes[f"{prefix}to_skips.{i}.weight"][0] for i in range(3)]
    return NanoConfig(tuple(widths), tuple(depths), tuple(fine), decoder)  # type: ignore[arg-type]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = LayerNorm2d(width, gain=0.3)  # starts near the identity
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            LayerNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(b, width, h, w)`` in and out."""
        return F.relu(x + self.body(x))


class ContextBlock(nn.Module):
    """Global self-attention on the coarsest grid; a depthwise convolution tells positions."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLPBlock(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, width, h, w)`` in and out."""
        x = x + self.position(x)
        h, w = x.shape[2:]
        t = x.flatten(2).transpose(1, 2)  # (b, h*w, width)
        q, k, v = self.qkv(self.norm1(t)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        t = t + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        t = t + self.mlp(self.norm2(t))
        return t.transpose(1, 2).unflatten(2, (h, w))


def _down(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, 2, 1, bias=False), LayerNorm2d(out), nn.ReLU())


class NanoEncoder(nn.Module):
    """Pictures to an embedding at stride 16, finer features, and the dense head's maps."""

    def __init__(self, config: NanoConfig) -> None:
        super().__init__()
        self.image_size = IMAGE_SIZE
        w2, w4, w8, w16 = config.widths
        out, f8, f4 = config.decoder.width, 64, 48
        # No norm on the first: it divides by the local intensity, and dim objects look like their ground.
        stem = nn.Sequential(nn.Conv2d(3, w2, 3, 2, 1), nn.ReLU())
        self.downs = nn.ModuleList([stem, _down(w2, w4), _down(w4, w8), _down(w8, w16), _down(w16, w16)])
        d4, d8, d16, d32 = config.depths
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*(ResidualBlock(w4) for _ in range(d4))),
                nn.Sequential(*(ResidualBlock(w8) for _ in range(d8))),
                nn.Sequential(*(ResidualBlock(w16) for _ in range(d16))),
                nn.Sequential(*(ContextBlock(w16) for _ in range(d32))),
            ]
        )
        last = LayerNorm2d(out, gain=0.5)  # leaves the position encoding its say in attention
        self.neck = nn.Sequential(nn.Conv2d(w16, out, 1), nn.Conv2d(out, out, 3, padding=1), last)
        self.lateral = nn.ModuleList([nn.Conv2d(w8, f8, 1), nn.Conv2d(w4, f4, 1)])
        self.top_down = nn.ModuleList([nn.Conv2d(out, f8, 1), nn.Conv2d(f8, f4, 1)])
        self.smooth = nn.ModuleList([nn.Conv2d(f8, f8, 3, padding=1), nn.Conv2d(f4, f4, 3, padding=1)])
        skips = zip((f8, f4, w2), config.fine, strict=True)
        self.to_skips = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in skips)
        self.dense_head = nn.Sequential(
            nn.Conv2d(f4, f4, 3, padding=1), nn.ReLU(), nn.Conv2d(f4, DENSE_MAPS, 1)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Encode normalised pictures ``(b, 3, h, w)``, h and w multiples of 32.

        Returns
        -------
        features : Tensor, shape (b, c, h/16, w/16)
        skips : tuple of Tensor
            At strides 8, 4 and 2.
        dense : Tensor, shape (b, 4, h/4, w/4)
            Logits: inside an object, near an object's centre; then (y, x) from here to the middle of the
            object's box, in `OFFSET_UNIT` pixels.
        """
        x2 = self.downs[0](images.contiguous(memory_format=torch.channels_last))
        x4 = self.stages[0](self.downs[1](x2))
        x8 = self.stages[1](self.downs[2](x4))
        x16 = self.stages[2](self.downs[3](x8))
        x32 = self.stages[3](self.downs[4](x16))
        features = self.neck(x16 + F.interpolate(x32, scale_factor=2.0))
        p8 = self._merge(0, features, x8)
        p4 = self._merge(1, p8, x4)
        skips = tuple(f(p) for f, p in zip(self.to_skips, (p8, p4, x2), strict=True))
        return features, skips, self.dense_head(p4)

    def _merge(self, level: int, coarse: Tensor, fine: Tensor) -> Tensor:
        """Coarse features enlarged twice, plus fine ones: a feature pyramid's step (Lin et al. 2017)."""
        up = F.interpolate(self.top_down[level](coarse), scale_factor=2.0)
        return F.relu(self.smooth[level](F.relu(up + self.lateral[level](fine))))


class DrawnPromptEncoder(PromptEncoder):
    """SAM's prompt encoder whose dense part also shows where points and boxes lie."""

    def __init__(self, config: NanoConfig) -> None:
        width = config.decoder.width
        super().__init__(width, IMAGE_SIZE, IMAGE_SIZE // STRIDE)
        f8, f4, _ = config.fine
        # Several scales of position: one cell apart must differ, and so must opposite corners.
        matrix: Tensor = self.pe_layer.positional_encoding_gaussian_matrix  # type: ignore[assignment]
        matrix *= torch.logspace(-0.3, 0.6, width // 2)
        for kind in self.point_embeddings.parameters():
            nn.init.normal_(kind, std=0.3)  # less than the position's own magnitude
        self.mask_downscaling: nn.ModuleList = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(4, 12, 2, 2), nn.GELU()),
                nn.Sequential(nn.Conv2d(12, 24, 2, 2), nn.GELU()),
                nn.Conv2d(24, width, 2, 2),
            ]
        )
        self.to_fine = nn.ModuleList([nn.Conv2d(24, f8, 1), nn.Conv2d(12, f4, 1)])
        self.to_kin = nn.Conv2d(len(KIN_SIGMAS) + 1, 12, 1)

    def mask_prompt_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Mask prompts come at stride 2."""
        return grid[0] * STRIDE // 2, grid[1] * STRIDE // 2

    def forward(
        self,
        points: Tensor,
        labels: Tensor,
        masks: Tensor | None,
        grid: tuple[int, int],
        origin: Tensor | None = None,
        picture: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """As in `PromptEncoder`; ``fine`` holds maps at strides 8 and 4, ``picture`` the dense head's."""
        drawn = self.draw(points, labels, masks, grid)
        x4 = self.mask_downscaling[0](drawn)
        if picture is not None:
            x4 = x4 + self.to_kin(kinship(points, labels, picture))
        x8 = self.mask_downscaling[1](x4)
        dense = self.mask_downscaling[2](x8)
        sparse = self.embed_points(points, labels, origin)
        return sparse, dense, (self.to_fine[0](x8), self.to_fine[1](x4))

    def draw(self, points: Tensor, labels: Tensor, masks: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """Draw a prompt at stride 2: mask, foreground, background, box: ``(b, 4, h, w)`` in -1..1."""
        h, w = self.mask_prompt_size(grid)
        y = torch.arange(h, device=points.device) * 2 + 0.5  # centres of the stride-2 cells, in pixels
        x = torch.arange(w, device=points.device) * 2 + 0.5
        mask = points.new_zeros(len(points), h, w) if masks is None else (masks[:, 0] / 4).tanh()
        fore = _bumps(points, labels == FOREGROUND, y, x)
        back = _bumps(points, labels == BACKGROUND, y, x)
        maps = [mask.to(fore.dtype), fore, back, _box(points, labels, y, x)]
        return torch.stack(maps, dim=-1).permute(0, 3, 1, 2)  # channels last, as all that follows


def _bumps(points: Tensor, chosen: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Gaussian bumps at the chosen points, ``(b, h, w)``, at most about 1."""
    along_y = torch.exp(-0.5 * ((y - points[..., 1:]) / POINT_SIGMA) ** 2) * chosen.unsqueeze(-1)
    along_x = torch.exp(-0.5 * ((x - points[..., :1]) / POINT_SIGMA) ** 2)
    return torch.einsum("bny,bnx->byx", along_y, along_x).clamp(max=1)


def kinship(points: Tensor, labels: Tensor, dense: Tensor) -> Tensor:
    """How near the centre that each cell points to lies to the centre of the prompt.

    The centre of a point is the one that its cell points to, the centre of a box is its middle.

    Parameters
    ----------
    points, labels : Tensor, shapes (b, n, 2) and (b, n)
        (x, y) in pixels of the shown picture, and their kinds.
    dense : Tensor, shape (1 or b, 4, h, w)
        The dense head's maps.

    Returns
    -------
    Tensor, shape (b, 4, h, w)
        0..1: kinship with what is asked for, at three widths, and with background points at the middle one.
    """
    b, (h, w) = len(points), dense.shape[2:]
    if points.shape[1] == 0:  # a mask alone
        return dense.new_zeros(b, len(KIN_SIGMAS) + 1, h, w)
    y = torch.arange(h, device=points.device)[:, None] * DENSE_STRIDE + (DENSE_STRIDE - 1) / 2
    x = torch.arange(w, device=points.device) * DENSE_STRIDE + (DENSE_STRIDE - 1) / 2
    offsets = dense[:, 2:].float() * OFFSET_UNIT
    centre_y, centre_x = ((y + offsets[:, 0]).expand(b, -1, -1), (x + offsets[:, 1]).expand(b, -1, -1))
    rows = ((points[..., 1] + 0.5) / DENSE_STRIDE).long().clamp(0, h - 1)
    columns = ((points[..., 0] + 0.5) / DENSE_STRIDE).long().clamp(0, w - 1)
    index = rows * w + columns  # (b, n)
    middle = (points + points.roll(-1, 1)) / 2  # of a box's two corners, where its first one stands
    is_box = labels == BOX_START
    asked_y = torch.where(is_box, middle[..., 1], centre_y.flatten(1).gather(1, index))
    asked_x = torch.where(is_box, middle[..., 0], centre_x.flatten(1).gather(1, index))
    far = (centre_y[:, None] - asked_y[..., None, None]) ** 2 + (
        centre_x[:, None] - asked_x[..., None, None]
    ) ** 2  # (b, n, h, w)
    near, away = (
        far.masked_fill(~kind[..., None, None], 1e9).amin(1)
        for kind in (is_box | (labels == FOREGROUND), labels == BACKGROUND)
    )
    maps = [torch.exp(near / (-2 * sigma**2)) for sigma in KIN_SIGMAS]
    maps.append(torch.exp(away / (-2 * KIN_SIGMAS[1] ** 2)))
    kin = torch.stack(maps, dim=-1) * dense[:, 0, :, :, None].float().sigmoid()
    return kin.permute(0, 3, 1, 2)  # channels last


def _box(points: Tensor, labels: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """One inside the box, zero outside, with edges of two pixels; zero where there is no box."""
    if not bool((labels == BOX_START).any()):
        return points.new_zeros(len(points), len(y), len(x))
    is_start = (labels == BOX_START).to(points.dtype)
    has_box = is_start.sum(1)[:, None]
    start = (points * is_start.unsqueeze(-1)).sum(1)
    end = (points * (labels == BOX_START + 1).unsqueeze(-1)).sum(1)
    along_y = ((y - start[:, 1:]) / 2 + 0.5).clamp(0, 1) * ((end[:, 1:] - y) / 2 + 0.5).clamp(0, 1)
    along_x = ((x - start[:, :1]) / 2 + 0.5).clamp(0, 1) * ((end[:, :1] - x) / 2 + 0.5).clamp(0, 1)
    return torch.einsum("by,bx->byx", along_y * has_box, along_x)


def make_local(attention: Attention) -> None:
    """Start with queries and keys projected alike, so that attention goes to what lies near.

    Two random projections of one position are unrelated, and a decoder that starts so stays blind to
    positions for a long time; measured: docs/training.md.
    """
    nn.init.orthogonal_(attention.q_proj.weight, gain=1.6)
    with torch.no_grad():
        attention.k_proj.weight.copy_(attention.q_proj.weight)
    nn.init.zeros_(attention.q_proj.bias)
    nn.init.zeros_(attention.k_proj.bias)


class NanoMaskDecoder(MaskDecoder):
    """SAM's decoder with eightfold upscaling that takes in finer features of image and prompt."""

    judges_first = False  # see `estimate`

    def __init__(self, config: NanoConfig) -> None:
        self.fine = config.fine
        super().__init__(config.decoder, mask_width=config.fine[2])
        self.opinion = Opinion()
        for module in self.modules():
            if isinstance(module, Attention):
                make_local(module)

    def make_upscaling(self, width: int) -> nn.Module:
        """Three doublings, and 3 x 3 convolutions where prompt and image meet finely."""
        f8, f4, f2 = self.fine
        up = nn.ModuleDict(
            {
                "to8": nn.ConvTranspose2d(width, f8, 2, 2),
                "norm8": LayerNorm2d(f8),
                "mix8": nn.Conv2d(f8, f8, 3, padding=1),
                "more8": nn.Conv2d(f8, f8, 3, padding=1),
                "to4": nn.ConvTranspose2d(f8, f4, 2, 2),
                "norm4": LayerNorm2d(f4),
                "mix4": nn.Conv2d(f4, f4, 3, padding=1),
                "to2": nn.ConvTranspose2d(f4, f2, 2, 2),
            }
        )
        for name in ("more8", "mix4"):  # these start by adding nothing
            nn.init.zeros_(up[name].weight)  # type: ignore[arg-type]
        return up

    def upscale(
        self, image: Tensor, grid: tuple[int, int], skips: tuple[Tensor, ...], fine: tuple[Tensor, ...]
    ) -> Tensor:
        """``(b, h*w, width)`` to ``(b, 8h * 8w, c)``, row by row."""
        image = image.to(skips[0].dtype).transpose(1, 2).unflatten(2, grid)  # channels-last
        up: nn.ModuleDict = self.output_upscaling  # type: ignore[assignment]
        x8 = F.gelu(up["norm8"](up["to8"](image) + skips[0] + fine[0]))
        x8 = x8 + F.gelu(up["mix8"](x8))
        x8 = x8 + up["more8"](F.gelu(x8))
        x4 = F.gelu(up["norm4"](up["to4"](x8) + skips[1] + fine[1]))
        x4 = x4 + up["mix4"](x4)
        x2 = up["to2"](x4).add_(skips[2]).relu_()  # in place: this is the largest map of all
        # Pixels first: so the gradient comes back channels-last as well, and what lies below stays fast.
        return x2.flatten(2).transpose(1, 2)

    def arrange(self, values: Tensor, grid: tuple[int, int]) -> Tensor:
        """``(b, 8h * 8w, n)`` to ``(b, n, 8h, 8w)``."""
        h, w = grid
        return values.transpose(1, 2).contiguous().unflatten(2, (8 * h, 8 * w))

    def estimate(self, iou: Tensor, logits: Tensor) -> Tensor:
        """Correct what the masks themselves say about their IoU by the head's output, in logits.

        The IoU token sees stride 16, and what makes a small mask good or bad is finer than that. Of the three
        masks of an ambiguous prompt, one that the others agree with is right more often.
        """
        logits, iou = logits.detach(), iou.float()
        sure = torch.logit(expected_iou(logits), eps=1e-3)
        alone = logits.shape[1] % 3  # the single mask, where it is among them
        estimates = [(sure + iou)[:, :alone]]
        if logits.shape[1] > alone:
            agreed = torch.logit(agreement(logits[:, alone:]), eps=1e-3)
            estimates.append(self.opinion(torch.stack([sure[:, alone:], iou[:, alone:], agreed], dim=-1)))
        return torch.cat(estimates, dim=1).sigmoid()
