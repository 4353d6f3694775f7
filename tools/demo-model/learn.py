"""What the net is shown (augmentation) and what it is told (assignment of objects to cells, loss)."""

import numpy as np
import torch
import torch.nn.functional as F

from net import CLASSES, INPUT_HEIGHT, INPUT_WIDTH, grid

OBJECTS_MAX = 8
PAD = 114 / 255
# An object less visible than this is neither right nor wrong.
VISIBLE_MIN = 0.3
# The longer side of the boxes each stride is for, in input pixels. They overlap: the net may answer at both.
RANGES = [(0, 44), (30, 96), (72, 1e9)]
# A stock of noise: drawing it anew for every step would cost more than the net.
NOISE = torch.randn((48, 3, 180, 320), generator=torch.Generator().manual_seed(2))


def tabulate(objects):
    """Objects of all frames as [N, 8, 6]: x1, y1, x2, y2 in pixels of the halved frame, class (or -1), visible."""
    table = np.zeros((len(objects), OBJECTS_MAX, 6), np.float32)
    table[..., 4] = -1
    for row, frame in zip(table, objects):
        for cell, item in zip(row, frame):
            cell[:4] = np.array(item["bbox"]) / 2
            cell[4:] = item["class_id"], item["visible"]
    return torch.from_numpy(table)


def even(shape, low, high):
    return torch.rand(shape) * (high - low) + low


def augment(frames, table):
    """Letterboxed input [B, 3, 192, 320] and its table, of halved frames [B, 180, 320, 3] as bytes."""
    count, height, width, _ = frames.shape
    x = recolour(frames.permute(0, 3, 1, 2).float() / 255)
    blurred = torch.rand(count) < 0.3
    soft = x[blurred]
    x[blurred] = soft.lerp(F.avg_pool2d(F.pad(soft, (1, 1, 1, 1), mode="replicate"), 3, 1), 0.7)
    x = (x + NOISE[torch.randint(len(NOISE), (count,))] * even((count, 1, 1, 1), -0.02, 0.05).clamp(min=0)).clamp_(0, 1)

    # A third keeps its size: what the net is to see. Positions: out = scale * in + shift.
    keeps = torch.rand(count) < 0.34
    scale = torch.where(keeps, 1.0, even(count, 0.75, 1.3))
    spare = torch.stack([INPUT_WIDTH - width * scale, INPUT_HEIGHT - height * scale], 1)
    wander = even((count, 2), -0.5, 0.5) * spare.abs()
    shift = spare / 2 + torch.where(keeps[:, None], torch.zeros_like(wander), wander)
    flip = torch.rand(count) < 0.5
    sign = torch.where(flip, -1.0, 1.0)
    shift_x = torch.where(flip, INPUT_WIDTH - shift[:, 0], shift[:, 0])

    columns = (torch.arange(INPUT_WIDTH) + 0.5 - shift_x[:, None]) * sign[:, None] / scale[:, None]
    rows = (torch.arange(INPUT_HEIGHT) + 0.5 - shift[:, 1, None]) / scale[:, None]
    place = torch.stack([
        (columns * 2 / width - 1)[:, None, :].expand(count, INPUT_HEIGHT, INPUT_WIDTH),
        (rows * 2 / height - 1)[:, :, None].expand(count, INPUT_HEIGHT, INPUT_WIDTH),
    ], 3)
    x = F.grid_sample(x - PAD, place, padding_mode="zeros", align_corners=False) + PAD
    return x, move(table, scale, sign, shift_x, shift[:, 1])


def recolour(x):
    """Other brightness, contrast and tint, all in one matrix a picture."""
    count = len(x)
    contrast = even((count, 1, 1), 0.7, 1.3)
    tint = (torch.eye(3) + torch.randn(count, 3, 3) * 0.05) * contrast
    mean = x.mean((1, 2, 3))[:, None, None]
    light = mean * (1 - contrast) + even((count, 1, 1), -0.12, 0.12)
    return torch.baddbmm(light, tint, x.flatten(2)).view_as(x)


def move(table, scale, sign, shift_x, shift_y):
    """The table after the same change of place; what leaves the picture is less visible."""
    table = table.clone()
    xs = table[..., [0, 2]] * (sign * scale)[:, None, None] + shift_x[:, None, None]
    ys = table[..., [1, 3]] * scale[:, None, None] + shift_y[:, None, None]
    full = (xs[..., 1] - xs[..., 0]).abs() * (ys[..., 1] - ys[..., 0])
    xs = xs.sort(-1).values.clamp(0, INPUT_WIDTH)
    ys = ys.clamp(0, INPUT_HEIGHT)
    table[..., :4] = torch.stack([xs[..., 0], ys[..., 0], xs[..., 1], ys[..., 1]], -1)
    left = (xs[..., 1] - xs[..., 0]) * (ys[..., 1] - ys[..., 0])
    share = left / full.clamp(min=1e-6)
    table[..., 5] *= share
    table[..., 4] = torch.where(share > 0, table[..., 4], torch.full_like(share, -1))
    return table


class Loss:
    """GIoU of the boxes, cross entropy of objectness and classes, per positive cell."""

    def __init__(self):
        cells = torch.from_numpy(grid())
        self.corner, self.stride = cells[:, :2], cells[:, 2]
        self.centre = (self.corner + 0.5) * self.stride[:, None]
        limits = {stride: RANGES[index] for index, stride in enumerate(sorted(set(self.stride.tolist())))}
        self.low = torch.tensor([limits[stride][0] for stride in self.stride.tolist()])
        self.high = torch.tensor([limits[stride][1] for stride in self.stride.tolist()])

    def assign(self, table):
        """The object of every cell [B, N] (-1: none), and the cells that say nothing [B, N]."""
        boxes, real = table[..., :4], table[..., 4] >= 0
        counts = real & (table[..., 5] >= VISIBLE_MIN)
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2
        size = boxes[..., 2:] - boxes[..., :2]
        longer = size.amax(-1)[..., None]
        near = ((self.centre - middle[:, :, None]).abs() < self.stride[:, None]).all(-1)
        chosen = near & (longer >= self.low) & (longer < self.high) & counts[..., None]
        area = torch.where(chosen, size.prod(-1)[..., None], torch.inf)
        smallest, owner = area.min(1)
        owner = torch.where(smallest.isfinite(), owner, -1)
        inside = ((self.centre >= boxes[:, :, None, :2]) & (self.centre < boxes[:, :, None, 2:])).all(-1)
        unsure = (inside & (real & ~counts)[..., None]).any(1) & (owner < 0)
        return owner, unsure

    def __call__(self, raw, table):
        owner, unsure = self.assign(table)
        positive = owner >= 0
        count = positive.sum().clamp(min=1)
        objectness = F.binary_cross_entropy_with_logits(raw[..., 4], positive.float(), reduction="none")
        objectness = (objectness * ~unsure).sum() / count
        picture, cell = positive.nonzero(as_tuple=True)
        target = table[picture, owner[picture, cell]]
        found = raw[picture, cell]
        stride = self.stride[cell, None]
        middle = (found[:, :2] + self.corner[cell]) * stride
        size = found[:, 2:4].clamp(max=6).exp() * stride
        box = 1 - giou(torch.cat([middle - size / 2, middle + size / 2], 1), target[:, :4])
        wanted = F.one_hot(target[:, 4].long(), len(CLASSES)).float()
        classes = F.binary_cross_entropy_with_logits(found[:, 5:], wanted, reduction="sum")
        return 3 * box.sum() / count + objectness + classes / count


def giou(a, b):
    """Generalised IoU (Rezatofighi et al. 2019) of boxes [K, 4], pair by pair."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
