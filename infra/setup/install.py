"""Makes .venv from the hashed lock. Runs on the machine's own python3: standard library only.

Says one line for each thing that a person has to fix: an old Python, no venv module, too little disk, or a
platform for which a pinned wheel does not exist.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "infra" / "locks" / "zoetrope.lock"
UV = "uv==0.13.9"
# torch's wheel with its CUDA libraries is 4.6 of the 6.0 GB; the CPU build leaves those out.
NEEDED_GB = {"pypi": 8, "cpu": 3}
# Pure Python, published as source only: built here in a second. Everything else must come as a wheel.
SOURCE_ONLY = {"antlr4-python3-runtime", "kfp-server-api", "kfp", "kfp-kubernetes", "kfp-pipeline-spec"}


def stop(message: str) -> None:
    """One line and exit 2."""
    print(f"zoetrope set-up: {message}", file=sys.stderr)
    raise SystemExit(2)


def check_machine(torch: str) -> None:
    """What can be known before anything is downloaded."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the python3 that runs this may be any
        stop(f"Python {platform.python_version()} is too old; install 3.11 or newer, or run `make PYTHON=python3.11`")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        stop("python3 has no venv module; on Debian: apt-get install python3-venv")
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < NEEDED_GB[torch] and not (ROOT / ".venv").exists():
        stop(f"{NEEDED_GB[torch]} GB of disk needed in {ROOT}, {free:.1f} GB free; free some or use TORCH=cpu")


def run(command: list[str]) -> None:
    """Runs a command quietly; a failure becomes one line."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    text = done.stderr + done.stdout
    place = f"{platform.system()} {platform.machine()}"
    wheel = re.search(r"([A-Za-z0-9_.-]+)==([0-9][^\s]*) has no (?:usable )?wheels", text)
    if wheel:
        stop(
            f"no wheel of {wheel[1]} {wheel[2]} for {place}, Python {platform.python_version()}; "
            "use Linux x86_64 with Python 3.11 to 3.13 (a container will do)"
        )
    sys.stderr.write(text[-3000:])
    stop(f"failed: {' '.join(command[:4])} ... ({place}); the lines above say why; `make setup` tries again")


def install(torch: str) -> None:
    """Creates the environment and installs the lock into it."""
    venv = ROOT / ".venv"
    python = str(venv / "bin" / "python")
    uv = str(venv / "bin" / "uv")
    if not (venv / "bin" / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])
    # compiled once here: every step is a process of its own, and where Python may not write bytecode it would
    # compile Great Expectations and MLflow again each time
    sync = [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", python, "--require-hashes"]
    sync += wheels_only()
    if torch == "cpu":
        run([*sync, str(without_torch(venv))])
        # The CPU build has other hashes than the lock's wheel; uv knows where PyTorch publishes it.
        run([uv, "pip", "install", "--quiet", "--python", python, "--torch-backend", "cpu", "torch==2.13.0"])
    else:
        run([*sync, str(LOCK)])
    package = [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-build-isolation"]
    run([*package, "--editable", str(ROOT)])


def wheels_only() -> list[str]:
    """The options that refuse to compile anything: a missing wheel is said at once, not after a failed build."""
    names = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return [option for name in names if name not in SOURCE_ONLY for option in ("--only-binary", name)]


def without_torch(venv: Path) -> Path:
    """The lock less torch and the CUDA libraries that only its default wheel needs."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", LOCK.read_text(encoding="utf-8"))
    unwanted = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)(\[[^\]]*\])?==")
    kept = [block for block in blocks if not unwanted.match(block)]
    path = venv / "without-torch.lock"
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Installs unless the stamp says that this lock is already there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", choices=sorted(NEEDED_GB), default="pypi")
    parser.add_argument("--stamp", type=Path, required=True)
    options = parser.parse_args()
    check_machine(options.torch)
    os.environ.pop("VIRTUAL_ENV", None)
    started = time.monotonic()
    print(f"zoetrope set-up: installing into .venv (torch from {options.torch}) ...", flush=True)
    install(options.torch)
    for stamp in (ROOT / ".venv").glob(".ready-*"):
        stamp.unlink()
    (ROOT / options.stamp).write_text("")
    print(f"zoetrope set-up: done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
