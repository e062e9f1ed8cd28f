"""What the benchmarks read from the text of a compiled program, on programs written by hand."""

import importlib.util

import pytest

from conftest import in_new_process

PROGRAM = """HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}) }

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%turned (p.1: f32[4,4,3,8]) -> bf16[8,4,4,3] {
  %p.1 = f32[4,4,3,8]{3,2,1,0} parameter(0)
  %turn = f32[8,4,4,3]{3,2,1,0} transpose(%p.1), dimensions={3,0,1,2}
  ROOT %cast = bf16[8,4,4,3]{3,2,1,0} convert(%turn)
}

%fused_conv (x.1: bf16[2,4,16,8], k.1: bf16[8,5,5,3]) -> bf16[2,8,32,3] {
  %x.1 = bf16[2,4,16,8]{3,2,1,0} parameter(0)
  %k.1 = bf16[8,5,5,3]{3,2,1,0} parameter(1)
  ROOT %dgrad = bf16[2,8,32,3]{3,2,1,0} convolution(%x.1, %k.1), window={size=5x5 pad=2_3x2_3 \
lhs_dilate=2x2}, dim_labels=b01f_i01o->b01f, convolution_kind=dgrad
}

%body (state: (s32[], f32[6])) -> (s32[], f32[6]) {
  %state = (s32[], f32[6]{0}) parameter(0)
  %count = s32[] get-tuple-element(%state), index=0
  %array = f32[6]{0} get-tuple-element(%state), index=1
  %twice = f32[6]{0} fusion(%array), kind=kLoop, calls=%add
  ROOT %next = (s32[], f32[6]{0}) tuple(%count, %twice)
}

%condition (state.1: (s32[], f32[6])) -> pred[] {
  %state.1 = (s32[], f32[6]{0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (x: bf16[2,8,32,3], k: f32[4,4,3,8], loop: (s32[], f32[6])) -> f32[6] {
  %x = bf16[2,8,32,3]{3,2,1,0} parameter(0), metadata={op_name="state[\\'a\\'](not a call)"}
  %k = f32[4,4,3,8]{3,2,1,0} parameter(1)
  %loop = (s32[], /*index=1*/f32[6]{0}) parameter(2)
  %turned_fusion = bf16[8,4,4,3]{3,2,1,0} fusion(%k), kind=kInput, calls=%turned, \
metadata={op_name="jit(step)/convert"}
  %conv = (bf16[2,4,16,8]{3,2,1,0}, u8[0]{0}) custom-call(%x, %turned_fusion), window={size=4x4 \
stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %y = bf16[2,4,16,8]{3,2,1,0} get-tuple-element(%conv), index=0
  %wgrad = (f32[8,4,4,3]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), window={size=4x4 stride=2x2}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %dgrad.1 = (bf16[2,8,32,3]{3,2,1,0}, u8[0]{0}) custom-call(%y, %turned_fusion), window={size=4x4 \
stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %dw = f32[8,4,4,3]{3,2,1,0} get-tuple-element(%wgrad), index=0
  %all-reduce-start = (f32[8,4,4,3]{3,2,1,0}, f32[8,4,4,3]{3,2,1,0}) all-reduce-start(%dw), \
to_apply=%add
  %k5 = bf16[8,5,5,3]{3,2,1,0} copy(%turned_fusion)
  %up = bf16[2,8,32,3]{3,2,1,0} fusion(%y, %k5), kind=kCustom, calls=%fused_conv
  %all-reduce-done = f32[8,4,4,3]{3,2,1,0} all-reduce-done(%all-reduce-start)
  %a.1 = f32[7,5]{1,0} constant({...})
  %b.1 = f32[5,6]{1,0} constant({...})
  %product = (f32[7,6]{1,0}, s8[64]{0}) custom-call(%a.1, %b.1), \
custom_call_target="__cublas$gemm", backend_config={"x":"("}
  %while = (s32[], f32[6]{0}) while(%loop), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"10"}}
  ROOT %out = f32[6]{0} get-tuple-element(%while), index=1
}
"""
X, Y, K, K5 = 2 * 8 * 32 * 3, 2 * 4 * 16 * 8, 4 * 4 * 3 * 8, 5 * 5 * 3 * 8


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend("benchmarks")


@pytest.fixture
def kernels(scripts):
    import hlo

    return {kernel.instruction.name: kernel for kernel in hlo.kernels(hlo.parse(PROGRAM))}


def test_every_launch_is_found_with_its_kind_and_bytes(kernels):
    assert {name: (kernel.kind, kernel.bytes) for name, kernel in kernels.items()} == {
        "turned_fusion": ("fusion", 4 * K + 2 * K),
        "conv": ("convolution", 2 * X + 2 * K + 2 * Y),
        "wgrad": ("convolution", 2 * X + 2 * Y + 4 * K),
        "dgrad.1": ("convolution", 2 * Y + 2 * K + 2 * X),
        "all-reduce-start": ("collective", 2 * 4 * K),
        "k5": ("copy", 2 * K + 2 * K5),
        "up": ("convolution", 2 * Y + 2 * K5 + 2 * X),
        "product": ("product", 4 * (35 + 30 + 42) + 64),
        "twice": ("fusion", 2 * 6 * 4),
    }
    assert {name for name, kernel in kernels.items() if kernel.times == 10} == {"twice"}
    assert kernels["turned_fusion"].instruction.source == "jit(step)/convert"


def test_operations_are_counted_by_hand(kernels):
    """Forward and both gradients: 16 taps at 2 x 4 x 16 positions, 3 channels to 8. The other has
    25 taps on each of its inputs, since the zeros between them cost nothing.
    """
    for name in ("conv", "wgrad", "dgrad.1"):
        assert kernels[name].flops == 2 * 16 * (2 * 4 * 16) * 3 * 8
    assert kernels["up"].flops == 2 * 25 * (2 * 4 * 16) * 8 * 3
    assert kernels["product"].flops == 2 * 7 * 5 * 6
    assert kernels["turned_fusion"].flops == 0


def test_dtypes_and_transposes(kernels):
    assert kernels["conv"].dtypes == kernels["up"].dtypes == ("bf16", "bf16", "bf16")
    assert kernels["wgrad"].dtypes == ("bf16", "bf16", "f32")
    assert [str(shape) for shape in kernels["turned_fusion"].transposes] == ["f32[8,4,4,3]"]
    assert not kernels["conv"].transposes


def test_launches_by_the_host_are_those_of_command_buffers_and_of_what_these_cannot_hold(kernels):
    import hlo

    found = list(kernels.values())
    # turned | conv | wgrad | dgrad | all-reduce | k5, up, product, 10 times twice: a fused
    # convolution can be recorded, cuDNN's own call cannot.
    assert hlo.host_launches(found, least=5) == 5 + (1 + 1 + 1 + 10)
    assert hlo.host_launches(found, least=4) == 5 + 10
    assert hlo.host_launches(found[:7], least=2) == 5 + 1


def test_bytes_moved_while_a_collective_runs(kernels):
    import hlo

    found = hlo.overlapped(hlo.parse(PROGRAM))
    assert found == {"all-reduce-start": kernels["k5"].bytes + kernels["up"].bytes}


FAST = """HloModule jit_fast, is_scheduled=true

%fused (p: f32[4,8,128], q: f32[1,8,128]) -> bf16[8,128] {
  %p = f32[4,8,128]{2,1,0:T(8,128)S(1)} parameter(0)
  %q = f32[1,8,128]{2,1,0:T(8,128)S(1)} parameter(1)
  ROOT %r = bf16[8,128]{1,0:T(8,128)(2,1)} custom-call(%p, %q)
}

ENTRY %main (k: f32[4,8,128]) -> bf16[8,128] {
  %k = f32[4,8,128]{2,1,0:T(8,128)} parameter(0)
  %whole = (f32[4,8,128]{2,1,0:T(8,128)S(1)}, f32[4,8,128]{2,1,0:T(8,128)}, u32[]{:S(2)}) \
copy-start(%k)
  %part = ((f32[4,8,128]{2,1,0:T(8,128)}), f32[1,8,128]{2,1,0:T(8,128)S(1)}, s32[]{:S(2)}) \
slice-start(%k), slice={[0:1], [0:8], [0:128]}
  %whole.1 = f32[4,8,128]{2,1,0:T(8,128)S(1)} copy-done(%whole)
  %part.1 = f32[1,8,128]{2,1,0:T(8,128)S(1)SC(1:64)} slice-done(%part)
  ROOT %sum = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%whole.1, %part.1), kind=kLoop, calls=%fused
}
"""


def test_what_moves_in_the_fast_memory_of_a_chip_is_apart(scripts):
    import hlo

    found = {one.instruction.name: one for one in hlo.kernels(hlo.parse(FAST))}
    one = 8 * 128 * 4
    assert {name: (each.bytes, each.main_bytes) for name, each in found.items()} == {
        "whole": (2 * 4 * one, 4 * one),
        "part": (2 * one, one),
        "sum": (5 * one + one // 2, one // 2),
    }


SLICED = """HloModule jit_slices, is_scheduled=true

%third (p: f32[9,8], q: f32[3,8]) -> bf16[3,8] {
  %p = f32[9,8]{1,0} parameter(0)
  %q = f32[3,8]{1,0} parameter(1)
  %cast = bf16[9,8]{1,0} convert(%p)
  %part = bf16[3,8]{1,0} slice(%cast), slice={[6:9], [0:8]}
  %other = bf16[3,8]{1,0} convert(%q)
  ROOT %sum = bf16[3,8]{1,0} add(%part, %other)
}

%in_place (whole: f32[9,8], new: f32[3,8]) -> f32[9,8] {
  %whole = f32[9,8]{1,0} parameter(0)
  %new = f32[3,8]{1,0} parameter(1)
  %six = s32[] constant(6)
  %zero = s32[] constant(0)
  ROOT %update = f32[9,8]{1,0} dynamic-update-slice(%whole, %new, %six, %zero)
}

%beside (x: f32[9,8]) -> f32[9,8] {
  %x = f32[9,8]{1,0} parameter(0)
  %cut = f32[3,8]{1,0} slice(%x), slice={[0:3], [0:8]}
  %six.1 = s32[] constant(6)
  %zero.1 = s32[] constant(0)
  ROOT %update.1 = f32[9,8]{1,0} dynamic-update-slice(%x, %cut, %six.1, %zero.1)
}

ENTRY %main (a: f32[9,8], b: f32[3,8]) -> f32[9,8] {
  %a = f32[9,8]{1,0} parameter(0)
  %b = f32[3,8]{1,0} parameter(1)
  %sliced = bf16[3,8]{1,0} fusion(%a, %b), kind=kLoop, calls=%third
  %placed-start = ((f32[9,8]{1,0}, f32[3,8]{1,0}), f32[9,8]{1,0}, u32[]) fusion-start(%a, %b), \
kind=kLoop, calls=%in_place
  %placed = f32[9,8]{1,0} fusion-done(%placed-start)
  ROOT %mixed = f32[9,8]{1,0} fusion(%placed), kind=kLoop, calls=%beside
}
"""


def test_of_an_array_only_what_is_touched_counts(scripts):
    """Slices that are read, and the part that is updated in place; else the whole."""
    import hlo

    found = {
        kernel.instruction.name: (kernel.kind, kernel.bytes)
        for kernel in hlo.kernels(hlo.parse(SLICED))
    }
    part, whole = 3 * 8, 9 * 8
    assert found == {
        "sliced": ("fusion", 4 * part + 4 * part + 2 * part),
        "placed-start": ("fusion", 4 * part + 4 * part),
        "mixed": ("fusion", 4 * whole + 4 * whole),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no program", "no entry"),
        ("ENTRY %main (a: f32[]) -> f32[] {\n  %a = f32[] parameter(0\n}\n", "left open"),
        (PROGRAM.replace("dim_labels=b01f_o01i->b01f, ", ""), "no dim_labels"),
    ],
)
def test_what_is_no_program_is_refused(text, reason):
    import hlo

    with pytest.raises(ValueError, match=reason):
        hlo.kernels(hlo.parse(text))


def test_a_gpu_that_is_not_here_compiles_the_step():
    """By the real compiler, where the extra `cuda` is installed: bf16 in every convolution, one
    float32 gradient of the critic, and no convolution whose kernel became its input.
    """
    plugins = ("jax_cuda13_plugin", "jax_cuda12_plugin")
    if not any(map(importlib.util.find_spec, plugins)):
        pytest.skip("the compiler for GPUs is not installed (extra `cuda`)")
    code = (
        "import sys; sys.path.insert(0, 'benchmarks')\n"
        "import gpu_compile as g, programs\n"
        "from musegan_jax import config as configs\n"
        "config = programs.configured(configs.load('configs/tiny.py'), [], 2, 4)\n"
        "found = g.measure('critic update', config, g.layout_of('H100:2'), {})\n"
        "print(sorted(found['convolution_dtypes']), found['activation_transposes'])\n"
        "print([one['dtypes'] for one in found['collectives']])\n"
    )
    assert in_new_process(code).splitlines() == ["['bf16'] {}", "[['f32']]"]


def test_a_trace_is_joined_with_the_program(kernels):
    import collections

    from kernels import by_kind, table
    from musegan_jax.runs.peaks import Peak

    seconds = collections.Counter({"conv": 2.0, "wgrad": 3.0, "twice": 1.0, "of the runtime": 9.0})
    rows = table(list(kernels.values()), seconds, Peak(1e3, 1e30))
    assert [row["name"] for row in rows] == ["wgrad", "conv", "twice"]
    assert rows[2]["bytes"] == 10 * 48 and rows[1]["roofline_s"] == kernels["conv"].flops / 1e3
    convolutions, rest = by_kind(rows)
    assert convolutions["kernel_s"] == 5 and convolutions["kernels"] == 2
    assert convolutions["flops"] == 2 * kernels["conv"].flops
    assert rest["kind"] == "fusion" and rest["roofline_s"] == pytest.approx(480 / 1e30)
    assert by_kind(table(list(kernels.values()), seconds, None))[0]["roofline_s"] is None
