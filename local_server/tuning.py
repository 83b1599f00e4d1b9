"""Instance and thread counts that ``make tune`` measured: their file, and a repository of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from bls_models.cpus import cpu_count
from bls_models.errors import SetupError
from bls_models.settings import Settings

# What Triton reads for a model on the CPU profile: the first of these that is there.
CONFIGURATIONS = (Path("configs", "cpu.pbtxt"), Path("config.pbtxt"))
REMEDY = "run `make tune` to write it anew, or delete it"


@dataclass(frozen=True)
class Tuning:
    """What differs from the repository's configurations and the settings' defaults.

    Attributes:
        instances: number of instances by model, at least 1.
        settings: environment variables of ``bls_models.settings``.
    """

    instances: dict[str, int]
    settings: dict[str, str]

    def __str__(self) -> str:
        counts = [f"{model} x {count}" for model, count in self.instances.items()]
        return ", ".join([*counts, *(f"{name}={text}" for name, text in self.settings.items())])


def write_tuning(path: Path, tuning: Tuning, bundle: str) -> None:
    """Write a tuning with what it was measured on: this machine's CPUs and the bundle's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"cpus": cpu_count(), "bundle": bundle, **asdict(tuning)}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_tuning(path: Path, bundle: str, report: Callable[[str], None]) -> Tuning | None:
    """The tuning of a file, if it was measured with as many CPUs and this bundle.

    Args:
        path: a file of ``write_tuning``.
        bundle: name of the bundle that is served.
        report: called with a line that says what becomes of the file.

    Returns:
        None: there is no file, or it belongs to something else.

    Raises:
        SetupError: the file is not one of ``write_tuning``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} cannot be read as a tuning file ({error}); {REMEDY}") from None
    _check(path, content)
    for what, theirs, ours in (
        ("CPUs", content["cpus"], cpu_count()),
        ("bundle", content["bundle"], bundle),
    ):
        if theirs != ours:
            report(f"tuning: {path} is ignored, it was measured with {what} {theirs}, not {ours}")
            return None
    tuning = Tuning(content["instances"], content["settings"])
    report(f"tuning: {tuning} ({path})")
    return tuning


def instance_count(repository: Path, model: str) -> int:
    """The number of a model's instances, as its configuration for the CPU profile has it.

    Raises:
        SetupError: there is no such model, or not one such number in its configuration.
    """
    _, group = _with_count(repository / model / _configuration(repository, model))
    return int(group.count)


def tuned_repository(repository: Path, folder: Path, instances: Mapping[str, int]) -> None:
    """Make a model repository that differs from another in numbers of instances alone.

    Args:
        repository: the other one; what is the same becomes a link into it.
        folder: where the new one goes; must not exist, or be empty.
        instances: number of instances by model, for the CPU profile.

    Raises:
        SetupError: there is no such model, or not one such number in its configuration.
    """
    # Checked first, so that an error leaves nothing half made.
    changed: dict[Path, str] = {}
    for model, count in instances.items():
        path = Path(model) / _configuration(repository, model)
        config, group = _with_count(repository / path)
        group.count = count
        changed[path] = text_format.MessageToString(config)
    folder.mkdir(parents=True, exist_ok=True)
    _link(repository.resolve(), folder, changed)


def _link(source: Path, target: Path, changed: Mapping[Path, str]) -> None:
    """Fill ``target`` with links to what ``source`` has, but ``changed``, by relative path."""
    inside = {path.parts[0] for path in changed if len(path.parts) > 1}
    for item in source.iterdir():
        if item.name in inside:
            (target / item.name).mkdir()
            below = {
                path.relative_to(item.name): text
                for path, text in changed.items()
                if path.parts[0] == item.name
            }
            _link(item, target / item.name, below)
        elif (text := changed.get(Path(item.name))) is not None:
            (target / item.name).write_text(text, encoding="utf-8")
        else:
            (target / item.name).symlink_to(item)


def _configuration(repository: Path, model: str) -> Path:
    """The configuration for the CPU profile, relative to the model's folder."""
    for path in CONFIGURATIONS:
        if (repository / model / path).is_file():
            return path
    expected = " or ".join(map(str, CONFIGURATIONS))
    raise SetupError(
        f"{repository / model} has no configuration; expected {expected} of a served model"
    )


def _with_count(
    path: Path,
) -> tuple[model_config_pb2.ModelConfig, model_config_pb2.ModelInstanceGroup]:
    """A configuration, and the group in it that has the number of instances."""
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise SetupError(f"{path} is not a configuration of Triton: {error}") from None
    groups = [group for group in config.instance_group if group.count]
    if len(groups) != 1:
        raise SetupError(
            f"{path} has an 'instance_group' with a count {len(groups)} times; expected it once, "
            "so that the number of instances can be changed"
        )
    return config, groups[0]


def _check(path: Path, content: object) -> None:
    """Refuse what ``write_tuning`` would not write."""

    def refuse(expected: str) -> None:
        raise SetupError(f"{path} is not a tuning file: expected {expected}; {REMEDY}")

    names = {"cpus", "bundle", *(item.name for item in fields(Tuning))}
    if not isinstance(content, dict) or set(content) != names:
        return refuse(f"an object of {', '.join(sorted(names))}")
    instances, settings = content["instances"], content["settings"]
    if not isinstance(instances, dict) or not all(
        type(count) is int and count > 0 for count in instances.values()
    ):
        return refuse("positive whole numbers by model in 'instances'")
    variables = set(Settings.variables().values())
    if not isinstance(settings, dict) or not settings.keys() <= variables:
        return refuse("variables of the serving models (docs/configuration.md) in 'settings'")
    if not all(isinstance(text, str) for text in settings.values()):
        return refuse("texts in 'settings'")
    return None
