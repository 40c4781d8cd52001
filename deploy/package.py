"""Files as one zip that Ray unpacks on every node, named by the hash of what is in it: a name never means older code."""

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
_KINDS = (".py", ".j2", ".css")  # and nothing that happens to lie there, such as weights or keys
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first day of a zip: when a file was written changes nothing


@dataclass(frozen=True)
class Package:
    """A zip, and its name: letters and digits that only these files have."""

    name: str
    data: bytes = field(repr=False)

    @property
    def uri(self) -> str:
        return f"gcs://{self.name}"


def packed(files: Mapping[str, bytes]) -> Package:
    """Files by their path."""
    buffer, digest = io.BytesIO(), hashlib.sha256()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted(files.items()):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
            digest.update(f"{path}\0{len(data)}\0".encode() + data)
    return Package(f"_ray_pkg_{digest.hexdigest()[:32]}.zip", buffer.getvalue())


def own_code() -> Package:
    """The distilray that runs, from wherever it was imported: a checkout, an editable install or a wheel."""
    facade = Path(distilray.__file__).parent
    files = {f"distilray/{path.name}": path.read_bytes() for path in facade.glob("*.py")}
    for folder in _FOLDERS:
        root = _folder(folder)
        for path in _files(root):
            files[f"distilray/{folder}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return packed(files)


def _folder(name: str) -> Path:
    """Where a package lies; it is not imported."""
    spec = find_spec(f"distilray.{name}")
    if spec is None or not spec.submodule_search_locations:
        raise SubmitError(f"distilray.{name} is not installed here as files: what a cluster lacks cannot be sent to it")
    return Path(next(iter(spec.submodule_search_locations)))


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.parts[len(root.parts) :])
        if path.suffix in _KINDS and path.is_file() and not hidden:
            yield path
