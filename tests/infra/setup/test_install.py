"""Set-up: what a person has to fix is one line."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "infra" / "setup" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_missing_wheel_is_one_line(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    said = "error: No solution found\n  cause: Because av==18.1.0 has no usable wheels and you require av==18.1.0"
    with pytest.raises(SystemExit) as caught:
        install.run([sys.executable, "-c", f"import sys; print({said!r}, file=sys.stderr); sys.exit(1)"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zoetrope set-up: no wheel of av 18.1.0 for ")
    assert "use Linux x86_64" in line


def test_another_failure_keeps_its_reason(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        install.run([sys.executable, "-c", "import sys; sys.exit('no route to host')"])
    assert "no route to host" in capsys.readouterr().err


def test_everything_but_the_named_packages_must_come_as_a_wheel(install: ModuleType) -> None:
    options = install.wheels_only()
    assert "torch" in options and "av" in options
    assert not install.SOURCE_ONLY & set(options)


def test_the_cpu_build_leaves_out_torch_and_cuda_and_nothing_else(install: ModuleType, tmp_path: Path) -> None:
    def names(text: str) -> set[str]:
        return {line.split("==")[0].split("[")[0] for line in text.splitlines() if line[:1].isalnum()}

    left = names(install.LOCK.read_text()) - names(install.without_torch(tmp_path).read_text())
    assert "torch" in left
    assert all(name in ("torch", "triton") or name.startswith(("nvidia-", "cuda-")) for name in left)
