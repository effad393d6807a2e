"""`make overlay`: the digests of the lock in an overlay, or one line that says what is missing."""

from pathlib import Path

import pytest
import yaml

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images.lock import read_images
from zoetrope.infra.images.overlay import main, write_overlay

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "tests" / "fixtures" / "images.lock"
POSTGRES = "registry.example.org/mirror/postgres@sha256:" + "5" * 64


@pytest.mark.parametrize("overlay", ["dev", "prod", "profile"])
def test_every_image_is_then_named_by_its_digest(overlay, tmp_path, render):
    path = write_overlay(overlay, tmp_path, lock=LOCK, images={"postgres": POSTGRES}, root=ROOT / "manifests")
    text = yaml.safe_dump_all(render(str(path.parent)))
    images = {line.split("image: ")[1] for line in text.splitlines() if "image: " in line}
    locked = read_images(LOCK).images
    expected = {locked[name] for name in ("core", "train", "tracking")}
    assert images == expected | ({POSTGRES} if overlay != "prod" else set())


def test_an_unknown_overlay_is_one_line(tmp_path):
    with pytest.raises(ZoetropeError, match="no overlay 'staging'") as caught:
        write_overlay("staging", tmp_path, lock=LOCK, root=ROOT / "manifests")
    assert "dev, prod, profile" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_an_image_that_is_not_in_the_lock_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    lock = tmp_path / "images.lock"
    lock.write_text("".join(line for line in LOCK.read_text().splitlines(True) if not line.startswith("train")))
    assert main(["dev", str(tmp_path / "out"), "--lock", str(lock)]) == 2
    assert "holds no image 'train'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_tag_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["dev", str(tmp_path / "out"), "--lock", str(LOCK), "--image", "postgres=example.org/postgres:16"]) == 2
    assert "does not name an image by its digest" in capsys.readouterr().err


def test_the_command_says_what_to_do_next(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["dev", str(tmp_path), "--lock", str(LOCK)]) == 0
    assert capsys.readouterr().out == f"zoetrope overlay: kubectl apply -k {tmp_path}\n"
