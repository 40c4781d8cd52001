"""Zip packages that Ray unpacks on every node. The name of a package has a hash of its files and changes with them."""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import distilray
from distilray.deploy.errors import SubmitError

_FOLDERS = ("model", "operators", "pipeline", "deploy")
_SUFFIXES = (".py", ".j2", ".css")  # no other files, such as weights or keys, are sent
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip: the time of a file must not change the package


@dataclass(frozen=True)
class Package:
    """A zip and its name. The name depends on the files and on nothing else."""

    name: str
    data: bytes = field(repr=False)

    @property
    def uri(self) -> str:
        """The URI of the package in a runtime environment of Ray."""
        return f"gcs://{self.name}"


def make_package(files: Mapping[str, bytes]) -> Package:
    """Zip files. files: the content of each file, by its path in the package."""
    buffer, digest = io.BytesIO(), hashlib.sha256()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted(files.items()):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
            digest.update(f"{path}\0{len(data)}\0".encode() + data)
    return Package(f"_ray_pkg_{digest.hexdigest()[:32]}.zip", buffer.getvalue())


def code_package() -> Package:
    """Zip the running distilray, whether it comes from a checkout, an editable install or a wheel."""
    facade = Path(distilray.__file__).parent
    files = {f"distilray/{path.name}": path.read_bytes() for path in facade.glob("*.py")}
    for folder in _FOLDERS:
        root = _folder(folder)
        for path in _files(root):
            files[f"distilray/{folder}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return make_package(files)


def _folder(name: str) -> Path:
    """Return the folder of a package without importing it. Raises SubmitError if it is not installed as files."""
    spec = find_spec(f"distilray.{name}")
    if spec is None or not spec.submodule_search_locations:
        raise SubmitError(
            f"distilray.{name} is not installed as files here, so its code cannot be sent to a cluster; "
            "submit from a checkout or an installed wheel"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _files(root: Path) -> Iterator[Path]:
    """Yield the files of the package below `root`, without hidden ones."""
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.parts[len(root.parts) :])
        if path.suffix in _SUFFIXES and path.is_file() and not hidden:
            yield path
