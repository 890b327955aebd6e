#!/usr/bin/env python3
"""Finds or fetches libtorch and tells cargo where it is.

Needs Python 3.9 or newer, its standard library, and pip (which it gets from a virtual environment where Debian has none).

1. `LIBTORCH=/folder` or `LIBTORCH_USE_PYTORCH=1` in the environment: that install is used as it is.
2. Otherwise the wheels of `libtorch.txt` are fetched once per user and unpacked into
   `${XDG_CACHE_HOME:-~/.cache}/sure/libtorch-2.11.0`.

Either way it makes a folder of links that holds only what a CPU needs, so that an executable linked against it starts on a
machine without CUDA, and writes `.cargo/config.toml` (not in git) with the variables that torch-sys reads. Running it again
costs nothing and changes nothing; two at once wait for each other; killed anywhere, it leaves nothing half done in place.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

VERSION = "2.11.0"  # what torch-sys 0.24 is generated from
REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).resolve().with_suffix(".txt")
CARGO_CONFIG = REPOSITORY / ".cargo" / "config.toml"

# Any Python gets the same wheel: we use its libraries and headers, never its Python part.
WHEEL_TAGS = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]
WHEEL_TAGS += [f"--platform={tag}_x86_64" for tag in ("manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014")]
GIB = 1 << 30
DOWNLOAD_BYTES = int(0.6 * GIB)  # 543 MB
UNPACKED_BYTES = int(1.2 * GIB)  # 1.1 GB


class Problem(Exception):
    """Something the user can put right; the message says how."""


def main() -> int:
    options = parse_arguments()
    try:
        torch, note = existing_install() or fetched_install(options.wheels)
        links = link_folder(torch)
        if options.link:
            link_programs(options.link, links)
            say(f"libtorch {VERSION}: {note} ({torch}); linked as {options.link}")
            return 0
        require_compiler()
        settings = {"LIBTORCH": torch, "LIBTORCH_INCLUDE": torch, "LIBTORCH_LIB": links}
        if options.env:
            for name, value in settings.items():
                print(f"export {name}='{value}'")
        else:
            changed = write_if_changed(CARGO_CONFIG, cargo_config(settings))
            say(f"libtorch {VERSION}: {note} ({torch})" + (f"; wrote {CARGO_CONFIG.relative_to(REPOSITORY)}" if changed else ""))
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot use `{error.filename}`: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", action="store_true", help="print shell exports instead of writing .cargo/config.toml")
    parser.add_argument("--link", type=Path, help="only make this link to the libraries, for programs that are built already")
    parser.add_argument("--wheels", type=Path, help="take the wheels from this folder, without network")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# ---- an install that is already there -------------------------------------------------------------------------------------


def existing_install():
    """The folder that `LIBTORCH` or the user's PyTorch names, checked; None when neither is set."""
    if os.environ.get("LIBTORCH"):
        torch, source = Path(os.environ["LIBTORCH"]), "from LIBTORCH"
    elif os.environ.get("LIBTORCH_USE_PYTORCH"):
        torch, source = folder_of_pytorch(), "from the PyTorch of python3"
    else:
        return None
    torch = torch.resolve()
    for part in ("lib/libtorch_cpu.so", "lib/libc10.so", "include/torch/csrc/api/include/torch/torch.h"):
        if not (torch / part).is_file():
            raise Problem(f"no libtorch at `{torch}` ({source}): `{part}` is not there")
    found = version_of(torch)
    if found not in (None, VERSION):
        raise Problem(f"libtorch at `{torch}` ({source}) is version {found}; this project needs {VERSION}")
    return torch, source


def folder_of_pytorch() -> Path:
    code = "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    python = "python" if os.environ.get("VIRTUAL_ENV") else "python3"  # as torch-sys chooses
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
    if not answer:
        raise Problem(f"LIBTORCH_USE_PYTORCH is set, but `{python}` has no torch: pip install torch=={VERSION}, or unset it")
    return Path(answer)


def version_of(torch: Path):
    """`2.11.0`, from the file that a libtorch archive or a wheel carries; None when it carries neither."""
    archive, wheel = torch / "build-version", torch / "version.py"
    if archive.is_file():
        return archive.read_text().strip().split("+")[0]
    if wheel.is_file():
        for line in wheel.read_text().splitlines():
            if line.startswith("__version__"):
                return line.split("'")[1].split("+")[0]
    return None


# ---- an install of our own ------------------------------------------------------------------------------------------------


def fetched_install(wheels):
    """The per-user install, made now if it is not there yet."""
    target = cache_folder() / f"libtorch-{VERSION}"
    if target.is_dir():
        return target / "torch", "in the user's cache"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Problem(f"no wheels are listed for {platform.system()} {platform.machine()}: install libtorch {VERSION} and set LIBTORCH")
    with only_one(cache_folder() / f"libtorch-{VERSION}.lock"):
        if not target.is_dir():  # the other one may have made it while we waited
            build_install(target, wheels)
    return target / "torch", "fetched now"


def build_install(target: Path, wheels) -> None:
    downloads, unpacked = target.with_name(target.name + ".download"), target.with_name(target.name + ".unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        require_space(target.parent, UNPACKED_BYTES + (0 if wheels else DOWNLOAD_BYTES))
        for wheel in wheel_files(wheels) if wheels else download(downloads):
            unpack(wheel, unpacked)
        check_loads(link_into(unpacked / "torch", unpacked / "links" / "lib"))
        os.sync()
        unpacked.rename(target)
    except OSError as error:
        shutil.rmtree(unpacked, ignore_errors=True)
        raise Problem(f"cannot write `{error.filename or unpacked}`: {error.strerror}") from error
    shutil.rmtree(downloads, ignore_errors=True)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "sure"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"cannot create `{folder}`: {error.strerror}; set XDG_CACHE_HOME to a folder that can be written") from error
    return folder


@contextlib.contextmanager
def only_one(lock: Path):
    """Holds a lock that the kernel drops when this process ends, however it ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is fetching libtorch; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Problem(
            f"`{folder}` has {free / GIB:.1f} GiB free and libtorch needs {needed / GIB:.1f}; "
            "make room, or set XDG_CACHE_HOME to another disk"
        )


def download(folder: Path) -> list:
    """Fetches the wheels with pip, one after the other; one that is there already is kept."""
    scratch = folder / "pip"  # pip's own scratch too: /tmp is often a small memory disk
    folder.mkdir(parents=True, exist_ok=True)
    pip = find_pip(folder / "venv")
    files = []
    for requirement in requirements():
        done = folder / requirement.split("==")[0]
        if not done.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
            (scratch / "tmp").mkdir(parents=True)
            wanted = scratch / "requirement.txt"
            wanted.write_text(requirement + "\n")
            say(f"fetching {requirement.split(' ')[0]}")
            command = [*pip, "download", "--no-deps", "--no-cache-dir", "--require-hashes", "--disable-pip-version-check"]
            command += [*WHEEL_TAGS, "--dest", str(scratch / "wheel"), "-r", str(wanted)]
            if subprocess.run(command, env={**os.environ, "TMPDIR": str(scratch / "tmp")}, check=False).returncode != 0:
                raise Problem(
                    f"pip could not fetch {requirement.split(' ')[0]} (its own message is above); without network, "
                    f"set LIBTORCH to an unpacked libtorch {VERSION}, or pass --wheels FOLDER with the files of {REQUIREMENTS.name}"
                )
            (scratch / "wheel").rename(done)
        files += done.glob("*.whl")
    return files


def requirements() -> list:
    lines = (line.strip() for line in REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def find_pip(venv: Path) -> list:
    """The command that starts pip: Python's own, or one in a virtual environment made for this."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, check=False).returncode == 0
    pip = [str(venv / "bin" / "python"), "-m", "pip"]
    if made and subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode == 0:
        return pip
    raise Problem("this Python has neither pip nor venv; on Debian and Ubuntu: sudo apt install python3-venv")


def wheel_files(folder: Path) -> list:
    """The listed wheels in a folder the user gives, found by hash."""
    found = {}
    for path in sorted(folder.glob("*.whl")):
        with path.open("rb") as file:
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        found[digest.hexdigest()] = path
    files = []
    for requirement in requirements():
        name, _, digest = requirement.partition(" --hash=sha256:")
        if digest not in found:
            raise Problem(f"no file in `{folder}` is the listed wheel of {name}")
        files.append(found[digest])
    return files


def unpack(wheel: Path, folder: Path) -> None:
    """Takes libraries and headers out of a wheel; the Python part stays behind."""
    say(f"unpacking {wheel.name}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if wanted_member(name)]
            archive.extractall(folder, members)
    except zipfile.BadZipFile as error:
        shutil.rmtree(wheel.parent, ignore_errors=True)
        raise Problem(f"`{wheel}` is damaged ({error}) and was removed; run this again") from error


def wanted_member(name: str) -> bool:
    library = name.startswith("torch/lib/") and ".so" in name and "python" not in name
    return library or name.startswith(("torch/include/", "nvidia/")) or name == "torch/version.py"


# ---- the folder of links --------------------------------------------------------------------------------------------------


def link_folder(torch: Path) -> Path:
    """The folder for `LIBTORCH_LIB`: its `lib/` holds links to what a CPU needs and nothing of CUDA's compute libraries."""
    own = torch.parent / "links"
    if torch.parent == cache_folder() / f"libtorch-{VERSION}":
        return own
    links = cache_folder() / f"links-{hashlib.sha256(str(torch).encode()).hexdigest()[:12]}"
    if not links.is_dir():
        making = links.with_name(f"{links.name}.{os.getpid()}")
        shutil.rmtree(making, ignore_errors=True)
        check_loads(link_into(torch, making / "lib"))
        try:
            making.rename(links)
        except OSError:  # another process was first
            shutil.rmtree(making, ignore_errors=True)
    return links


def link_programs(link: Path, links: Path) -> None:
    """Makes `link` lead to the libraries, in the place of an earlier link."""
    if link.exists() and not link.is_symlink():
        raise Problem(f"`{link}` exists and is no link: name another place with --link")
    aside = link.with_name(f".{link.name}.{os.getpid()}")
    aside.symlink_to(links / "lib")
    aside.replace(link)


def link_into(torch: Path, folder: Path) -> Path:
    """Links to the real files, relative where both move together. Linkers want `libNAME.so`, the loader the exact names."""
    folder.mkdir(parents=True)
    site = torch.parent
    places = [torch / "lib", site / "torch.libs", *sorted(site.glob("nvidia/*/lib"))]
    together = folder.is_relative_to(site)

    def link(name: str, to: Path) -> None:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(os.path.relpath(to, folder) if together else to)

    for pattern in ("libtorch_cpu.so", "libc10.so", "libgomp*.so*", "libcudart.so.*", "libcupti.so.*"):
        for place in places:
            for file in sorted(place.glob(pattern)):
                link(file.name, file)
                if pattern.startswith("libgomp"):
                    link("libgomp.so", file)
    link("libtorch.so", torch / "lib" / "libtorch_cpu.so")  # the real one would pull in CUDA
    return folder


def check_loads(folder: Path) -> None:
    """Opens libtorch once, as the executable will."""
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    command = [sys.executable, "-c", code, str(folder / "libtorch_cpu.so")]
    tried = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if tried.returncode != 0:
        shutil.rmtree(folder.parent, ignore_errors=True)
        lines = tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"]
        raise Problem(f"libtorch does not load: {lines[-1]}")


def require_compiler() -> None:
    if not (os.environ.get("CXX") or shutil.which("c++")):
        raise Problem("no C++ compiler, which torch-sys needs; on Debian and Ubuntu: sudo apt install g++")


# ---- what cargo is told ---------------------------------------------------------------------------------------------------


def cargo_config(settings: dict) -> str:
    """`force`: this file alone decides, so that no stray variable of a shell rebuilds torch-sys (minutes)."""
    lines = ["# Written by scripts/libtorch.py; not in git. Where libtorch is on this machine.", "[env]"]
    lines += [f'{name} = {{ value = "{value}", force = true }}' for name, value in settings.items()]
    # libtorch's threads spin while they wait, which on a machine that is busy otherwise makes a step four times as long.
    lines += ['OMP_WAIT_POLICY = "passive"']
    return "\n".join(lines) + "\n"


def write_if_changed(path: Path, text: str) -> bool:
    if path.is_file() and path.read_text() == text:
        return False
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)
    return True


if __name__ == "__main__":
    sys.exit(main())
