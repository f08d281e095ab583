"""The commands `evalkit judge ...`: what judges there are, judging what a ledger holds, their record, weak spots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evalkit.commands import calibrate, look, options, printing, probe
from evalkit.commands.store import opened
from evalkit.errors import UserError

if TYPE_CHECKING:
    from evalkit.judge_run import Judged
    from evalkit.plan import JudgePlan
    from evalkit.report.judges import JudgeRow
    from evalkit.store import Ledger

judge_app = typer.Typer(help="LLM judges: what there is, judging, their record, weak spots.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the group to `evalkit`, with the commands of its other modules."""
    judge_app.command("list")(list_judges)
    judge_app.command("run")(run_judge)
    calibrate.register(judge_app)
    probe.register(judge_app)
    app.add_typer(judge_app, name="judge")


def list_judges(json: look.Json = False) -> None:
    """List the prompts that judges can be given, with their protocol, and the criteria that they can judge by."""
    from judges.criteria import criterion_sets
    from judges.prompt import list_prompts

    prompts = [
        {
            "name": prompt.name,
            "kind": prompt.kind,
            "orders": prompt.orders if prompt.kind == "pairwise" else None,
            "criteria": ", ".join(criterion.name for criterion in prompt.criteria),
            "together": prompt.together,
            "answer": prompt.answer.form,
            "protocol": " ".join(prompt.protocol.split()),
            "source": " ".join(prompt.source.split()),
        }
        for prompt in list_prompts()
    ]
    criteria = [
        {"name": criterion.name, "set": name, "description": " ".join(criterion.description.split())}
        for name, found in criterion_sets().items()
        for criterion in found
    ]
    if json:
        printing.print_json({"prompts": prompts, "criteria": criteria})
        return
    columns = {"name": "prompt", "kind": "kind", "answer": "answer", "criteria": "criteria", "protocol": "protocol"}
    printing.print_table(prompts, columns, title="Prompts")
    printing.print_table(criteria, {"name": "criterion", "set": "set", "description": "description"}, title="Criteria")
    printing.say("Your own: a YAML file of the same form, given by its path (docs/prompts.md).")


def run_judge(
    model: Annotated[str | None, typer.Option("--model", "-m", help="The judge's model, PROVIDER/NAME.")] = None,
    verifier: Annotated[
        bool, typer.Option("--verifier", help="Instead of a model, the checks that the prompts bring along.")
    ] = False,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="By name (evalkit judge list), or path; default pairwise-v1.")
    ] = None,
    criteria: Annotated[
        list[str] | None, typer.Option("--criteria", "-c", help="Names or paths, with commas; default the prompt's.")
    ] = None,
    orders: Annotated[
        Literal["both", "random"] | None, typer.Option(help="Each battle twice or once; default the prompt's.")
    ] = None,
    replicates: Annotated[int | None, typer.Option(min=1, help="How often each question is asked; default 1.")] = None,
    battles: Annotated[int | None, typer.Option(min=1, help="So many battles, drawn with the seed.")] = None,
    answers: Annotated[int | None, typer.Option(min=1, help="So many answers, for a prompt that grades.")] = None,
    name: options.Name = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only what is on this dataset; several times.")] = None,
    voted: Annotated[bool, typer.Option("--voted", help="Only battles that a human has voted on.")] = False,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    max_concurrency: options.MaxConcurrency = None,
    batch: options.Batch = False,
    dollars: options.Dollars = None,
    prices: options.Prices = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of every draw.")] = 0,
    store: look.Store = look.STORE,
    dry_run: options.DryRun = False,
    json: look.Json = False,
) -> None:
    """Judge battles, or grade answers, that are in a ledger already; a second run asks only for what is missing."""
    if (model is None) == (not verifier):
        raise UserError("give either --model PROVIDER/NAME or --verifier", code=2)
    from evalkit import judge_run

    given = {
        "model": model, "base_url": base_url, "api_key_env": api_key_env, "max_concurrency": max_concurrency,
        "batch": batch or None,
    }  # fmt: skip
    plan = options.judge_plan(
        name=name,
        prompt=prompt,
        criteria=criteria or (),
        model=given if model else None,
        orders=orders,
        replicates=replicates,
        battles=battles,
        answers=answers,
    )
    chosen = judge_run.Chosen(tuple(dataset or ()), voted, seed)
    with opened(store) as ledger:
        if dry_run:
            look.print_estimates(judge_run.count(ledger, plan, chosen, prices), json)
            return
        from evalkit.engine.progress import RichProgress

        done = judge_run.run(ledger, plan, chosen, dollars=dollars, prices=prices, progress=RichProgress())
        _print_judged(ledger, plan, done, json)
    raise typer.Exit(1 if done.errors or done.not_sent else 0)


def _print_judged(ledger: Ledger, plan: JudgePlan, done: Judged, json: bool) -> None:
    from evalkit.report.grades import grade_means
    from evalkit.report.judges import judge_by_criterion
    from evalkit.store import frames

    verdicts = judge_by_criterion(ledger, plan.name) if done.battles else {}
    grades = grade_means(ledger, judges=[plan.name]) if done.answers else ()
    cells = frames.run_cells(ledger, done.run_id)
    sums = {k: int(cells[k].sum()) for k in ("n", "errors", "cached", "unpriced", "prompt_tokens", "completion_tokens")}
    cost = float(cells["cost"].sum())
    if json:
        printing.print_json(
            {"run": done, "judge": plan.name, "verdicts": verdicts, "grades": grades, "totals": sums | {"cost": cost}}
        )
        return
    if verdicts:
        _print_verdicts(verdicts)
    look.print_grades(grades)
    if done.without_texts:
        printing.say(f"{done.without_texts} battles were left out: the ledger has not both answers.")
    printing.say(
        f"Run {done.run_id}: {sums['n']} requests, {sums['cached']} of them answered by the ledger, {sums['errors']} "
        f"failed; {sums['prompt_tokens']} tokens in, {sums['completion_tokens']} out, "
        f"{look.in_dollars(cost, sums['unpriced'])}."
    )
    if done.errors:
        for kind, n, example in look.error_kinds(ledger, done.run_id):
            printing.say(f"  {n} x {kind}: {example}")
        printing.say("Run the same command again to retry what failed.")
    if done.not_sent:
        printing.say(f"{done.not_sent} requests were not sent: the dollar budget is used up.")
    if verdicts:
        printing.say(f"Its board: evalkit leaderboard --judge {plan.name!r}; its record: evalkit judge calibrate")


def _print_verdicts(found: Mapping[str, JudgeRow]) -> None:
    rows = []
    for criterion, row in found.items():
        same, first = row.consistency, row.first_slot
        rows.append(
            {"criterion": criterion, "n": row.n, "errors": row.errors, "same": same.value, "same_n": same.n,
             "lower": same.lower, "upper": same.upper, "first": first.value, "first_n": first.n}
        )  # fmt: skip
    columns = {
        "criterion": "criterion", "n": "verdicts", "errors": "errors", "same": "same when swapped:.0%",
        "lower": "from:.0%", "upper": "to:.0%", "same_n": "of battles", "first": "first answer wins:.0%",
        "first_n": "of verdicts",
    }  # fmt: skip
    printing.print_table(rows, columns, title="Verdicts, earlier ones included")
    for criterion, row in found.items():
        printing.say(f"{criterion}: {row.sentence}")
