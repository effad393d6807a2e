"""`images.lock`: read back as written, and a name or a line that is wrong is one message."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoetrope.infra.errors import ZoetropeError
from zoetrope.infra.images.lock import read_images, write_images
from zoetrope.infra.images.reference import ImageReference, check_prefix

FIXTURE = Path(__file__).parents[2] / "fixtures" / "images.lock"
DIGEST = "sha256:" + "0123456789abcdef" * 4
WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
HOST = st.one_of(
    st.builds("{}.{}".format, WORD, WORD),
    st.builds("{}:{}".format, WORD, st.integers(1, 65535)),
    st.just("localhost"),
    st.just("[::1]:5000"),
)
REFERENCE = st.builds(
    lambda host, path, digits: f"{host}/{'/'.join(path)}@sha256:{digits}",
    HOST,
    st.lists(WORD, min_size=1, max_size=4),
    st.text("0123456789abcdef", min_size=64, max_size=64),
)


@given(st.dictionaries(WORD, REFERENCE, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, images: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("lock") / "images.lock"
    write_images(images, path)
    lock = read_images(path)
    assert lock.images == images
    assert all(lock.image(name) == reference for name, reference in images.items())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@given(REFERENCE)
def test_a_reference_is_its_parts(text: str) -> None:
    image = ImageReference.parse(text)
    assert str(image) == text
    assert text.startswith(f"{image.host}/{image.repository}@sha256:")
    assert check_prefix(text.partition("@")[0]) == text.partition("@")[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "registry.example.org/video/zoetrope-core:1.0",
        f"registry.example.org/video/zoetrope-core:1.0@{DIGEST}",
        f"zoetrope/core@{DIGEST}",
        f"registry.example.org/Video/core@{DIGEST}",
        f"registry.example.org/core@{DIGEST[:-1]}",
        f"https://registry.example.org/core@{DIGEST}",
        f"registry.example.org/core@{DIGEST}\n",
    ],
)
def test_what_is_no_image_by_digest_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ZoetropeError, match="by its digest"):
        ImageReference.parse(text)
    path = tmp_path / "images.lock"
    write_images({"core": f"registry.example.org/core@{DIGEST}"}, path)
    with pytest.raises(ZoetropeError):
        write_images({"core": text}, path)
    assert read_images(path).image("core") == f"registry.example.org/core@{DIGEST}"


def test_a_name_that_is_not_in_the_lock_is_one_line_with_what_is() -> None:
    with pytest.raises(ZoetropeError) as caught:
        read_images(FIXTURE).image("trian")
    assert caught.value.exit_code == 2
    assert caught.value.headline == f"{FIXTURE} holds no image 'trian'"
    assert "did you mean 'train'?" in caught.value.hint
    assert "core, evaluate, tracking, train" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("core = ", "is not TOML"),
        ("core = 1", "core is not text"),
        ("[core]\nimage = 'x'", "core is not text"),
        ("core = 'registry.example.org/core:1'", "core: 'registry.example.org/core:1' does not name an image"),
    ],
)
def test_a_broken_lock_says_where(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "images.lock"
    path.write_text(text)
    with pytest.raises(ZoetropeError) as caught:
        read_images(path)
    assert str(path) in caught.value.headline
    assert said in caught.value.headline
    assert caught.value.exit_code == 2


def test_a_lock_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ZoetropeError) as caught:
        read_images(tmp_path / "images.lock")
    assert "does not exist" in caught.value.headline
    assert "make images REGISTRY=" in caught.value.hint


@pytest.mark.parametrize("text", ["", "video", "https://registry.example.org", "registry.example.org/Video", "a b.c/d"])
def test_what_is_no_registry_is_refused(text: str) -> None:
    with pytest.raises(ZoetropeError, match="registry to push to"):
        check_prefix(text)
