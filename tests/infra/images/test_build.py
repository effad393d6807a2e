"""`make images` with a docker of the tests' own, which notes what it is asked and answers as the real one does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images.build import IMAGES, PRODUCT, Build, build_images, revision, source
from zoetrope.infra.images.lock import read_images, write_images

REGISTRY = "registry.example.org/video"
DIGEST = "sha256:" + "c" * 64
OLD = f"registry.example.org/video/zoetrope-tracking@sha256:{'d' * 64}"


def docker(folder: Path, fails: str = "", says: str = "") -> str:
    """A program that stands for docker; `fails` names the command that says `says` and fails."""
    path = folder / "docker"
    path.write_text(
        f"""#!{sys.executable}
import json, os, sys
with open({str(folder / "asked")!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("BUILDX_NO_DEFAULT_ATTESTATIONS")]) + "\\n")
if sys.argv[1] == {fails!r}:
    print({says!r}, file=sys.stderr)
    sys.exit(1)
print("7: digest: {DIGEST} size: 9" if sys.argv[1] == "push" else "done")
"""
    )
    path.chmod(0o755)
    return str(path)


def asked(folder: Path) -> list[list[str]]:
    return [json.loads(line)[0] for line in (folder / "asked").read_text().splitlines()]


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", "-C", root, *who, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with every input of every image."""
    root = tmp_path / "checkout"
    for name in sorted({name for image in PRODUCT for name in image.inputs}):
        place = root / name if "." in Path(name).name or name.endswith("file") else root / name / "module.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("one\n")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "all")
    return root


def test_images_are_built_pushed_and_locked_by_the_digest_that_was_answered(checkout: Path, tmp_path: Path) -> None:
    lock = tmp_path / "images.lock"
    write_images({"tracking": OLD}, lock)
    build = Build(REGISTRY, "debian:12", ("--network", "host"), docker(tmp_path), checkout)
    made = build_images(["core", "train"], build, lock)
    assert made == {name: f"{REGISTRY}/zoetrope-{name}@{DIGEST}" for name in ("core", "train")}
    assert read_images(lock).images == {**made, "tracking": OLD}
    commands = asked(tmp_path)
    assert [command[0] for command in commands] == ["version", "build", "push", "build", "push"]
    tag = f"{REGISTRY}/zoetrope-core:{git(checkout, 'rev-parse', 'HEAD')[:12]}"
    assert commands[2] == ["push", tag]
    built = " ".join(commands[1])
    assert f"--file infra/images/Dockerfile --tag {tag} --network host --target core" in built
    assert f"org.opencontainers.image.revision={git(checkout, 'rev-parse', 'HEAD')}" in built
    assert built.endswith("--build-arg BASE_IMAGE=debian:12 .")
    assert all(json.loads(line)[1] == "1" for line in (tmp_path / "asked").read_text().splitlines()[1:])


def test_the_revision_is_that_of_the_inputs_and_says_when_they_were_changed(checkout: Path) -> None:
    first = git(checkout, "rev-parse", "HEAD")
    (checkout / "components" / "module.py").write_text("two\n")
    assert revision(IMAGES["core"], checkout) == f"{first}+dirty"
    assert revision(IMAGES["tracking"], checkout) == first
    git(checkout, "commit", "-qam", "two")
    assert revision(IMAGES["core"], checkout) == git(checkout, "rev-parse", "HEAD")
    assert revision(IMAGES["tracking"], checkout) == first
    (checkout / "notes.md").write_text("no input\n")
    assert not revision(IMAGES["core"], checkout).endswith("+dirty")


@pytest.mark.parametrize(
    ("remote", "label"),
    [
        ("https://somebody:a-token@code.example.org/video/zoetrope.git", "https://code.example.org/video/zoetrope.git"),
        ("ssh://git@code.example.org:2222/video.git", "ssh://code.example.org:2222/video.git"),
        ("/srv/git/zoetrope", ""),
        ("", ""),
    ],
)
def test_the_source_label_holds_no_login(checkout: Path, remote: str, label: str) -> None:
    if remote:
        git(checkout, "remote", "add", "origin", remote)
    assert source(checkout) == label


@pytest.mark.parametrize(
    ("fails", "says", "headline", "hint"),
    [
        (
            "version",
            "Cannot connect to the Docker daemon",
            "docker's daemon cannot be used: Cannot connect",
            "DOCKER_HOST",
        ),
        ("build", "pull access denied for debian:13", "image core was not built: pull access", "docker login"),
        ("build", "manifest for debian:13 not found", "image core was not built: manifest", "BASE_IMAGE"),
        ("build", "write /x: no space left on device", "image core was not built: write /x", "free some disk"),
        (
            "push",
            "denied: requested access is denied",
            "image core was not pushed to registry.example.org/video: denied",
            "docker login",
        ),
        (
            "push",
            "dial tcp: lookup x: no such host",
            "image core was not pushed to registry.example.org/video: dial",
            "check the name",
        ),
    ],
)
def test_a_failure_is_one_line_and_leaves_the_lock_alone(
    checkout: Path, tmp_path: Path, fails: str, says: str, headline: str, hint: str
) -> None:
    lock = tmp_path / "images.lock"
    write_images({"core": OLD}, lock)
    with pytest.raises(ZoetropeError) as caught:
        build_images(["core"], Build(REGISTRY, docker=docker(tmp_path, fails, says), root=checkout), lock)
    assert caught.value.headline.startswith(headline)
    assert "\n" not in caught.value.headline
    assert hint in caught.value.hint
    assert read_images(lock).images == {"core": OLD}


def test_nothing_is_asked_of_docker_for_an_unknown_image_or_no_registry(checkout: Path, tmp_path: Path) -> None:
    program = docker(tmp_path)
    with pytest.raises(ZoetropeError, match="unknown image 'cores'"):
        build_images(["cores"], Build(REGISTRY, docker=program, root=checkout), tmp_path / "images.lock")
    with pytest.raises(ZoetropeError, match="no registry to push to"):
        build_images(["core"], Build("", docker=program, root=checkout), tmp_path / "images.lock")
    assert not (tmp_path / "asked").exists()


def test_a_machine_without_docker_gets_an_error(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(ZoetropeError, match="docker is not installed"):
        build_images(["core"], Build(REGISTRY, docker="docker-of-nobody", root=checkout), tmp_path / "images.lock")
