"""What an ONNX file contains, read from its bytes alone, before onnxruntime sees them.

A walker of the protobuf wire format for the few fields that decide trust: where tensors live,
which operator domains are used, and the metadata. Field numbers are those of onnx.proto3.
"""

from collections.abc import Iterator
from dataclasses import dataclass

MODEL_GRAPH, MODEL_OPSETS, MODEL_METADATA, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 8, 14, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 5, 15
NODE_ATTRIBUTE, NODE_DOMAIN = 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES = 22, 23
SPARSE_VALUES, SPARSE_INDICES = 1, 2
TENSOR_EXTERNAL_DATA, TENSOR_LOCATION, LOCATION_EXTERNAL = 13, 14, 1
FUNCTION_NODE, FUNCTION_OPSETS, FUNCTION_ATTRIBUTE = 7, 9, 11
TRAINING_INITIALIZATION, TRAINING_ALGORITHM = 1, 2
OPSET_DOMAIN = 1

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELD = (1 << 29) - 1
"""Larger field numbers are illegal; readers that cut them to 32 bits would see another field."""
MAX_DEPTH = 32
"""Graphs within graphs; protobuf itself stops at 100 messages, which is about this many."""


class NotOnnxError(ValueError):
    """The bytes are not a protobuf message of the expected shape."""


@dataclass(frozen=True, slots=True)
class OnnxSummary:
    """Metadata, operator domains, and whether any tensor lies outside the file."""

    metadata: dict[str, str]
    domains: frozenset[str]
    external_data: bool


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one protobuf message; sub-messages stay bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: int | memoryview
        if wire == VARINT:
            value, at = _varint(data, at)
        elif wire == BYTES:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif wire in (FIXED64, FIXED32):
            width = 8 if wire == FIXED64 else 4
            value, at = int.from_bytes(data[at : at + width], "little"), at + width
        else:
            raise NotOnnxError(f"unknown wire type {wire}")
        if at > end:
            raise NotOnnxError("a field runs past the end of the file")
        if not 0 < number <= MAX_FIELD:
            raise NotOnnxError(f"there is no field {number}")
        yield number, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise NotOnnxError("the file ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise NotOnnxError("a number is too long")


def _messages(data: memoryview, *numbers: int) -> Iterator[tuple[int, memoryview]]:
    for number, value in fields(data):
        if number in numbers and isinstance(value, memoryview):
            yield number, value


def _text(value: int | memoryview) -> str:
    if isinstance(value, int):
        raise NotOnnxError("a text field holds a number")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise NotOnnxError("a text field is not UTF-8") from error


def _tensor_is_external(tensor: memoryview) -> bool:
    return any(
        number == TENSOR_EXTERNAL_DATA
        or (number == TENSOR_LOCATION and value not in (0, memoryview(b"")))
        for number, value in fields(tensor)
    )


class _Walk:
    """Collects domains and external tensors over nested graphs."""

    def __init__(self) -> None:
        self.domains: set[str] = set()
        self.external = False
        self._depth = 0

    def tensor(self, tensor: memoryview) -> None:
        self.external |= _tensor_is_external(tensor)

    def sparse(self, sparse: memoryview) -> None:
        for _, tensor in _messages(sparse, SPARSE_VALUES, SPARSE_INDICES):
            self.tensor(tensor)

    def graph(self, graph: memoryview) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotOnnxError("its graphs are nested too deeply")
        for number, part in _messages(graph, GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE):
            {GRAPH_NODE: self.node, GRAPH_INITIALIZER: self.tensor, GRAPH_SPARSE: self.sparse}[
                number
            ](part)
        self._depth -= 1

    def node(self, node: memoryview) -> None:
        domain = ""
        for number, value in fields(node):
            if number == NODE_DOMAIN:
                domain = _text(value)
            elif number == NODE_ATTRIBUTE and isinstance(value, memoryview):
                self.attribute(value)
        self.domains.add(domain)

    def attribute(self, attribute: memoryview) -> None:
        for number, value in fields(attribute):
            if not isinstance(value, memoryview):
                continue
            if number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                self.tensor(value)
            elif number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                self.graph(value)
            elif number in (ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES):
                self.sparse(value)

    def opset(self, opset: memoryview) -> None:
        self.domains.add(_text(dict(fields(opset)).get(OPSET_DOMAIN, memoryview(b""))))

    def function(self, function: memoryview) -> None:
        for number, part in _messages(function, FUNCTION_NODE, FUNCTION_OPSETS, FUNCTION_ATTRIBUTE):
            {FUNCTION_NODE: self.node, FUNCTION_OPSETS: self.opset,
             FUNCTION_ATTRIBUTE: self.attribute}[number](part)  # fmt: skip

    def training(self, training: memoryview) -> None:
        for _, graph in _messages(training, TRAINING_INITIALIZATION, TRAINING_ALGORITHM):
            self.graph(graph)


def _entry(entry: memoryview) -> tuple[str, str]:
    parts = dict(fields(entry))
    return _text(parts.get(1, memoryview(b""))), _text(parts.get(2, memoryview(b"")))


def summarize(data: bytes) -> OnnxSummary:
    """What the model file declares.

    Raises
    ------
    NotOnnxError
        The bytes are not a protobuf message, or hold no graph.
    """
    walk, metadata, graphs = _Walk(), {}, 0
    for number, value in fields(memoryview(data)):
        if not isinstance(value, memoryview):
            continue
        if number == MODEL_GRAPH:
            walk.graph(value)
            graphs += 1
        elif number == MODEL_OPSETS:
            walk.opset(value)
        elif number == MODEL_METADATA:
            key, text = _entry(value)
            metadata[key] = text
        elif number == MODEL_FUNCTIONS:
            walk.function(value)
        elif number == MODEL_TRAINING:
            walk.training(value)
    if graphs != 1:
        raise NotOnnxError("it holds no graph")
    return OnnxSummary(metadata, frozenset(walk.domains), walk.external)
