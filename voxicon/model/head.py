"""The text-driven head: a word's vector and a scan's own feature become the weights of a tiny network.

For every class asked for, a controller turns [image feature, text feature] into the 153 numbers of a
three-layer 1×1×1 network (8→8→8→1) that runs on the last decoder map. One sigmoid per class follows,
so a tumor and the organ around it may both claim a voxel.

Source: Liu et al., CLIP-Driven Universal Model, ICCV 2023, section 3.

Two variants of the controller:

- shared (2023): one linear layer for all classes; it tells them apart by their projected text vectors.
- per class (2024, Universal and Extensible Language-Vision Models, MedIA): a small network of its own
  for each class, on [image feature, raw text vector]. A controller only ever sees its own word, which
  therefore acts as a bias: classes no longer learn from each other's words, and in exchange a class
  can be added without touching the others.

Decisions and their cost:

- The original repeats the 8-channel map once per class (256 channels for 32 classes). Here the first
  layer of all classes in a chunk is one matrix product on the shared map: same numbers, no repeat.
- Classes are decoded in chunks and voxels in blocks, so scratch memory is fixed whatever is asked for.
  In training the backward pass computes each block's hidden layers again instead of keeping them
  (for 20 classes at 96³ that is 1.1 GB not stored, and faster, because a block stays in the cache).
- The head knows no class names: it gets vectors and returns one logit map per vector.

Shape letters: B batch, C channels, N classes asked for, E embedding, P head parameters, X Y Z voxels, V = X·Y·Z,
F image feature, K classes with a controller of their own, H their hidden units, D length of a condition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

HIDDEN = 8
"""Channels inside a class's network. Source: original network, 8-8-1."""

FEATURE = 256
"""Length of the image feature and of the projected text feature."""

GROUPS = 16
"""Groups of both group norms; channel counts of every backbone must be multiples of it."""

N_PARAMETERS = HIDDEN * HIDDEN + HIDDEN * HIDDEN + HIDDEN + HIDDEN + HIDDEN + 1
"""153: weights of the three layers first (64, 64, 8), then their biases (8, 8, 1)."""

PRIOR_LOGIT = -4.6
"""Last bias of every class's network before training: a voxel is of a class with a chance of 1 in 100. From even odds a
rare class learns "evidence against" alone: its logit never exceeds that bias, and what is found and what is mistaken
for it get the same ceiling. Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, section 4.1."""

CONTROLLER_WIDTH = 2 * FEATURE
"""Hidden units of a class's own controller, whatever the length of a text vector, so that ablations of the
text encoder compare words and not sizes. Source: 512, the 2024 variant, for vectors of length 512. It is also
the least that lets a ReLU pass every image feature on with its sign, as one unit for it and one for its
negative: a shared controller can be written exactly as controllers per class."""

Rows = Tensor | slice
"""Which of the K classes: their indices (N,), or a slice, which copies nothing."""

EVERY_ROW = slice(None)
"""All K classes, in the order of the network."""

CLASS_CHUNK, CLASS_CHUNK_CPU = 32, 4
"""Classes decoded together; on a processor fewer, so that what passes from layer to layer stays in its cache: a window
of 96 x 80 x 80 and 28 classes took 0.09 s instead of 0.14 s there, and with gradients 0.41 s instead of 0.77 s."""

VOXEL_BLOCK = 1 << 14
"""Voxels decoded together: 16 Ki × 32 hidden channels × 4 B = 2 MB of scratch on a processor."""


class ClassControllers(nn.Module):
    """K two-layer controllers side by side: the first axis of every parameter counts classes.

    So any choice of them is one batched product, and a class is added by appending one row to each
    parameter. Rows start like separate linear layers: uniform within 1 / sqrt(inputs).

    Args:
        n_classes: K.
        condition_size: Length D of [image feature, text vector].
    """

    def __init__(self, n_classes: int, condition_size: int) -> None:
        super().__init__()
        self.hidden_weight = _uniform((n_classes, CONTROLLER_WIDTH, condition_size), condition_size)
        self.hidden_bias = _uniform((n_classes, CONTROLLER_WIDTH), condition_size)
        self.weight = _uniform((n_classes, N_PARAMETERS, CONTROLLER_WIDTH), CONTROLLER_WIDTH)
        self.bias = _uniform((n_classes, N_PARAMETERS), CONTROLLER_WIDTH)

    def forward(self, condition_BND: Tensor, rows: Rows = EVERY_ROW) -> Tensor:
        """Parameters (B, N, 153): the n-th condition goes to the n-th of the controllers chosen."""
        condition_NBD = condition_BND.transpose(0, 1)
        hidden_NBH = torch.baddbmm(self.hidden_bias[rows][:, None], condition_NBD, self.hidden_weight[rows].mT)
        parameters_NBP = torch.baddbmm(self.bias[rows][:, None], functional.relu(hidden_NBH), self.weight[rows].mT)
        return parameters_NBP.transpose(0, 1)


def _uniform(shape: tuple[int, ...], n_inputs: int) -> nn.Parameter:
    # PyTorch's initializers would count the class axis as outputs of one layer.
    bound = n_inputs**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class TextDrivenHead(nn.Module):
    """Turns backbone features and text vectors into one logit map per vector.

    Args:
        bottleneck_channels: Channels of the deepest feature map, a multiple of 16.
        decoder_channels: Channels of the last decoder map, a multiple of 16.
        embedding_size: Length E of a text vector.
        n_controllers: K for a controller per class; None for one that all share.
        leak: Slope of the class networks' activation below zero. 0 is the ReLU of the original.
    """

    def __init__(
        self,
        bottleneck_channels: int,
        decoder_channels: int,
        embedding_size: int,
        n_controllers: int | None = None,
        leak: float = 0.0,
    ) -> None:
        super().__init__()
        self.leak = leak
        self.image_norm = nn.GroupNorm(GROUPS, bottleneck_channels)
        self.image_projection = nn.Linear(bottleneck_channels, FEATURE)
        # The order of creation is the order of random numbers and of the optimizer's state: saved runs rely on it.
        self.text_projection = nn.Linear(embedding_size, FEATURE) if n_controllers is None else None
        self.controller = (
            nn.Linear(2 * FEATURE, N_PARAMETERS)
            if n_controllers is None
            else ClassControllers(n_controllers, FEATURE + embedding_size)
        )
        with torch.no_grad():
            self.controller.bias[..., -1] = PRIOR_LOGIT
        self.map_norm = nn.GroupNorm(GROUPS, decoder_channels)
        self.map_projection = nn.Conv3d(decoder_channels, HIDDEN, kernel_size=1)

    def shared_map(self, decoder_BCXYZ: Tensor) -> Tensor:
        """The 8-channel map that every class's network reads, (B, 8, X, Y, Z)."""
        mapped: Tensor = self.map_projection(functional.relu(self.map_norm(decoder_BCXYZ)))
        return mapped

    def class_parameters(self, bottleneck_BCXYZ: Tensor, text_NE: Tensor, rows: Rows = EVERY_ROW) -> Tensor:
        """Weights of each class's network for each scan, (B, N, 153). N may be 0.

        Args:
            bottleneck_BCXYZ: The deepest map.
            text_NE: A vector per class asked for.
            rows: Whose controllers answer to these vectors. A shared one answers to any vector: no matter.
        """
        pooled_BC = functional.relu(self.image_norm(bottleneck_BCXYZ)).mean(dim=(2, 3, 4))
        image_BF = self.image_projection(pooled_BC)
        text = text_NE.to(image_BF.dtype)
        if self.text_projection is not None:
            text = functional.relu(self.text_projection(text))
        n_batch, n_classes = image_BF.shape[0], text.shape[0]
        condition_BND = torch.cat(
            [image_BF[:, None].expand(-1, n_classes, -1), text[None].expand(n_batch, -1, -1)], dim=2
        )
        if isinstance(self.controller, ClassControllers):
            return cast(Tensor, self.controller(condition_BND, rows))
        return cast(Tensor, self.controller(condition_BND))

    def decode(self, map_B8XYZ: Tensor, parameters_BNP: Tensor) -> Tensor:
        """Logits of each class, (B, N, X, Y, Z), in the map's dtype. N = 0 gives an empty tensor.

        Scratch memory grows neither with N nor with the voxels, with or without gradients.
        """
        map_B8V, parameters_BNP = map_B8XYZ.flatten(2), parameters_BNP.to(map_B8XYZ.dtype)
        if torch.compiler.is_exporting():
            # Other runtimes know no autograd function and no tensor that is filled in place; a chunk is in one piece.
            chunks = torch.split(parameters_BNP, CLASS_CHUNK_CPU, dim=1)
            logits_BNV = torch.cat([_decode_block(map_B8V, chunk, self.leak) for chunk in chunks], dim=1)
        else:
            logits_BNV = _Decode.apply(map_B8V, parameters_BNP, self.leak)  # type: ignore[no-untyped-call]
        return logits_BNV.reshape(*parameters_BNP.shape[:2], *map_B8XYZ.shape[2:])

    def forward(
        self, bottleneck_BCXYZ: Tensor, decoder_BCXYZ: Tensor, text_NE: Tensor, rows: Rows = EVERY_ROW
    ) -> Tensor:
        """Logits (B, N, X, Y, Z) for N text vectors; `rows` as in `class_parameters`."""
        parameters = self.class_parameters(bottleneck_BCXYZ, text_NE, rows)
        return self.decode(self.shared_map(decoder_BCXYZ), parameters)


class _Decode(torch.autograd.Function):
    """Block-wise decoding whose backward recomputes each block."""

    @staticmethod
    def forward(ctx: Any, map_B8V: Tensor, parameters_BNP: Tensor, leak: float) -> Tensor:
        ctx.save_for_backward(map_B8V, parameters_BNP)
        ctx.leak = leak
        n_batch, n_classes, _ = parameters_BNP.shape
        logits_BNV = map_B8V.new_empty(n_batch, n_classes, map_B8V.shape[2])
        with torch.autocast(map_B8V.device.type, enabled=False):
            for classes, voxels in _blocks(n_classes, map_B8V):
                block, parameters = map_B8V[..., voxels], parameters_BNP[:, classes]
                logits_BNV[:, classes, voxels] = _decode_block(block, parameters, leak)
        return logits_BNV

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient_BNV,) = gradients
        map_B8V, parameters_BNP = ctx.saved_tensors
        map_gradient = torch.zeros_like(map_B8V)
        # Sums over a million voxels: float32, whatever the activations are stored in.
        parameter_gradient = torch.zeros_like(parameters_BNP, dtype=torch.float32)
        with torch.enable_grad(), torch.autocast(map_B8V.device.type, enabled=False):
            for classes, voxels in _blocks(parameters_BNP.shape[1], map_B8V):
                block = map_B8V[..., voxels].detach().requires_grad_()
                parameters = parameters_BNP[:, classes].detach().requires_grad_()
                logits = _decode_block(block, parameters, ctx.leak)
                block_part, parameter_part = torch.autograd.grad(
                    logits, (block, parameters), gradient_BNV[:, classes, voxels].to(logits.dtype)
                )
                map_gradient[..., voxels] += block_part
                parameter_gradient[:, classes] += parameter_part
        return map_gradient, parameter_gradient.to(parameters_BNP.dtype), None


def _blocks(n_classes: int, map_B8V: Tensor) -> Iterator[tuple[slice, slice]]:
    n_voxels = map_B8V.shape[2]
    chunk = CLASS_CHUNK_CPU if map_B8V.device.type == "cpu" else CLASS_CHUNK
    for first in range(0, n_classes, chunk):
        for at in range(0, n_voxels, VOXEL_BLOCK):
            yield slice(first, min(first + chunk, n_classes)), slice(at, min(at + VOXEL_BLOCK, n_voxels))


def _decode_block(map_B8V: Tensor, parameters_BNP: Tensor, leak: float) -> Tensor:
    """Run the class networks on a block of voxels, (B, N, V)."""
    n_batch, n_classes, _ = parameters_BNP.shape
    sizes = [HIDDEN * HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN, HIDDEN, 1]
    w1, w2, w3, b1, b2, b3 = torch.split(parameters_BNP, sizes, dim=2)
    # All classes read the same map, so layer 1 is one product with their rows stacked.
    hidden = torch.baddbmm(b1.reshape(n_batch, -1, 1), w1.reshape(n_batch, -1, HIDDEN), map_B8V)
    # In place: products this thin take no longer than fresh memory for what they give.
    hidden = functional.leaky_relu_(hidden, leak).reshape(n_batch * n_classes, HIDDEN, -1)
    hidden = torch.baddbmm(b2.reshape(-1, HIDDEN, 1), w2.reshape(-1, HIDDEN, HIDDEN), hidden)
    logits = torch.baddbmm(b3.reshape(-1, 1, 1), w3.reshape(-1, 1, HIDDEN), functional.leaky_relu_(hidden, leak))
    return logits.reshape(n_batch, n_classes, -1)
