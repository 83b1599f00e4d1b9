"""What perf wrote becomes few readable frames, and a picture with their shares."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

import pytest

from loadtest.flame_graph import __main__ as flame_graph
from loadtest.flame_graph.drawing import WIDTH, drawn
from loadtest.flame_graph.stacks import fold, short_name
from loadtest.measurements import LoadError

# A thread's stacks, innermost frame first, of two processes.
SCRIPT = """\
decode-1 41/52
\t   1a0 decode_mcu (/venv/site-packages/simplejpeg/_jpeg.cpython-311-x86_64-linux-gnu.so)
\t   1b0 [unknown] (/venv/site-packages/simplejpeg/_jpeg.cpython-311-x86_64-linux-gnu.so)
\t   fe1 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)
\t   fe2 method_vectorcall (/usr/lib/libpython3.11.so.1.0)
\t   891 start_thread (/usr/lib/x86_64-linux-gnu/libc.so.6)

decode-0 41/51
\tfff0a futex_wait ([kernel.kallsyms])
\tfff0b __x64_sys_futex ([kernel.kallsyms])
\t   2e1 pthread_cond_wait@@GLIBC_2.3.2 (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t   fe1 take_gil (/usr/lib/libpython3.11.so.1.0)

triton_python_b 42/60
\t   0a1 [unknown] (/tmp/perf-42.map)
\t   0b1 [unknown] ([heap])
\t   0c1 ov::run(int) (/venv/site-packages/openvino/libs/libopenvino_intel_cpu_plugin.so)

tritonserver 43/61
\tfff0c exit_to_user_mode_loop ([kernel.kallsyms])
\t   101 __GI___writev (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t   9c2 evbuffer_write (/venv/pytriton/tritonserver/bin/tritonserver)

tritonserver 43/61
\t   2a0 malloc (/usr/lib/x86_64-linux-gnu/libc.so.6)
"""


def test_frames_of_a_library_are_one_and_of_the_kernel_there_is_what_it_was_entered_for() -> None:
    assert fold(SCRIPT) == {
        41: {
            ("decode", "Python", "libjpeg", "decode_mcu"): 1,
            ("decode", "Python", "kernel: futex"): 1,
        },
        42: {("other threads", "OpenVINO", "generated code"): 1},
        43: {
            ("tritonserver", "HTTP", "kernel: writev"): 1,
            ("tritonserver", "C library", "malloc"): 1,
        },
    }


def test_nothing_recorded_is_no_stack() -> None:
    assert fold("") == {}


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("triton::core::Run(std::vector<int> const&)", "Run"),
        ("std::map<int, std::less<int>>::find", "find"),
        ("memcpy@@GLIBC_2.14", "memcpy"),
        ("jpeg_fill_bit_buffer", "jpeg_fill_bit_buffer"),
        ("pthread_cond_wait.constprop.0", "pthread_cond_wait.constprop.0"),
    ],
)
def test_names_of_functions_are_short(name: str, short: str) -> None:
    assert short_name(name) == short


def test_a_picture_has_each_frame_with_its_share_and_leaves_out_what_cannot_be_seen() -> None:
    stacks = Counter(
        {
            ("decode", "Python", "libjpeg"): 700,
            ("decode", "Python"): 100,
            ("search <1>", "Python", "numpy"): 199,
            ("rare", "Python"): 1,
        }
    )
    picture = ElementTree.fromstring(drawn(stacks, "product_match & others"))
    name = "{http://www.w3.org/2000/svg}"
    boxes = {box.findtext(f"{name}title"): box for box in picture.iter(f"{name}g")}
    assert list(boxes) == [
        "decode 80.0%",
        "Python 80.0%",
        "libjpeg 70.0%",
        "search <1> 19.9%",
        "Python 19.9%",
        "numpy 19.9%",
    ]
    places = {text: box.find(f"{name}rect") for text, box in boxes.items()}
    decode, search = places["decode 80.0%"], places["search <1> 19.9%"]
    assert decode is not None
    assert search is not None
    assert float(search.attrib["x"]) == pytest.approx(0.8 * WIDTH)
    assert decode.attrib["y"] == search.attrib["y"]
    assert decode.attrib["fill"] != places["libjpeg 70.0%"].attrib["fill"]  # type: ignore[union-attr]
    labels = [item.text for item in picture.iter(f"{name}text")]
    assert labels[0] == "product_match & others"
    assert labels[1:5] == ["decoding 70%", "numpy 20%", "Python 10%", "decode 80.0%"]


def test_a_narrow_frame_has_as_much_of_its_name_as_fits() -> None:
    stacks = Counter({("a thread of a long name",): 6, ("x",): 94})
    picture = drawn(stacks, "")
    assert "a thre…" in picture
    assert ">a thread of a long name<" not in picture


def test_without_perf_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LoadError, match="linux-perf"):
        flame_graph.recorded({1: "init"}, 1.0)
