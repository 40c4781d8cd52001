"""Tables of plans, evaluations, verdicts, retries and checkpoints for a terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from distilray.pipeline.commands.verify import Verdict
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.forecast import Forecast
from distilray.pipeline.terminal.text import plain_text

if TYPE_CHECKING:  # commands that only show results must not import torch
    from distilray.model.inspect import CheckpointReport
    from distilray.pipeline.commands.dry_run import DryRun
    from distilray.pipeline.commands.retry import Retried


def plan_table(job: Job, dry_run: "DryRun") -> Table:
    """Return the table of a dry run."""
    plan, forecast, throughput = dry_run.plan, dry_run.plan.forecast, dry_run.pace
    table = _table()
    dead = f", {plan.dead_shards:,} of them unreadable" if plan.dead_shards else ""
    table.add_row("shards", f"{plan.shards:,}{dead}")
    table.add_row("rows", f"{plan.rows:,}")
    table.add_row("units", f"{len(plan.units):,}")
    table.add_row("bytes", f"{plan.bytes:,}, {plan.text_bytes:,} of text uncompressed")
    table.add_row("passes", "; ".join(" + ".join(names) for names in dry_run.passes))
    if forecast is None:
        return table
    totals = forecast.description(job.compute.price)
    table.add_row("tokens", f"about {forecast.tokens:,}, from a sample of {forecast.sampled_rows:,} rows")
    table.add_row("computed", f"about {forecast.computed_tokens:,} tokens, including windows and their [CLS] and [SEP]")
    saved = forecast.padded_tokens - forecast.computed_tokens
    table.add_row(
        "padding",
        f"{saved:,} tokens avoided: batches of 32 would compute {forecast.padded_tokens:,}{_padding_factor(forecast)}",
    )
    if throughput:
        source = "measured now" if throughput.measured else "cached from an earlier measurement"
        rate = f"{throughput.tokens_per_second:,.0f} tokens/s per device with {throughput.tokens_per_pack:,} tokens per pack"
        table.add_row("rate", f"{rate}, {source}{_slower_warning(plan.tokens_per_pack, throughput.tokens_per_pack)}")
        table.add_row(
            "device-hours", f"{totals['device_hours']:,.3g}; {totals['hours']:,.3g} hours on {forecast.devices} devices"
        )
        table.add_row("cost", f"{totals['cost']:,.2f}" if totals["cost"] is not None else "unknown: set compute.price")
    return table


def _slower_warning(given: int | None, measured: int) -> str:
    """Return a warning if the job sets another `tokens_per_pack` than the fastest one, else an empty text."""
    return f"; the job sets {given:,}, which may be slower" if given and given != measured else ""


def _padding_factor(forecast: Forecast) -> str:
    return (
        f", {forecast.padded_tokens / forecast.computed_tokens:.2f} times as many" if forecast.computed_tokens else ""
    )


def evaluation_table(name: str, figures: Mapping[str, Any]) -> Table:
    """Return the table of a task's metrics: single values first, then a line for each average and each label."""
    lines = {key: value for key, value in figures.items() if isinstance(value, Mapping) and _is_flat(value)}
    by_label = figures.get("labels", {})
    lines.pop("labels", None)
    table = _table(name)
    for key, value in figures.items():
        if not isinstance(value, Mapping):
            table.add_row(key, _format(value))
    for key, value in {**lines, **by_label}.items():
        if isinstance(value, Mapping):
            table.add_row(
                plain_text(key), plain_text(", ".join(f"{part} {_format(number)}" for part, number in value.items()))
            )
    return table


def verdict_table(verdict: Verdict) -> Table:
    """Return the table of a verdict."""
    table = _table()
    scope = "all columns and checksums" if verdict.checksums else "only the columns shard and row"
    table.add_row("units", f"{verdict.units:,} planned, of {verdict.planned:,} rows")
    table.add_row("rows", f"{verdict.rows:,} answered, {verdict.dead_letters:,} dead letters")
    table.add_row("read", f"{verdict.bytes:,} bytes; {scope}")
    more = [f"and {verdict.more:,} more"] if verdict.more else []
    table.add_row("problems", plain_text("\n".join([*verdict.problems, *more]) or "none"))
    return table


def retried_table(retried: "Retried") -> Table:
    """Return the table of a retry: dead letters by reason, before and after."""
    table = _table("dead letters")
    for reason in sorted({*retried.before, *retried.after}):
        table.add_row(
            plain_text(reason), f"{retried.before.get(reason, 0):,} before, {retried.after.get(reason, 0):,} now"
        )
    table.add_row("retried", f"{retried.tried:,} rows of {retried.units:,} units, {retried.answered:,} answered now")
    if retried.shards:
        table.add_row("not retried", f"{retried.shards:,} whole shards: fix them and run them with a sink of their own")
    return table


def model_table(checkpoint: "CheckpointReport") -> Table:
    """Return the table of a checkpoint's properties and problems."""
    table = _table()
    table.add_row("model", plain_text(checkpoint.uri))
    if config := checkpoint.config:
        size = f"{config.n_layers} layers, dim {config.dim}, {config.n_heads} heads, hidden_dim {config.hidden_dim}"
        table.add_row(
            "encoder", f"{size}, {config.max_position_embeddings} positions, vocabulary {config.vocab_size:,}"
        )
        table.add_row("labels", plain_text(f"{len(config.labels)}: {', '.join(config.labels[:20])}"))
        table.add_row(
            "problem type", f"{config.problem}{'' if config.problem_type else ' (missing in config.json, so assumed)'}"
        )
    if weights := checkpoint.weights:
        shards = f" in {weights.shards} shards" if weights.shards else ""
        size = f"{weights.parameters:,} parameters, {weights.size:,} bytes, {', '.join(weights.dtypes)}"
        table.add_row("weights", f"{weights.file} ({weights.format}{shards}): {size}")
        named = checkpoint.config.architecture if checkpoint.config else None
        table.add_row(
            "head", plain_text(f"{weights.architecture or 'none known'}; config.json names {named or 'none'}")
        )
    if tokenizer := checkpoint.tokenizer:
        case = {True: "lower-cased", False: "cased", None: "case as in tokenizer.json"}[tokenizer.lower_case]
        kind = tokenizer.tokenizer_class or "class unknown"
        size = f"{tokenizer.vocab_size:,} tokens, {tokenizer.max_length} at most"
        table.add_row("tokenizer", plain_text(f"{kind}, {case}, {size}"))
    table.add_row("problems", plain_text("\n".join(checkpoint.problems) or "none"))
    return table


def _table(title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")  # wraps a long path instead of cutting it
    return table


def _is_flat(value: Mapping[str, Any]) -> bool:
    return not any(isinstance(part, Mapping) for part in value.values())


def _format(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
