"""Plans, evaluations and checkpoints as tables for a person."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from distilray.pipeline.commands.verify import Verdict
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.forecast import Forecast
from distilray.pipeline.terminal.text import plainly

if TYPE_CHECKING:  # commands that only show results import no torch
    from distilray.model.inspect import CheckpointReport
    from distilray.pipeline.commands.dry_run import DryRun
    from distilray.pipeline.commands.retry import Retried


def plan_table(job: Job, outlook: "DryRun") -> Table:
    """What `look_ahead` found."""
    plan, ahead, pace = outlook.plan, outlook.plan.forecast, outlook.pace
    table = _plain()
    dead = f", {plan.dead_shards:,} of them unreadable" if plan.dead_shards else ""
    table.add_row("shards", f"{plan.shards:,}{dead}")
    table.add_row("rows", f"{plan.rows:,}")
    table.add_row("units", f"{len(plan.units):,}")
    table.add_row("bytes", f"{plan.bytes:,}, {plan.text_bytes:,} of text uncompressed")
    table.add_row("passes", "; ".join(" + ".join(names) for names in outlook.passes))
    if ahead is None:
        return table
    said = ahead.description(job.compute.price)
    table.add_row("tokens", f"about {ahead.tokens:,}, from a sample of {ahead.sampled_rows:,} rows")
    table.add_row("computed", f"about {ahead.computed_tokens:,} tokens, windows, their [CLS] and [SEP] included")
    saved = ahead.padded_tokens - ahead.computed_tokens
    table.add_row(
        "padding", f"{saved:,} tokens avoided: batches of 32 would compute {ahead.padded_tokens:,}{_times(ahead)}"
    )
    if pace:
        how = "measured now" if pace.measured else "remembered from an earlier measurement"
        rate = f"{pace.tokens_per_second:,.0f} tokens/s a device with {pace.tokens_per_pack:,} tokens a pack"
        table.add_row("rate", f"{rate}, {how}{_another(plan.tokens_per_pack, pace.tokens_per_pack)}")
        table.add_row(
            "device-hours", f"{said['device_hours']:,.3g}; {said['hours']:,.3g} hours on {ahead.devices} devices"
        )
        table.add_row("cost", f"{said['cost']:,.2f}" if said["cost"] is not None else "unknown: set compute.price")
    return table


def _another(given: int | None, measured: int) -> str:
    """A warning if the job has a budget of its own."""
    return f"; the job asks for {given:,}, which may be slower" if given and given != measured else ""


def _times(ahead: Forecast) -> str:
    return f", {ahead.padded_tokens / ahead.computed_tokens:.2f} times as many" if ahead.computed_tokens else ""


def evaluation_table(name: str, figures: Mapping[str, Any]) -> Table:
    """A task's figures: single ones first, then those of averages and labels, a line each."""
    lines = {key: value for key, value in figures.items() if isinstance(value, Mapping) and _is_flat(value)}
    by_label = figures.get("labels", {})
    lines.pop("labels", None)
    table = _plain(name)
    for key, value in figures.items():
        if not isinstance(value, Mapping):
            table.add_row(key, _shown(value))
    for key, value in {**lines, **by_label}.items():
        if isinstance(value, Mapping):
            table.add_row(plainly(key), plainly(", ".join(f"{part} {_shown(of)}" for part, of in value.items())))
    return table


def verdict_table(verdict: Verdict) -> Table:
    """What `verify` found."""
    table = _plain()
    read = "all columns, their checksums" if verdict.checksums else "addresses only"
    table.add_row("units", f"{verdict.units:,} planned, of {verdict.planned:,} rows")
    table.add_row("rows", f"{verdict.rows:,} answered, {verdict.dead_letters:,} dead letters")
    table.add_row("read", f"{verdict.bytes:,} bytes; {read}")
    more = [f"and {verdict.more:,} more"] if verdict.more else []
    table.add_row("problems", plainly("\n".join([*verdict.problems, *more]) or "none"))
    return table


def retried_table(retried: "Retried") -> Table:
    """Dead letters by reason, before and after."""
    table = _plain("dead letters")
    for reason in sorted({*retried.before, *retried.after}):
        table.add_row(
            plainly(reason), f"{retried.before.get(reason, 0):,} before, {retried.after.get(reason, 0):,} now"
        )
    table.add_row(
        "tried again", f"{retried.tried:,} rows of {retried.units:,} units, {retried.answered:,} answered now"
    )
    if retried.shards:
        table.add_row("not tried", f"{retried.shards:,} whole shards: give them, once mended, a sink of their own")
    return table


def model_table(report: "CheckpointReport") -> Table:
    """What a checkpoint is."""
    table = _plain()
    table.add_row("model", plainly(report.uri))
    if config := report.config:
        size = f"{config.n_layers} layers, dim {config.dim}, {config.n_heads} heads, hidden_dim {config.hidden_dim}"
        table.add_row(
            "encoder", f"{size}, {config.max_position_embeddings} positions, vocabulary {config.vocab_size:,}"
        )
        table.add_row("labels", plainly(f"{len(config.labels)}: {', '.join(config.labels[:20])}"))
        table.add_row("problem type", f"{config.problem}{'' if config.problem_type else ' (not written, so assumed)'}")
    if weights := report.weights:
        shards = f" in {weights.shards} shards" if weights.shards else ""
        size = f"{weights.parameters:,} parameters, {weights.size:,} bytes, {', '.join(weights.dtypes)}"
        table.add_row("weights", f"{weights.file} ({weights.format}{shards}): {size}")
        said = report.config.architecture if report.config else None
        table.add_row("head", plainly(f"{weights.architecture or 'none known'}; config.json says {said or 'nothing'}"))
    if tokenizer := report.tokenizer:
        case = {True: "lower-cased", False: "cased", None: "as tokenizer.json says"}[tokenizer.lower_case]
        kind = tokenizer.tokenizer_class or "no class named"
        held = f"{tokenizer.vocab_size:,} tokens, {tokenizer.max_length} at most"
        table.add_row("tokenizer", plainly(f"{kind}, {case}, {held}"))
    table.add_row("problems", plainly("\n".join(report.problems) or "none"))
    return table


def _plain(title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")  # a path that does not fit is not cut
    return table


def _is_flat(value: Mapping[str, Any]) -> bool:
    return not any(isinstance(part, Mapping) for part in value.values())


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
