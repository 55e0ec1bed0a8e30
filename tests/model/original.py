"""The original network written the plain way, on tensors named as the original names them.

One function per block, `torch.nn.functional` only, the map repeated once per class: slow and easy to
compare with the paper. Weights are made from their names, so nothing has to be stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, Tensor]

N_CLASSES = 32
WINDOW = 7
FEATURE = 48
HEADS = (3, 6, 12, 24)


def fill(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor made from its name; the recipe stands beside the reference logits."""
    seed = zlib.crc32(f"0:{name}".encode())
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)
    if name == "organ_embedding":
        x *= 0.4
    elif name.endswith("relative_position_bias_table"):
        x *= 0.02
    elif len(shape) >= 2:
        x /= np.sqrt(np.prod(shape[1:], dtype=np.float32))
    elif name.endswith("weight"):
        x = 1 + 0.1 * x
    elif name.endswith("running_var"):
        x = 1 + 0.1 * np.abs(x)
    else:
        x *= 0.05
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def image(shape: tuple[int, ...] = (96, 96, 96), batch: int = 1) -> Tensor:
    """Input of the reference run (for its shape and batch)."""
    x = np.random.Generator(np.random.PCG64(7)).random((batch, 1, *shape), dtype=np.float32)
    return torch.from_numpy(x)


def weights(shapes: Shapes) -> Weights:
    """All tensors of a network; integer buffers are zero, because nobody may need them."""
    integers = ("num_batches_tracked", "relative_position_index")
    return {
        name: torch.zeros(shape, dtype=torch.int64) if name.endswith(integers) else fill(name, shape)
        for name, shape in shapes.items()
    }


def head_shapes(bottleneck: int, decoder: int) -> Shapes:
    return {
        "organ_embedding": (N_CLASSES, 512),
        "precls_conv.0.weight": (decoder,),
        "precls_conv.0.bias": (decoder,),
        "precls_conv.2.weight": (8, decoder, 1, 1, 1),
        "precls_conv.2.bias": (8,),
        "GAP.0.weight": (bottleneck,),
        "GAP.0.bias": (bottleneck,),
        "GAP.3.weight": (256, bottleneck, 1, 1, 1),
        "GAP.3.bias": (256,),
        "controller.weight": (153, 512, 1, 1, 1),
        "controller.bias": (153,),
        "text_to_vision.weight": (256, 512),
        "text_to_vision.bias": (256,),
    }


def _unet_blocks() -> Iterator[tuple[str, int, int]]:
    """Prefix, input and output channels of each convolution with a norm."""
    for name, first, middle, last in (
        ("down_tr64", 1, 32, 64),
        ("down_tr128", 64, 64, 128),
        ("down_tr256", 128, 128, 256),
        ("down_tr512", 256, 256, 512),
        ("up_tr256", 768, 256, 256),
        ("up_tr128", 384, 128, 128),
        ("up_tr64", 192, 64, 64),
    ):
        yield f"backbone.{name}.ops.0", first, middle
        yield f"backbone.{name}.ops.1", middle, last


def unet_shapes() -> Shapes:
    shapes = head_shapes(512, 64)
    for prefix, n_in, n_out in _unet_blocks():
        shapes[f"{prefix}.conv1.weight"] = (n_out, n_in, 3, 3, 3)
        shapes[f"{prefix}.conv1.bias"] = (n_out,)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{prefix}.bn1.{leaf}"] = (n_out,)
        shapes[f"{prefix}.bn1.num_batches_tracked"] = ()
    for fine, coarse in ((256, 512), (128, 256), (64, 128)):
        shapes[f"backbone.up_tr{fine}.up_conv.weight"] = (coarse, coarse, 2, 2, 2)
        shapes[f"backbone.up_tr{fine}.up_conv.bias"] = (coarse,)
    return shapes


def _attention_shapes(prefix: str, c: int, n_heads: int) -> Shapes:
    n = WINDOW**3
    sizes: Shapes = {
        "norm1": (c,),
        "attn.qkv": (3 * c, c),
        "attn.proj": (c, c),
        "norm2": (c,),
        "mlp.linear1": (4 * c, c),
        "mlp.linear2": (c, 4 * c),
    }
    shapes = {f"{prefix}.{name}.weight": size for name, size in sizes.items()}
    shapes |= {f"{prefix}.{name}.bias": size[:1] for name, size in sizes.items()}
    shapes[f"{prefix}.attn.relative_position_bias_table"] = ((2 * WINDOW - 1) ** 3, n_heads)
    shapes[f"{prefix}.attn.relative_position_index"] = (n, n)
    return shapes


def swin_shapes() -> Shapes:
    f = FEATURE
    shapes = head_shapes(16 * f, f)
    shapes |= {"backbone.swinViT.patch_embed.proj.weight": (f, 1, 2, 2, 2)}
    shapes |= {"backbone.swinViT.patch_embed.proj.bias": (f,)}
    for level, n_heads in enumerate(HEADS):
        c, layer = f * 2**level, f"backbone.swinViT.layers{level + 1}.0"
        for block in range(2):
            shapes |= _attention_shapes(f"{layer}.blocks.{block}", c, n_heads)
        shapes[f"{layer}.downsample.reduction.weight"] = (2 * c, 8 * c)
        shapes |= {f"{layer}.downsample.norm.{leaf}": (8 * c,) for leaf in ("weight", "bias")}
    for name, n_in, n_out in (
        ("1", 1, f),
        ("2", f, f),
        ("3", 2 * f, 2 * f),
        ("4", 4 * f, 4 * f),
        ("10", 16 * f, 16 * f),
    ):
        prefix = f"backbone.encoder{name}.layer"
        shapes |= _residual_shapes(prefix, n_in, n_out)
    for number, n_in, n_out in ((5, 16 * f, 8 * f), (4, 8 * f, 4 * f), (3, 4 * f, 2 * f), (2, 2 * f, f), (1, f, f)):
        prefix = f"backbone.decoder{number}"
        shapes[f"{prefix}.transp_conv.conv.weight"] = (n_in, n_out, 2, 2, 2)
        shapes |= _residual_shapes(f"{prefix}.conv_block", 2 * n_out, n_out)
    return shapes


def _residual_shapes(prefix: str, n_in: int, n_out: int) -> Shapes:
    shapes: Shapes = {f"{prefix}.conv1.conv.weight": (n_out, n_in, 3, 3, 3)}
    shapes[f"{prefix}.conv2.conv.weight"] = (n_out, n_out, 3, 3, 3)
    if n_in != n_out:
        shapes[f"{prefix}.conv3.conv.weight"] = (n_out, n_in, 1, 1, 1)
    return shapes


def naive_decode(shared: Tensor, parameters: Tensor, leak: float = 0.0) -> Tensor:
    """Logits (N, X, Y, Z): the 8-channel map (8, X, Y, Z) repeated per class, grouped convolutions."""
    n = len(parameters)
    w1, w2, w3, b1, b2, b3 = torch.split(parameters, [64, 64, 8, 8, 8, 1], dim=1)
    x = shared.repeat(n, 1, 1, 1)[None]
    x = functional.leaky_relu(functional.conv3d(x, w1.reshape(8 * n, 8, 1, 1, 1), b1.reshape(-1), groups=n), leak)
    x = functional.leaky_relu(functional.conv3d(x, w2.reshape(8 * n, 8, 1, 1, 1), b2.reshape(-1), groups=n), leak)
    return functional.conv3d(x, w3.reshape(n, 8, 1, 1, 1), b3.reshape(-1), groups=n)[0]


def naive_head(w: Weights, bottleneck: Tensor, decoded: Tensor) -> Tensor:
    """Logits (B, N, X, Y, Z), one sample and one class after the other."""
    text = functional.relu(
        functional.linear(w["organ_embedding"], w["text_to_vision.weight"], w["text_to_vision.bias"])
    )
    logits = []
    for deep, fine in zip(bottleneck, decoded, strict=True):
        x = functional.relu(functional.group_norm(deep[None], 16, w["GAP.0.weight"], w["GAP.0.bias"]))
        x = functional.adaptive_avg_pool3d(x, 1)
        x = functional.conv3d(x, w["GAP.3.weight"], w["GAP.3.bias"])
        parameters = []
        for word in text:
            condition = torch.cat([x, word.reshape(1, -1, 1, 1, 1)], dim=1)
            parameters.append(functional.conv3d(condition, w["controller.weight"], w["controller.bias"]).reshape(-1))
        x = functional.relu(functional.group_norm(fine[None], 16, w["precls_conv.0.weight"], w["precls_conv.0.bias"]))
        shared = functional.conv3d(x, w["precls_conv.2.weight"], w["precls_conv.2.bias"])[0]
        logits.append(naive_decode(shared, torch.stack(parameters)))
    return torch.stack(logits)


def naive_unet(w: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    """Deepest and last map, with batch norms in training mode; batch 1."""

    def block(x: Tensor, name: str) -> Tensor:
        for op in (f"backbone.{name}.ops.0", f"backbone.{name}.ops.1"):
            x = functional.conv3d(x, w[f"{op}.conv1.weight"], w[f"{op}.conv1.bias"], padding=1)
            x = functional.batch_norm(x, None, None, w[f"{op}.bn1.weight"], w[f"{op}.bn1.bias"], training=True)
            x = functional.relu(x)
        return x

    skips = [block(x, "down_tr64")]
    for name in ("down_tr128", "down_tr256", "down_tr512"):
        skips.append(block(functional.max_pool3d(skips[-1], 2), name))
    x = skips[-1]
    for name, skip in (("up_tr256", skips[2]), ("up_tr128", skips[1]), ("up_tr64", skips[0])):
        up = f"backbone.{name}.up_conv"
        lifted = functional.conv_transpose3d(x, w[f"{up}.weight"], w[f"{up}.bias"], stride=2)
        x = block(torch.cat([lifted, skip], dim=1), name)
    return skips[-1], x


def _affine(x: Tensor, w: Weights, name: str) -> Tensor:
    return functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def _norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def _position_bias(table: Tensor, n: int) -> Tensor:
    """(heads, n, n): offsets are counted in the full 7³ window even where a window is smaller."""
    at = np.stack(np.unravel_index(np.arange(n), (WINDOW,) * 3), axis=1)
    offset = at[:, None] - at[None] + WINDOW - 1
    span = 2 * WINDOW - 1
    return table[torch.from_numpy((offset[..., 0] * span + offset[..., 1]) * span + offset[..., 2])].permute(2, 0, 1)


def _attend(x: Tensor, w: Weights, name: str, n_heads: int, *, shifted: bool) -> Tensor:
    """Attention of tokens (X, Y, Z, C) within windows, window after window."""
    size, c = x.shape[:3], x.shape[3]
    edge = [min(WINDOW, s) for s in size]
    shift = [WINDOW // 2 if shifted and s > WINDOW else 0 for s in size]
    padded = [-(-s // e) * e for s, e in zip(size, edge, strict=True)]
    grid = x.new_zeros(*padded, c)
    grid[: size[0], : size[1], : size[2]] = x
    out = torch.zeros_like(grid)
    bias = _position_bias(w[f"{name}.relative_position_bias_table"], int(np.prod(edge)))
    for corner in product(*(range(0, p, e) for p, e in zip(padded, edge, strict=True))):
        # Window positions count along the rolled axes; `where` is the place before rolling.
        rolled = [range(a, a + e) for a, e in zip(corner, edge, strict=True)]
        where = np.ix_(*[[(r + s) % p for r in axis] for axis, s, p in zip(rolled, shift, padded, strict=True)])
        wrapped = np.ix_(*[[int(r + s >= p) for r in axis] for axis, s, p in zip(rolled, shift, padded, strict=True)])
        region = torch.from_numpy((wrapped[0] * 4 + wrapped[1] * 2 + wrapped[2]).reshape(-1))
        tokens = grid[where].reshape(-1, c)
        q, k, v = _affine(tokens, w, f"{name}.qkv").reshape(-1, 3, n_heads, c // n_heads).unbind(1)
        scores = torch.einsum("qhc,khc->hqk", q, k) / (c // n_heads) ** 0.5
        scores = scores + bias - 100.0 * (region[:, None] != region[None])
        mixed = torch.einsum("hqk,khc->qhc", scores.softmax(-1), v).reshape(-1, c)
        out[where] = _affine(mixed, w, f"{name}.proj").reshape(*edge, c)
    return out[: size[0], : size[1], : size[2]]


def _swin_level(x: Tensor, w: Weights, layer: str, n_heads: int) -> Tensor:
    """Two transformer blocks on (X, Y, Z, C), then half the resolution."""
    for block in range(2):
        name = f"{layer}.blocks.{block}"
        x = x + _attend(_norm(x, w, f"{name}.norm1"), w, f"{name}.attn", n_heads, shifted=block == 1)
        hidden = functional.gelu(_affine(_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.linear1"))
        x = x + _affine(hidden, w, f"{name}.mlp.linear2")
    even, odd = slice(0, None, 2), slice(1, None, 2)
    first_four = [x[even, even, even], x[odd, even, even], x[even, odd, even], x[even, even, odd]]
    # The original's slip: (even, odd, even) and (even, even, odd) again instead of two missing corners.
    last_four = [x[odd, even, odd], x[even, odd, even], x[even, even, odd], x[odd, odd, odd]]
    return _affine(
        _norm(torch.cat([*first_four, *last_four], -1), w, f"{layer}.downsample.norm"),
        w,
        f"{layer}.downsample.reduction",
    )


def _residual(x: Tensor, w: Weights, name: str) -> Tensor:
    def conv(x: Tensor, number: int) -> Tensor:
        weight = w[f"{name}.conv{number}.conv.weight"]
        return functional.instance_norm(functional.conv3d(x, weight, padding=weight.shape[-1] // 2))

    y = conv(functional.leaky_relu(conv(x, 1), 0.01), 2)
    return functional.leaky_relu(y + (conv(x, 3) if f"{name}.conv3.conv.weight" in w else x), 0.01)


def naive_swin(w: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    """Deepest and last map; batch 1."""
    stem = "backbone.swinViT.patch_embed.proj"
    tokens = functional.conv3d(x, w[f"{stem}.weight"], w[f"{stem}.bias"], stride=2)[0].permute(1, 2, 3, 0)
    hidden = [tokens]
    for level, n_heads in enumerate(HEADS):
        hidden.append(_swin_level(hidden[-1], w, f"backbone.swinViT.layers{level + 1}.0", n_heads))
    maps = [functional.layer_norm(h, h.shape[-1:]).permute(3, 0, 1, 2)[None] for h in hidden]
    skips = {
        5: maps[3],
        4: _residual(maps[2], w, "backbone.encoder4.layer"),
        3: _residual(maps[1], w, "backbone.encoder3.layer"),
        2: _residual(maps[0], w, "backbone.encoder2.layer"),
        1: _residual(x, w, "backbone.encoder1.layer"),
    }
    bottleneck = y = _residual(maps[4], w, "backbone.encoder10.layer")
    for number, skip in skips.items():
        name = f"backbone.decoder{number}"
        lifted = functional.conv_transpose3d(y, w[f"{name}.transp_conv.conv.weight"], stride=2)
        y = _residual(torch.cat([lifted, skip], dim=1), w, f"{name}.conv_block")
    return bottleneck, y
