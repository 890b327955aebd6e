#!/usr/bin/env python3
"""Lets `import torch` work, on a CPU, with the CUDA wheel of PyTorch but without the 1.7 GB of CUDA libraries it links to.

The wheel on the package index is the CUDA one, and its Python module cannot be loaded without cuBLAS, cuDNN, NCCL and their
like, though nothing of them is called on a CPU. This writes, into torch's own `lib` folder, a small library in the place of
each that is missing; every function in it is there and ends the process when called. It needs a C compiler and `nm`, takes
seconds, and leaves installs that are complete alone.

    python3 torch_stubs.py SITE_PACKAGES
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    site = Path(sys.argv[1])
    lib = site / "torch" / "lib"
    files = sorted(lib.glob("lib*.so*"))
    present = {file.name for folder in (lib, *site.glob("nvidia/*/lib")) for file in folder.glob("*.so*")}
    needed = {name for file in files for name in needed_by(file)}
    missing = sorted(name for name in needed - present if not is_system(name))
    if not missing:
        return 0
    wanted = {symbol for file in files for symbol in symbols(file, "--undefined-only")}
    given = {symbol.split("@")[0] for file in present_files(site) for symbol in symbols(file, "--defined-only")}
    # Functions of libraries that are not there; those with a version must be under that version, in any one library.
    stubs = sorted(name for name in wanted if name.split("@")[0] not in given and re.match(r"(cu|nccl|nvshmem|nvtx|nvrtc)", name))
    for at, name in enumerate(missing):
        build(lib / name, name, stubs if at == 0 else [])
    print(f"wrote {len(missing)} stand-ins with {len(stubs)} functions into {lib}", file=sys.stderr)
    return 0


def needed_by(file: Path) -> list:
    text = run("readelf", "-d", str(file))
    return re.findall(r"\(NEEDED\).*\[(.+?)\]", text)


def is_system(name: str) -> bool:
    return name.startswith(("libc.", "libm.", "libdl.", "librt.", "libpthread.", "libgcc_s.", "libstdc++.", "ld-linux"))


def present_files(site: Path) -> list:
    return [file for folder in (site / "torch" / "lib", *site.glob("nvidia/*/lib")) for file in folder.glob("lib*.so*")]


def symbols(file: Path, which: str) -> set:
    return {line.split()[-1] for line in run("nm", "-D", which, str(file)).splitlines() if line.strip()}


def build(target: Path, soname: str, names: list) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "stub.c"
        plain = sorted({name.split("@")[0] for name in names})
        source.write_text("void abort(void);\n" + "".join(f"void {name}(void) {{ abort(); }}\n" for name in plain))
        run("cc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", str(target), str(source), f"-Wl,-soname,{soname}")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
