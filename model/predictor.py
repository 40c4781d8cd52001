"""From the windows of a corpus to logits: sort, pack to a token budget, one forward pass a pack."""

import numpy as np
import numpy.typing as npt
import torch

from distilray.model.attention import AttentionName, choose_attention
from distilray.model.checkpoint import Checkpoint
from distilray.model.device import DtypeName, choose_device, choose_dtype
from distilray.model.packed import Ints, budget_slices, make_pack, offsets_of, ragged_ranges
from distilray.model.weights import load_model

SPECIAL_TOKENS = 2  # [CLS] and [SEP] around every window
# tokens a pass: enough to keep the device busy, few enough for its memory; measured, see docs/performance.md
_TOKENS_PER_PACK = {"cpu": 8192, "cuda": 65536}


class Predictor:
    """A loaded model on its device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        cls_id: int,
        sep_id: int,
        dtype: DtypeName = "auto",
        attention: AttentionName = "auto",
        tokens_per_pack: int | None = None,
    ) -> None:
        """Raises CheckpointError for a checkpoint, BackendError for a backend, that cannot be had."""
        self.device = choose_device()
        torch_dtype = choose_dtype(dtype, self.device)
        chosen = choose_attention(attention, self.device, torch_dtype, checkpoint.config.head_dim)
        self.model = load_model(checkpoint, chosen, torch_dtype).to(self.device)
        self.n_labels = len(checkpoint.config.labels)
        self.cls_id, self.sep_id = cls_id, sep_id
        self.tokens_per_pack = tokens_per_pack or _TOKENS_PER_PACK[self.device.type]
        device_name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        precision = str(torch_dtype).removeprefix("torch.")
        self.backend = f"{device_name}, {precision}, {chosen.name} ({chosen.reason})"  # for logs and the manifest
        self.computed_tokens = 0  # counted where the model runs, so that padding could not hide

    @torch.inference_mode()
    def __call__(self, input_ids: Ints, first: Ints, lengths: Ints) -> npt.NDArray[np.float32]:
        """Logits [sum(lengths), labels] of W windows' tokens, laid end to end in the windows' order.

        input_ids: [N], without special tokens; first, lengths: [W], where each window lies in input_ids. Raises
        FloatingPointError for logits that are not finite.
        """
        order = np.argsort(lengths, kind="stable")
        lengths_sorted = lengths[order]
        packed = lengths_sorted + SPECIAL_TOKENS
        cu = offsets_of(packed)
        inner = ragged_ranges(cu[:-1] + 1, lengths_sorted)
        ids = np.empty(cu[-1], dtype=np.int64)
        ids[cu[:-1]] = self.cls_id
        ids[cu[1:] - 1] = self.sep_id
        ids[inner] = input_ids[ragged_ranges(first[order], lengths_sorted)]

        parts = [
            self._forward(ids[cu[s.start] : cu[s.stop]], packed[s]) for s in budget_slices(packed, self.tokens_per_pack)
        ]
        logits = np.empty((int(lengths.sum()), self.n_labels), dtype=np.float32)
        if parts:
            logits[ragged_ranges(offsets_of(lengths)[:-1][order], lengths_sorted)] = np.concatenate(parts)[inner]
        return logits

    def _forward(self, ids: Ints, lengths: Ints) -> npt.NDArray[np.float32]:
        pack = make_pack(ids, lengths).to(self.device)
        self.computed_tokens += pack.input_ids.numel()
        logits: npt.NDArray[np.float32] = self.model(pack).float().cpu().numpy()
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"NaN or infinite logits on {self.backend}; try dtype bfloat16 or float32")
        return logits
