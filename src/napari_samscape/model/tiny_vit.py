"""MobileSAM's image encoder: TinyViT, a convolutional stage and three stages of windowed attention.

Sources: Wu et al., "TinyViT" (ECCV 2022, section 3 and table 1) for the network; Zhang et al., "Faster
Segment Anything" (arXiv 2306.14289) for its use in SAM: the last downsampling keeps the resolution, so
that a picture of 1024 pixels ends in 64 x 64 features, and SAM's neck brings them to 256 channels.
The modules are named so that the official checkpoint's keys fit; names that look odd stem from there.

Shapes here are `(b, c, h, w)` for maps; `n` is the number of pixels in one attention window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_samscape.errors import InputError
from napari_samscape.model.layers import LayerNorm2d


@dataclass(frozen=True)
class TinyViTConfig:
    """Sizes of a TinyViT; the defaults are MobileSAM's.

    Attributes
    ----------
    widths, depths : tuple of int
        Channels and blocks of each stage; the first stage is convolutional.
    heads, windows : tuple of int
        Attention heads and window side (pixels of the feature map) of the second and later stages.
    mlp_ratio, conv_ratio : int
        Growth of the hidden width in the MLPs and in the convolutional stage's blocks.
    out_channels : int
        Channels of the embedding.
    classes : int
        Outputs of the classifier that official checkpoints carry and SAM never asks; 0 for none.
    image_size : int
        Side in pixels of the square picture that the encoder was trained on. No weight depends on it.
    """

    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (4, 5, 10)
    windows: tuple[int, ...] = (7, 14, 7)
    mlp_ratio: int = 4
    conv_ratio: int = 4
    out_channels: int = 256
    classes: int = 1000
    image_size: int = 1024


def tiny_vit_config(shapes: Mapping[str, tuple[int, ...]]) -> TinyViTConfig:
    """Read the architecture off the names and shapes of a checkpoint's image encoder.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Shape of each weight by its key, with or without the prefix ``image_encoder.``; other keys of
        the checkpoint may be among them.

    Returns
    -------
    TinyViTConfig

    Raises
    ------
    InputError
        If a weight is missing or has a shape that no TinyViT has.

    Examples
    --------
    >>> shapes = {key: tuple(value.shape) for key, value in TinyViT().state_dict().items()}
    >>> tiny_vit_config(shapes) == TinyViTConfig()
    True
    """
    own = {key.removeprefix("image_encoder."): tuple(shape) for key, shape in shapes.items()}

    def shape_of(key: str, ndim: int) -> tuple[int, ...]:
        if len(own.get(key, ())) != ndim:
            raise InputError(f"The checkpoint is no TinyViT: 'image_encoder.{key}' is missing or misshapen.")
        return own[key]

    stages = _count(own, "layers.{}.blocks.0.")
    depths = tuple(_count(own, f"layers.{stage}.blocks.{{}}.") for stage in range(stages))
    biases = [shape_of(f"layers.{i}.blocks.0.attn.attention_biases", 2) for i in range(1, stages)]
    windows = tuple(math.isqrt(length) for _, length in biases)
    if any(window**2 != length for window, (_, length) in zip(windows, biases, strict=True)):
        raise InputError("The checkpoint is no TinyViT: an attention window in it is not square.")
    first = shape_of("patch_embed.seq.2.c.weight", 4)[0]
    later = [shape_of(f"layers.{i}.blocks.0.attn.proj.weight", 2)[0] for i in range(1, stages)]
    hidden, width = shape_of("layers.1.blocks.0.mlp.fc1.weight", 2)
    return TinyViTConfig(
        widths=(first, *later),
        depths=depths,
        heads=tuple(heads for heads, _ in biases),
        windows=windows,
        mlp_ratio=hidden // width,
        conv_ratio=shape_of("layers.0.blocks.0.conv1.c.weight", 4)[0] // first,
        out_channels=shape_of("neck.0.weight", 4)[0],
        classes=own["head.weight"][0] if "head.weight" in own else 0,
    )


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    """Count how many of the prefixes ``pattern.format(0)``, ``pattern.format(1)``, ... some key has."""
    number = 0
    while any(key.startswith(pattern.format(number)) for key in shapes):
        number += 1
    return number


class TinyViT(nn.Module):
    """Image encoder of MobileSAM.

    Parameters
    ----------
    config : TinyViTConfig, optional
        MobileSAM's where left out.
    """

    def __init__(self, config: TinyViTConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TinyViTConfig()
        self.patch_embed = PatchEmbed(config.widths[0])
        self.layers = nn.ModuleList(_stage(config, index) for index in range(len(config.widths)))
        last, out = config.widths[-1], config.out_channels
        # The classifier of the pretraining: official checkpoints hold it, nothing here calls it.
        if config.classes:
            self.norm_head = nn.LayerNorm(last)
            self.head = nn.Linear(last, config.classes)
        self.neck = nn.Sequential(
            nn.Conv2d(last, out, 1, bias=False),
            LayerNorm2d(out),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            LayerNorm2d(out),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised pictures.

        Parameters
        ----------
        images : Tensor, shape (b, 3, h, w), float
            Normalised by SAM's mean and standard deviation, padded to the model's square; h and w are
            multiples of 16 (1024 for the published weights).

        Returns
        -------
        Tensor, shape (b, out_channels, h / 16, w / 16)
        """
        x = self.patch_embed(images)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)


class ConvNorm(nn.Sequential):
    """A convolution without bias, followed by batch normalisation; keeps the size where stride is 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)


class PatchEmbed(nn.Module):
    """Two convolutions of stride 2: `(b, 3, h, w)` to `(b, width, h/4, w/4)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.seq = nn.Sequential(
            ConvNorm(3, half, 3, stride=2), nn.GELU(), ConvNorm(half, width, 3, stride=2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Make patches of 4 x 4 pixels."""
        return self.seq(images)


class InvertedBottleneck(nn.Module):
    """The convolutional block of the first stage (MobileNetV2's, with a residual)."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        hidden = width * ratio
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `(b, c, h, w)`."""
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return F.gelu(x + self.conv3(y))


class Downsample(nn.Module):
    """The step to the next stage: more channels, and half the resolution where stride is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Bring `(b, c, h, w)` to `(b, outputs, h/stride, w/stride)`."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Self-attention inside windows, with one learned bias per head and distance |dy|, |dx|."""

    bias_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))
        # Which bias belongs to a pair of pixels: distances in raster order. Looked up in every pass, so
        # that it is never stale after loading or a training step.
        side = torch.arange(window)
        distance = (side[:, None] - side[None, :]).abs()
        index = distance[:, None, :, None] * window + distance[None, :, None, :]
        self.register_buffer("bias_index", index.reshape(window**2, window**2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Let the pixels of each window see each other; `(b, n, c)` with one window per b."""
        batch, n, width = x.shape
        # (b, n, 3c) -> per head its query, key and value side by side -> three of (b, heads, n, d)
        qkv = self.qkv(self.norm(x)).view(batch, n, self.heads, -1).transpose(1, 2)
        query, key, value = qkv.chunk(3, dim=-1)
        bias = self.attention_biases[:, self.bias_index]
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias
        mixed = scores.softmax(dim=-1) @ value
        return self.proj(mixed.transpose(1, 2).reshape(batch, n, width))


class Mlp(nn.Module):
    """Two linear layers with a normalisation before."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Work on the last axis."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    """Windowed attention, a depthwise convolution that carries across windows, an MLP."""

    def __init__(self, width: int, heads: int, window: int, ratio: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.mlp = Mlp(width, ratio * width)
        self.local_conv = ConvNorm(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `(b, c, h, w)`."""
        x = x + self._attend(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x).permute(0, 2, 3, 1)
        return (x + self.mlp(x)).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        side = self.window
        # As trained: zeros fill up the last windows and take part in the attention.
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        # (b, rows, side, columns, side, c) -> (b * rows * columns, side * side, c)
        x = x.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        x = self.attn(x.reshape(-1, side * side, channels))
        x = x.view(batch, rows, columns, side, side, channels).transpose(2, 3)
        return x.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]


class Stage(nn.Module):
    """Blocks of one width, and the step to the next stage where there is one."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Bring `(b, c, h, w)` to the next stage's shape."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


def _stage(config: TinyViTConfig, index: int) -> Stage:
    width, depth, last = config.widths[index], config.depths[index], len(config.widths) - 1
    blocks: list[nn.Module]
    if index == 0:
        blocks = [InvertedBottleneck(width, config.conv_ratio) for _ in range(depth)]
    else:
        heads, window = config.heads[index - 1], config.windows[index - 1]
        blocks = [Block(width, heads, window, config.mlp_ratio) for _ in range(depth)]
    if index == last:
        return Stage(blocks, None)
    # MobileSAM's change to TinyViT: the step into the last stage keeps the resolution.
    stride = 1 if index == last - 1 else 2
    return Stage(blocks, Downsample(width, config.widths[index + 1], stride))
