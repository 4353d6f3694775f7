"""letterbox.cu -> letterbox.compute_NN.ptx, through the NVRTC library that is named. Called by make_ptx.sh.

python3 make_ptx.py LIBNVRTC VERSION FOLDER [OUTPUT_FOLDER]
"""

import ctypes
import hashlib
import pathlib
import sys

TARGETS = ("compute_72", "compute_75")


def compile_ptx(nvrtc, source, target):
    program = ctypes.c_void_p()
    must(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"letterbox.cu", 0, None, None))
    options = (ctypes.c_char_p * 2)(b"--gpu-architecture=" + target.encode(), b"--std=c++17")
    code = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if code != 0:
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        sys.exit(f"{target}: {log.value.decode()}")
    size = ctypes.c_size_t()
    must(nvrtc, nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
    ptx = ctypes.create_string_buffer(size.value)
    must(nvrtc, nvrtc.nvrtcGetPTX(program, ptx))
    must(nvrtc, nvrtc.nvrtcDestroyProgram(ctypes.byref(program)))
    return ptx.value.decode()


def must(nvrtc, code):
    if code != 0:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        sys.exit(f"NVRTC: {nvrtc.nvrtcGetErrorString(code).decode()}")


def main(library, version, folder, output=None):
    nvrtc = ctypes.CDLL(library)
    source = (pathlib.Path(folder) / "letterbox.cu").read_bytes()
    header = f"// source sha256 {hashlib.sha256(source).hexdigest()}, NVRTC {version}, made by make_ptx.sh\n"
    for target in TARGETS:
        path = pathlib.Path(output or folder) / f"letterbox.{target}.ptx"
        path.write_text(header + compile_ptx(nvrtc, source, target).lstrip("\n"))
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
