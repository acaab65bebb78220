"""`holdfast table sarft|mpo`: the papers' tables on any model, as a grid of trainings and evaluations that resumes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from holdfast.data.pair_formats import load_parallel_pairs
from holdfast.data.roles import find_role, load_roles
from holdfast.errors import HoldfastError
from holdfast.evals.benchmarks import BenchmarkOptions, find_benchmark
from holdfast.files import check_output_directory
from holdfast.methods.registry import LANGUAGE_METHODS, ROLE_METHODS
from holdfast.recipes.configs import MPOConfig, SaRFTConfig
from holdfast.recipes.table.cells import Cell
from holdfast.recipes.table.evaluation import Evaluating
from holdfast.recipes.table.figures import language_figures, role_figures
from holdfast.recipes.table.grid import Outcome
from holdfast.recipes.table.options import (
    LanguageTableOptions,
    RoleTableOptions,
    TableOptions,
    chosen_methods,
    chosen_seeds,
    required,
    words_of,
)
from holdfast.recipes.table.output import failures, run_cells, write_tables
from holdfast.recipes.table.plan import ALL, RolePlan, language_cells
from holdfast.recipes.table.training import INPUTS, base_values, require_inputs
from holdfast.recipes.terminal import count, note
from holdfast.report.paper_table import Lines, language_tables, role_tables


def table_sarft(options: RoleTableOptions) -> bool:
    """Train and evaluate what is not there yet, print and write the table; whether every cell worked.

    Everything that can be wrong in what was asked is told before anything is trained.
    """
    check_output_directory(options.output_dir)
    plan = _role_plan(options)
    cells = plan.cells()
    plan.evaluating.check(plan.role_names)
    roles = count(len(plan.role_names), "role")
    note(
        f"{count(len(cells), 'cell')}: {count(len(plan.methods), 'method')}, {roles}, seeds {_listed(plan.seeds)}"
    )
    outcomes = run_cells(options.output_dir, cells, launch=words_of(options.launch, "--launch"), jobs=options.jobs)
    figures = role_figures(_measured(outcomes, plan.methods), _over_refusal_only([plan.evaluating]))
    lines = Lines(
        {name: method.title for name, method in plan.methods.items()}, plan.role_names, failures(outcomes)
    )
    about = _about(plan.base, plan.evaluating, plan.seeds)
    write_tables(options.output_dir, "SaRFT's table", about, figures, role_tables(figures, lines), outcomes)
    return not lines.failed


def table_mpo(options: LanguageTableOptions) -> bool:
    """As `table_sarft`: every method on the same pairs, measured language by language."""
    check_output_directory(options.output_dir)
    methods = chosen_methods(options.methods, LANGUAGE_METHODS)
    if options.proving_ground:
        from holdfast.recipes.table.proving_ground import language_grid

        base, evaluating, dominant = language_grid(options)
    else:
        base, evaluating, dominant = _language_grid(options)
    seeds = chosen_seeds(options.seeds, base.get("seed", MPOConfig.model_fields["seed"].default))
    cells = language_cells(options.output_dir, methods, seeds, base, evaluating)
    for one in evaluating:
        one.check([None])
    note(f"{count(len(cells), 'cell')}: {count(len(methods), 'method')}, seeds {_listed(seeds)}")
    outcomes = run_cells(options.output_dir, cells, launch=words_of(options.launch, "--launch"), jobs=options.jobs)
    figures = language_figures(_measured(outcomes, methods), dominant, _over_refusal_only(evaluating))
    lines = Lines({name: method.title for name, method in methods.items()}, [ALL], failures(outcomes))
    tables = language_tables(figures, lines, dominant)
    write_tables(options.output_dir, "MPO's table", _about(base, evaluating[0], seeds), figures, tables, outcomes)
    return not lines.failed


# -- what was asked


def _role_plan(options: RoleTableOptions) -> RolePlan:
    methods = chosen_methods(options.methods, ROLE_METHODS)
    if options.proving_ground:
        from holdfast.recipes.table.proving_ground import role_plan

        return role_plan(options, methods)
    given = {"model": options.model, "data": options.data, "role": options.roles and str(options.roles)}
    base = base_values(SaRFTConfig, options.config, {**given, **{name: getattr(options, name) for name in INPUTS}})
    required(base.get("model"), "--model")
    required(base.get("data"), "--data")
    roles = Path(required(base.get("role"), "--roles"))
    inputs = {name: base[name] for name in INPUTS if base.get(name)}
    require_inputs(methods, inputs)
    return RolePlan(
        directory=options.output_dir,
        methods=methods,
        role_names=_role_names(roles, options.role_names or tuple(filter(None, [base.get("role_name")]))),
        seeds=chosen_seeds(options.seeds, base.get("seed", SaRFTConfig.model_fields["seed"].default)),
        base=base,
        inputs=inputs,
        evaluating=_evaluating(options, options.benchmarks),
    )


def _role_names(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The roles as their file spells them; without names the only one."""
    roles = load_roles(path)
    if not names and len(roles) > 1:
        raise HoldfastError(f"{path}: holds {len(roles)} roles; name some by commas (--role-names)")
    return tuple(dict.fromkeys(find_role(roles, name, path).name for name in names or roles))


def _language_grid(options: LanguageTableOptions) -> tuple[dict[str, Any], list[Evaluating], str]:
    """The base config, how to evaluate, and the dominant language."""
    base = base_values(
        MPOConfig,
        options.config,
        {
            "model": options.model,
            "data": options.data,
            "target_languages": list(options.languages) or None,
            "dominant_language": options.dominant_language,
        },
    )
    required(base.get("model"), "--model")
    pairs = load_parallel_pairs(
        required(base.get("data"), "--data"),
        dominant=base.get("dominant_language", "en"),
        split=base.get("data_split", "train"),
        languages=base.get("target_languages") or None,
        drop=bool(base.get("drop_flagged_pairs", False)),
    )
    return base, _evaluations(options, pairs.languages), pairs.languages[0]


def _evaluations(options: LanguageTableOptions, languages: Sequence[str]) -> list[Evaluating]:
    """One evaluation for each set of languages that benchmarks have: `holdfast eval` asks all in the same ones."""
    together: dict[tuple[str, ...], list[str]] = {}
    for spec in options.benchmarks:
        together.setdefault(_spoken(options, spec, languages), []).append(spec)
    found = [_evaluating(options, tuple(benchmarks), spoken) for spoken, benchmarks in together.items()]
    found = found or [_evaluating(options, ())]
    first = replace(found[0], utility=options.utility)
    return [first, *(replace(one, place=f"eval_{number}") for number, one in enumerate(found[1:], start=2))]


def _spoken(options: LanguageTableOptions, spec: str, languages: Sequence[str]) -> tuple[str, ...]:
    """Those of the languages that a benchmark has; none where it does not ask by language."""
    benchmark = find_benchmark(spec)
    if len(benchmark.languages) == 1:
        return ()
    there = {prompt.language for prompt in benchmark.load(BenchmarkOptions(data=options.data_dir))} - {None}
    lacking = [language for language in languages if language not in there]
    if there and lacking:
        note(f"{benchmark.name}: has no prompts in {', '.join(lacking)}")
    if there and len(lacking) == len(languages):
        raise HoldfastError(f"{benchmark.name}: has no prompts in any of {', '.join(languages)}; leave it out")
    return tuple(language for language in languages if language in there)


def _evaluating(
    options: TableOptions,
    benchmarks: tuple[str, ...],
    languages: tuple[str, ...] = (),
) -> Evaluating:
    return Evaluating(
        benchmarks=benchmarks,
        judge=options.judge or "keyword",
        data_dir=options.data_dir,
        wrappers=options.wrappers,
        languages=languages,
        limit=options.limit,
        max_new_tokens=options.max_new_tokens,
        more=words_of(options.eval_arguments, "--eval-arguments"),
    )


# -- what came of it


def _over_refusal_only(evaluating: Iterable[Evaluating]) -> list[str]:
    """The benchmarks that measure over-refusal, whose harmful prompts are contrasts."""
    found = [find_benchmark(spec) for one in evaluating for spec in one.benchmarks]
    return [benchmark.name for benchmark in found if benchmark.metric == "over_refusal"]


def _measured(outcomes: dict[str, Outcome], methods: Iterable[str]) -> list[Cell]:
    """The cells that stand in the table and worked, in the methods' order."""
    finished = [outcome.cell for outcome in outcomes.values() if outcome.state == "finished"]
    return [cell for method in methods for cell in finished if cell.method == method and cell.evaluations]


def _about(base: Mapping[str, Any], evaluating: Evaluating, seeds: Sequence[int]) -> str:
    tuning = base.get("tuning", "lora")
    return f"Model {base['model']}, tuning {tuning}, seeds {_listed(seeds)}; judge {evaluating.judge}."


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
