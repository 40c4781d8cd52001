"""From logits to answers, one module a task; numpy only, vectorised over ragged offsets."""
