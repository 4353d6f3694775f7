"""The detector: a small plain convolutional net with one YOLOX head for each of three strides."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

INPUT_WIDTH, INPUT_HEIGHT = 320, 192
STRIDES = [8, 16, 32]
CLASSES = ["person", "car", "dog"]
CHANNELS = 5 + len(CLASSES)


class Conv(nn.Module):
    """3x3 convolution, batch norm, ReLU; with `residual` the input is added before the ReLU."""

    def __init__(self, inputs, outputs, stride=1, residual=False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = residual

    def forward(self, x):
        y = self.norm(self.conv(x))
        return torch.relu(y + x if self.residual else y)

    def folded(self):
        """Weight and bias of the one convolution that does the same at inference."""
        scale = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        return self.conv.weight * scale[:, None, None, None], self.norm.bias - self.norm.running_mean * scale


class Detector(nn.Module):
    """Three stages, at strides 8, 16 and 32, each with its own head."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([
            nn.Sequential(Conv(3, 12, 2), Conv(12, 24, 2), Conv(24, 24, residual=True),
                          Conv(24, 48, 2), Conv(48, 48), Conv(48, 48, residual=True)),
            nn.Sequential(Conv(48, 64, 2), Conv(64, 64, residual=True)),
            nn.Sequential(Conv(64, 64, 2)),
        ])
        self.necks = nn.ModuleList([Conv(48, 32), Conv(64, 48), Conv(64, 40)])
        self.heads = nn.ModuleList([nn.Conv2d(width, CHANNELS, 1) for width in (32, 48, 40)])
        for head in self.heads:
            # So that the first steps are not spent on unlearning objects everywhere.
            nn.init.constant_(head.bias[4], -4.0)

    def forward(self, x):
        """Raw [B, N, 8]: box offsets, then objectness and classes before their sigmoid."""
        levels = []
        for stage, neck, head in zip(self.stages, self.necks, self.heads):
            x = stage(x)
            levels.append(head(neck(x)).flatten(2))
        return torch.cat(levels, 2).transpose(1, 2)


def grid():
    """For every one of the N cells: its column, its row, its stride; strides in order, row by row."""
    cells = []
    for stride in STRIDES:
        rows, columns = np.mgrid[0:INPUT_HEIGHT // stride, 0:INPUT_WIDTH // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], 1))
    return np.concatenate(cells).astype(np.float32)


def multiply_adds():
    """Multiply-adds of one inference, counted on the layers."""
    total = 0

    def count(layer, _, output):
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    net = Detector().eval()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, 3, INPUT_HEIGHT, INPUT_WIDTH))
    return total


class Graph:
    """An ONNX graph under construction."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(self, x, name, weight, bias, stride=1):
        pad = weight.shape[-1] // 2
        inputs = [x, self.constant(f"{name}.weight", weight.numpy()), self.constant(f"{name}.bias", bias.numpy())]
        return self.node("Conv", inputs, name, kernel_shape=[weight.shape[-1]] * 2, pads=[pad] * 4,
                         strides=[stride] * 2)

    def block(self, x, name, layer):
        y = self.conv(x, name, *layer.folded(), layer.conv.stride[0])
        if layer.residual:
            y = self.node("Add", [y, x], f"{name}.add")
        return self.node("Relu", [y], f"{name}.relu")


@torch.no_grad()
def export(net, path):
    """Writes the net as ONNX (opset 13) with batch norm folded and the sigmoids in the graph."""
    net = net.eval()
    graph = Graph()
    x, levels = "images", []
    for index, (stage, neck, head) in enumerate(zip(net.stages, net.necks, net.heads)):
        for depth, layer in enumerate(stage):
            x = graph.block(x, f"stage{index}.{depth}", layer)
        y = graph.block(x, f"neck{index}", neck)
        weight, bias = head.weight, head.bias
        box = graph.conv(y, f"head{index}.box", weight[:4], bias[:4])
        scores = graph.conv(y, f"head{index}.scores", weight[4:], bias[4:])
        scores = graph.node("Sigmoid", [scores], f"head{index}.sigmoid")
        both = graph.node("Concat", [box, scores], f"head{index}.concat", axis=1)
        cells = (INPUT_HEIGHT // STRIDES[index]) * (INPUT_WIDTH // STRIDES[index])
        shape = graph.constant(f"head{index}.shape", np.array([1, CHANNELS, cells], np.int64))
        levels.append(graph.node("Reshape", [both, shape], f"head{index}.flat"))
    graph.node("Concat", levels, "levels", axis=2)
    graph.node("Transpose", ["levels"], "output", perm=[0, 2, 1])
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, INPUT_HEIGHT, INPUT_WIDTH])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, len(grid()), CHANNELS])
    model = helper.make_model(helper.make_graph(graph.nodes, "watchpost-demo", [images], [output], graph.constants),
                              opset_imports=[helper.make_opsetid("", 13)], producer_name="watchpost demo-model")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
