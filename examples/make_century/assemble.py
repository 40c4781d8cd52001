"""The whole checkpoint from the encoder of the NER model and the committed head."""

import tempfile
from pathlib import Path

from safetensors.numpy import load_file, save

MODELS = Path(__file__).resolve().parent.parent / "models"
NER, CENTURY = MODELS / "ner", MODELS / "century"


def assemble() -> Path:
    """Write model.safetensors into models/century, unless it is there already; the folder.

    Every encoder tensor is the NER model's, bit for bit. The file appears at once and whole.
    """
    encoder = load_file(NER / "model.safetensors")
    tensors = {name: value for name, value in encoder.items() if name.startswith("distilbert.")}
    tensors |= load_file(CENTURY / "head.safetensors")
    whole = save(tensors, metadata={"format": "pt"})
    path = CENTURY / "model.safetensors"
    if not path.exists() or path.read_bytes() != whole:
        with tempfile.NamedTemporaryFile(dir=CENTURY, suffix=".part", delete=False) as part:
            part.write(whole)
        Path(part.name).chmod(0o644)  # not only for its owner, as temporary files are
        Path(part.name).replace(path)
    return CENTURY
