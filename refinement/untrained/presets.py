"""Sizes of untrained Florence-2 checkpoints: one of its own for a laptop, and the two published."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engine.config import build, nearest
from engine.errors import ConfigError

_HEAD = 32  # channels of a head, and of a group, of the vision tower in both published sizes
_GRID = 50  # rows and columns with a position of their own in both published sizes
_MOST_PIXELS = 1536  # twice what the paper trains at


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The sizes of a DaViT tower and of the BART that reads its features.

    Attributes:
        image_size: Height and width every picture is scaled to, pixels.
        embed_dim: Channels of each stage of the tower, multiples of 32, 32 to a head.
        depths: Blocks of each stage.
        patch_size: Kernel of the convolution before each stage.
        patch_stride: Its stride; their product is the side of an image token, pixels.
        patch_padding: Its padding.
        window_size: Side of the windows of spatial attention, cells.
        drop_path: Rate of stochastic depth in the tower.
        d_model: Width of BART.
        layers: Of its encoder, and as many of its decoder.
        heads: Of its attention; they divide `d_model`.
        ffn_dim: Hidden width of its dense layers.
        max_positions: Longest sequence of encoder and decoder at `image_size`, image tokens and
            all; a larger picture gets as many more as it has more tokens.
        dropout: Rate in BART, also on attention and activations.
        init_std: Of the random weights of BART; those of the tower are 0.02 in all presets.
        vocabulary_size: Words to learn from a dataset, at most, all special tokens counted.
    """

    image_size: int
    embed_dim: tuple[int, ...]
    depths: tuple[int, ...]
    patch_size: tuple[int, ...]
    patch_stride: tuple[int, ...]
    patch_padding: tuple[int, ...]
    window_size: int
    drop_path: float
    d_model: int
    layers: int
    heads: int
    ffn_dim: int
    max_positions: int
    dropout: float
    init_std: float = 0.02
    vocabulary_size: int

    def __post_init__(self) -> None:
        self._check_stages()
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ConfigError(f"model: {name} {getattr(self, name)}; must be 1 or more")
        for name in ("drop_path", "dropout"):
            rate = getattr(self, name)
            if not 0 <= rate < 1:
                raise ConfigError(f"model: {name} {rate}; must be 0 or more, and less than 1")
        if not 0 < self.init_std < math.inf:
            raise ConfigError(f"model: init_std {self.init_std}; must be more than 0")
        if self.d_model % self.heads:
            raise ConfigError(
                f"model: d_model {self.d_model} is no multiple of its {self.heads} heads"
            )
        if self.max_positions <= self.image_tokens():
            raise ConfigError(
                f"model: max_positions {self.max_positions}; a picture alone has "
                f"{self.image_tokens()} tokens, and a sentence follows"
            )

    def _check_stages(self) -> None:
        stages = {name: getattr(self, name) for name in _STAGED}
        if len({len(values) for values in stages.values()}) > 1 or not self.embed_dim:
            counts = ", ".join(f"{name} {len(values)}" for name, values in stages.items())
            raise ConfigError(
                f"model: every stage of the tower has one number of each; found {counts}"
            )
        for name, values in stages.items():
            least = 0 if name == "patch_padding" else 1
            if min(values) < least:
                raise ConfigError(f"model: {name} {list(values)}; each must be {least} or more")
        if any(width % _HEAD for width in self.embed_dim):
            raise ConfigError(
                f"model: embed_dim {list(self.embed_dim)}; each must be a multiple of {_HEAD}"
            )

    def grid(self, image_size: int | None = None) -> int:
        """Rows, and columns, of the features of a picture of that side, or of the preset's own.

        Raises:
            ConfigError: The side is over 1,536 pixels, or nothing is left of the picture.
        """
        side = self.image_size if image_size is None else image_size
        cells = side
        for patch in zip(self.patch_size, self.patch_stride, self.patch_padding, strict=True):
            size, stride, padding = patch
            cells = (cells + 2 * padding - size) // stride + 1
        if cells < 1 or side > _MOST_PIXELS:
            least = self.patch_size[0] - 2 * self.patch_padding[0]
            raise ConfigError(
                f"model: image_size {side}; allowed: {max(least, 1)} to {_MOST_PIXELS} pixels"
            )
        return cells

    def image_tokens(self, image_size: int | None = None) -> int:
        """Tokens of a picture: one for each cell, and one for their mean."""
        return self.grid(image_size) ** 2 + 1

    def vision(self, image_size: int) -> dict[str, Any]:
        """What transformers' `Florence2VisionConfig` wants to know."""
        stages = len(self.embed_dim)
        heads = [width // _HEAD for width in self.embed_dim]
        return {
            **{name: list(getattr(self, name)) for name in _STAGED},
            "patch_prenorm": [stage > 0 for stage in range(stages)],
            "num_heads": heads,
            "num_groups": heads,
            "window_size": self.window_size,
            "drop_path_rate": self.drop_path,
            "projection_dim": self.d_model,
            "max_position_embeddings": max(_GRID, self.grid(image_size)),
        }

    def text(self, image_size: int) -> dict[str, Any]:
        """What transformers' `BartConfig` wants to know, but its vocabulary."""
        more = max(0, self.image_tokens(image_size) - self.image_tokens())
        sides = ("encoder", "decoder")
        return {
            "d_model": self.d_model,
            **{f"{side}_layers": self.layers for side in sides},
            **{f"{side}_attention_heads": self.heads for side in sides},
            **{f"{side}_ffn_dim": self.ffn_dim for side in sides},
            "max_position_embeddings": self.max_positions + more,
            **{f"{what}dropout": self.dropout for what in ("", "attention_", "activation_")},
            "init_std": self.init_std,
        }


_STAGED = ("embed_dim", "depths", "patch_size", "patch_stride", "patch_padding")
_COUNTS = ("window_size", "d_model", "layers", "heads", "ffn_dim", "vocabulary_size")

# What the configurations of the published checkpoints have in common.
_PUBLISHED: dict[str, Any] = {
    "image_size": 768,
    "depths": (1, 1, 9, 1),
    "patch_size": (7, 3, 3, 3),
    "patch_stride": (4, 2, 2, 2),
    "patch_padding": (3, 1, 1, 1),
    "window_size": 12,
    "drop_path": 0.1,
    "max_positions": 1024,
    "dropout": 0.1,
    "vocabulary_size": 51_290,
}
PRESETS = {
    "tiny": Preset(
        image_size=64,
        embed_dim=(96, 128),
        depths=(1, 1),
        patch_size=(8, 3),
        patch_stride=(8, 1),
        patch_padding=(0, 1),
        window_size=4,
        drop_path=0.0,  # it has no block to spare
        d_model=128,
        layers=2,
        heads=4,
        ffn_dim=512,
        max_positions=256,
        dropout=0.0,
        init_std=0.06,  # 0.02 leaves words this narrow so alike that pictures stay unread for long
        vocabulary_size=2_000,
    ),
    "base": Preset(
        **_PUBLISHED,
        embed_dim=(128, 256, 512, 1024),
        d_model=768,
        layers=6,
        heads=12,
        ffn_dim=3072,
    ),
    "large": Preset(
        **_PUBLISHED,
        embed_dim=(256, 512, 1024, 2048),
        d_model=1024,
        layers=12,
        heads=16,
        ffn_dim=4096,
    ),
}


def find_preset(name: str, overrides: Mapping[str, Any] | None = None) -> Preset:
    """The preset of a name, with some of its numbers replaced.

    Raises:
        ConfigError: There is none of the name, or an override is no number of a preset, or wrong.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is not known; {nearest(name, PRESETS)}")
    if not overrides:
        return PRESETS[name]
    return build(Preset, {**asdict(PRESETS[name]), **overrides}, "model")
