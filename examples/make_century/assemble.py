"""Assembly of the whole checkpoint from the encoder of the NER model and the committed head."""

import tempfile
from pathlib import Path

from safetensors.numpy import load_file, save

MODELS = Path(__file__).resolve().parent.parent / "models"
NER, CENTURY = MODELS / "ner", MODELS / "century"


def assemble() -> Path:
    """Write model.safetensors into models/century if it is missing or differs, and return the folder.

    Every encoder tensor equals the NER model's, bit for bit. A rename makes the whole file visible at once.
    """
    encoder = load_file(NER / "model.safetensors")
    tensors = {name: value for name, value in encoder.items() if name.startswith("distilbert.")}
    tensors |= load_file(CENTURY / "head.safetensors")
    checkpoint = save(tensors, metadata={"format": "pt"})
    path = CENTURY / "model.safetensors"
    if not path.exists() or path.read_bytes() != checkpoint:
        with tempfile.NamedTemporaryFile(dir=CENTURY, suffix=".part", delete=False) as part:
            part.write(checkpoint)
        Path(part.name).chmod(0o644)  # temporary files are readable for their owner only
        Path(part.name).replace(path)
    return CENTURY
