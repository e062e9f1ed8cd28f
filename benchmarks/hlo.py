"""What a compiled program does, read from its HLO text: kernels, bytes, convolutions, collectives.

XLA counts operations and bytes for TPUs itself (`cost_analysis`); for a GPU that is not there it
gives the text alone. Every instruction of the scheduled entry computation is one kernel, library
call or copy, in the order of launch, but for those that only name a result. Bytes are those of an
instruction's operands and results: what it would read and write if it touched each byte once. Of
an operand that a fusion only slices, the slices count; and of one that it updates in place, the
part that is written. A TPU's compiler keeps arrays in the chip's fast memory where they fit (memory
space 1), and copies others there ahead of their use: what moves in the main memory (space 0) is
counted apart.
"""

import itertools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

SIZES = {
    **{"pred": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1, "s16": 2, "u16": 2, "f16": 2},
    **{"bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8},
}
# These launch nothing: they name a part of a result, or wait.
FREE = {
    "parameter",
    "constant",
    "bitcast",
    "tuple",
    "get-tuple-element",
    "after-all",
    "opt-barrier",
}
SLICES, UPDATE = ("slice", "dynamic-slice"), "dynamic-update-slice"
AHEAD = {"copy-start": 0, "slice-start": 1}  # which of its results is the copy
CALLS = {"call", "conditional", "async-start"}
ARRAY = re.compile(
    r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\](?:\{(?:[^{}]*?S\((\d+)\))?[^{}]*\})?"
)
OPCODE = re.compile(r"\s*([\w-]+)\(")
COLLECTIVES = re.compile(
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?"
)


class Shape(NamedTuple):
    """An array's dtype by its name in HLO, its dimensions and its memory space."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return self.size * SIZES[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


class Instruction(NamedTuple):
    """One line of HLO: `name = shapes op(operands), attributes`.

    `operand_text` is all between the parentheses: of a parameter, its number.
    """

    name: str
    op: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    attributes: str
    operand_text: str

    @property
    def source(self) -> str:
        """The operation in Python that it comes from, as JAX names it."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""

    def called(self) -> list[str]:
        """Names of the computations that it calls."""
        names = r"(?:calls|to_apply|body|branch_computations)=\{?((?:%[\w.-]+(?:, )?)+)"
        return [name for found in re.findall(names, self.attributes) for name in _names(found)]


class Program(NamedTuple):
    """The computations of a module by name, and which of them is the entry."""

    computations: dict[str, list[Instruction]]
    entry: str


class Kernel(NamedTuple):
    """What a program launches at one point.

    Attributes:
        instruction: its line.
        kind: convolution, product, fusion, copy, collective or other.
        reads: shapes of the operands.
        flops: of convolutions and products (2 for a product and its sum), else 0.
        dtypes: of the two operands and the result of a convolution; the others have none.
        times: how often it runs: loops of a known length are counted.
        transposes: shapes of the arrays that it writes in another order of axes.
        bytes: operands and results, once; of a collective, as much in as out.
        main_bytes: those of them in the main memory.
    """

    instruction: Instruction
    kind: str
    reads: tuple[Shape, ...]
    flops: float
    dtypes: tuple[str, ...]
    times: int
    transposes: tuple[Shape, ...]
    bytes: int
    main_bytes: int


def _names(text: str) -> list[str]:
    return re.findall(r"%([\w.-]+)", text)


def shapes_of(text: str) -> tuple[Shape, ...]:
    """The arrays of an HLO type such as `(f32[64]{0}, bf16[4,4]{1,0})`; tokens are none."""
    return tuple(
        Shape(dtype, tuple(int(n) for n in dims.split(",") if n), int(space or 0))
        for dtype, dims, space in ARRAY.findall(text)
        if dtype in SIZES
    )


def _closing(text: str, begin: int) -> int:
    """Where the parenthesis that opens at `begin` closes."""
    depth = 0
    for place in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
    raise ValueError(f"no HLO: a parenthesis is left open in {text[:80]!r}")


def _instruction(line: str) -> Instruction | None:
    name, equals, rest = line.strip().removeprefix("ROOT ").partition(" = ")
    if not equals or not name.startswith("%"):
        return None
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opcode = OPCODE.match(rest, end)
    if opcode is None:
        raise ValueError(f"no HLO: no operation in {line.strip()[:80]!r}")
    close = _closing(rest, opcode.end() - 1)
    inner = rest[opcode.end() : close]
    operands = tuple(_names(inner))
    return Instruction(
        name[1:], opcode[1], shapes_of(rest[:end]), operands, rest[close + 1 :], inner
    )


def parse(text: str) -> Program:
    """Read the text of a compiled module.

    Raises:
        ValueError: if it is no HLO, or has no entry computation.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            head = re.match(r"(ENTRY )?%([\w.-]+)", line)
            if head:
                current = computations[head[2]] = []
                entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := _instruction(line)):
            current.append(found)
    if not entry:
        raise ValueError("no HLO: there is no entry computation")
    return Program(computations, entry)


def kernels(program: Program) -> list[Kernel]:
    """Everything that a program launches, in order; the bodies of loops once, with `times`."""
    return list(_kernels(program, program.entry, 1))


def host_launches(found: list[Kernel], least: int = 5) -> int:
    """How often the host launches something: a kernel, a library call, or a command buffer.

    XLA records stretches of at least `least` kernels as one command buffer (a CUDA graph; its
    option `xla_gpu_graph_min_graph_size`). It cannot record cuDNN's convolutions, unless they are
    in a fusion, nor collectives: those end a stretch.
    """
    launched = 0
    alone = {"convolution", "collective"}
    for ends, stretch in itertools.groupby(
        found, lambda one: one.kind in alone and one.instruction.op != "fusion"
    ):
        each = [one.times for one in stretch]
        launched += sum(each) if ends or len(each) < least else max(each)
    return launched


def _kernels(program: Program, name: str, times: int) -> Iterator[Kernel]:
    instructions = program.computations[name]
    shapes = {one.name: one.shapes for one in instructions}
    for one in instructions:
        if one.op in FREE or one.op.endswith(("-done", "-update")):
            continue
        if one.op == "while":
            known = re.search(r'known_trip_count":?\{"n":"(\d+)"', one.attributes)
            for called in one.called():
                yield from _kernels(program, called, times * int(known[1] if known else 1))
        elif one.op in CALLS:
            for called in one.called():
                yield from _kernels(program, called, times)
        else:
            reads = tuple(shape for operand in one.operands for shape in shapes[operand])
            yield _kernel(program, one, reads, times)


def _kernel(program: Program, one: Instruction, reads: tuple[Shape, ...], times: int) -> Kernel:
    inside = [each for name in one.called() for each in program.computations[name]]
    held = {each.name: each.shapes for each in inside}
    kind, flops, dtypes = {"copy": "copy", "fusion": "fusion"}.get(one.op, "other"), 0.0, ()
    if COLLECTIVES.fullmatch(one.op):
        kind = "collective"
    elif "__cudnn$conv" in one.attributes:
        kind, flops = "convolution", _cudnn_flops(one, reads)
        dtypes = tuple(array.dtype for array in (*reads[:2], one.shapes[0]))
    elif "__cublas$" in one.attributes:
        kind, flops = "product", _cublas_flops(one, reads)
    for each in inside:
        if each.op in ("convolution", "dot"):
            arrays = [held[operand][0] for operand in each.operands] + [each.shapes[0]]
            kind = "product" if each.op == "dot" else "convolution"
            flops += (_dot_flops if each.op == "dot" else _convolution_flops)(each, arrays)
            dtypes = dtypes if each.op == "dot" else tuple(array.dtype for array in arrays)
    turned = tuple(each.shapes[0] for each in (one, *inside) if each.op == "transpose")
    if one.op == "fusion-start":  # on a stream of its own; its type repeats the operands'
        kind, one = "fusion", one._replace(shapes=one.shapes[len(reads) : -1])
    if kind == "collective":  # whose result may be named together with its operands
        moved = [(shape, 2 * shape.bytes) for shape in reads]
    elif one.op in AHEAD:  # its type repeats the operands', which it may only take a slice of
        copy = one.shapes[AHEAD[one.op]]
        moved = [(reads[0], copy.bytes), (copy, copy.bytes)]
    else:
        moved = _moved(one, reads, inside if one.op.startswith("fusion") else [])
    every = sum(size for _, size in moved)
    main = sum(size for shape, size in moved if not shape.space)
    return Kernel(one, kind, reads, float(flops), dtypes, times, turned, every, main)


def _moved(
    one: Instruction, reads: tuple[Shape, ...], inside: list[Instruction]
) -> list[tuple[Shape, int]]:
    """Bytes that an instruction moves of its operands and results; `inside` is a fusion."""
    read, written = [shape.bytes for shape in reads], [shape.bytes for shape in one.shapes]
    held = {each.name: each for each in inside}
    for each in inside:
        if each.op != "parameter":
            continue
        names, users = {each.name}, []
        for user in inside:  # which are in order of their operands
            if user.op in ("bitcast", "convert") and user.operands[0] in names:
                names.add(user.name)
            elif names & set(user.operands):
                users.append(user)
        number = int(each.operand_text)
        if users and all(user.op in SLICES and user.operands[0] in names for user in users):
            size = SIZES[each.shapes[0].dtype]
            read[number] = sum(user.shapes[0].size * size for user in users)
        elif inside[-1].op == UPDATE and users == [inside[-1]] and users[0].operands[0] in names:
            read[number] = 0
            written = [held[inside[-1].operands[1]].shapes[0].bytes]
    return list(zip((*reads, *one.shapes), (*read, *written), strict=True))


def _numbers(pattern: str, text: str, separator: str) -> list[int]:
    found = re.search(pattern, text)
    return [int(n) for n in found[1].split(separator)] if found and found[1] else []


def _dot_flops(one: Instruction, arrays: list[Shape]) -> int:
    axes = _numbers(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes, ",")
    return 2 * one.shapes[0].size * math.prod(arrays[0].dims[axis] for axis in axes)


def _cublas_flops(one: Instruction, reads: tuple[Shape, ...]) -> int:
    """A library's matrix product: (m, k) by (k, n) to (m, n), whose sizes' product is (mkn)^2."""
    return 2 * math.isqrt(reads[0].size * reads[1].size * one.shapes[0].size)


def _labels(one: Instruction) -> list[str]:
    found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    if found is None:
        raise ValueError(f"no HLO of a convolution: {one.name} has no dim_labels")
    return list(found.groups())


def _convolution_flops(one: Instruction, arrays: list[Shape]) -> int:
    """Every tap of the window at every output, but for those on zeros put between the inputs."""
    window = _numbers(r"window=\{size=([\dx]+)", one.attributes, "x")
    between = _numbers(r"lhs_dilate=([\dx]+)", one.attributes, "x")
    features = arrays[0].dims[_labels(one)[0].index("f")]
    return 2 * arrays[-1].size * math.prod(window) * features // math.prod(between)


def _cudnn_flops(one: Instruction, reads: tuple[Shape, ...]) -> int:
    """By cuDNN: every tap of the window at every position of the smaller map.

    That map is a forward convolution's result, and an operand of the two gradients.
    """
    small, kernel = one.shapes[0], reads[1]
    if "convBackwardInput" in one.attributes:
        small = reads[0]
    elif "convBackwardFilter" in one.attributes:
        small, kernel = reads[1], one.shapes[0]
    return 2 * small.size * kernel.size // small.dims[_labels(one)[2].index("f")]


def overlapped(program: Program) -> dict[str, int]:
    """Bytes that kernels move between the start and the end of each asynchronous collective."""
    found: dict[str, int] = {}
    running: dict[str, int] = {}
    shapes = {one.name: one.shapes for one in program.computations[program.entry]}
    for one in program.computations[program.entry]:
        if one.op.endswith("-done") and one.operands[0] in running:
            found[one.operands[0]] = running.pop(one.operands[0])
        elif one.op not in FREE:
            reads = tuple(shape for operand in one.operands for shape in shapes[operand])
            moved = sum(shape.bytes for shape in (*reads, *one.shapes))
            if COLLECTIVES.fullmatch(one.op):
                running |= {one.name: 0} if one.op.endswith("-start") else {}
            else:
                running = {name: already + moved for name, already in running.items()}
    return found
