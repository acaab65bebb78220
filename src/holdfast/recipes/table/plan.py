"""Which cells a grid has: for SaRFT methods x roles x seeds, for MPO methods x seeds, with what they need."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.data.formats import load_role_rows
from holdfast.data.roles import find_role, load_roles
from holdfast.data.rows import RoleRows, rows_fingerprint
from holdfast.errors import HoldfastError
from holdfast.escaping import directory_name
from holdfast.methods.registry import TableMethod
from holdfast.recipes.configs import SaRFTConfig
from holdfast.recipes.table.cells import Cell, Evaluation, Training, digests
from holdfast.recipes.table.evaluation import ROLE, Evaluating, model_spec
from holdfast.recipes.table.training import INPUTS, language_kind, shared_values, training

ALL = "all"  # the group of a cell that is for no single role
_PLAIN = {"selector": "none"}  # fine-tuning and nothing else: what defences are tried on


@dataclass(frozen=True)
class RoleData:
    """A role as the grid uses it: `rows` is its training data, `files` the digests of role and rows."""

    name: str
    rows: str
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RolePlan:
    """What the cells of SaRFT's table are made of.

    `base` are the fields of every config (model, data and role among them), `inputs` those that some methods need.
    `expert` changes the config of SafeDecoding's expert, `defences` are further arguments of `holdfast eval` under a
    defence. `make_unaligned` trains SafeLoRA's unaligned model on the unsafe data instead of reading it, which is for
    the proving ground alone.
    """

    directory: Path
    methods: Mapping[str, TableMethod]
    role_names: Sequence[str]
    seeds: Sequence[int]
    base: Mapping[str, Any]
    inputs: Mapping[str, Any]
    evaluating: Evaluating
    expert: Mapping[str, Any] = field(default_factory=dict)
    defences: Mapping[str, Sequence[str]] = field(default_factory=dict)
    make_unaligned: bool = False

    def cells(self) -> list[Cell]:
        """Every cell, after those it needs. Some of these stand in no table: an expert, a plain model for a defence."""
        cells: dict[str, Cell] = {}
        self._check_inputs()
        for role in self.roles():
            for seed in self.seeds:
                for method in self.methods.values():
                    for cell in self._cells_of(method, role, seed):
                        cells.setdefault(cell.name, cell)
        return list(cells.values())

    def _check_inputs(self) -> None:
        """Read what methods need besides the rows, before any of them is trained."""
        wanted = {need for method in self.methods.values() for need in method.needs}
        for name in ("safety_data", "unsafe_data"):
            if name in wanted or (name == "unsafe_data" and self.make_unaligned and "unaligned_model" in wanted):
                load_role_rows(self.inputs[name])

    def roles(self) -> list[RoleData]:
        """The roles with their rows; HoldfastError for a role without a prompt or without rows."""
        path = Path(self.base["role"])
        roles = load_roles(path)
        found = []
        for name in self.role_names:
            role = find_role(roles, name, path)
            rows, source = self._rows(role.name)
            texts = hashlib.sha256(f"{role.persona_prompt}\0{role.unsafe_prompt}".encode()).hexdigest()
            found.append(
                RoleData(role.name, source, {"data": rows_fingerprint(rows)[:16], "role's prompts": texts[:16]})
            )
        return found

    def _rows(self, role: str) -> tuple[RoleRows, str]:
        pattern = str(self.base["data"])
        source = pattern.replace(ROLE, role)
        rows = load_role_rows(
            source,
            split=self.base.get("data_split", "train"),
            drop_bad_rows=bool(self.base.get("drop_bad_rows", False)),
        )
        if any(row.role is not None for row in rows):
            return rows.with_role(role), source
        if len(self.role_names) > 1 and ROLE not in pattern:
            raise HoldfastError(
                f"{source}: has no field 'role' and {len(self.role_names)} roles are wanted; add it, or name a file a "
                f"role: --data 'rows/{ROLE}.jsonl'"
            )
        return rows, source

    def _cells_of(self, method: TableMethod, role: RoleData, seed: int) -> list[Cell]:
        """The cell of a method, after what only it needs."""
        if method.settings is not None:
            return self._trained_cells(method, role, seed)
        if method.defence is not None:
            return self._defended_cells(method, role, seed)
        model = model_spec(str(self.base["model"]))  # the same under every seed: it is not trained
        return [self._cell(method.name, role, self.seeds[0], None, model)]

    def _trained_cells(self, method: TableMethod, role: RoleData, seed: int) -> list[Cell]:
        inputs = {name: self.inputs[name] for name in INPUTS if name in method.needs and name in self.inputs}
        helpers = []
        if "unaligned_model" in method.needs and self.make_unaligned:
            helpers = [self._unaligned()]
            inputs["unaligned_model"] = str(helpers[0].model)
        values = dict(method.settings or {}) | inputs
        chosen = self._training(f"method {method.name}", values, role, seed)
        cell = self._cell(method.name, role, seed, chosen, None, [helper.name for helper in helpers])
        return [*helpers, cell]

    def _defended_cells(self, method: TableMethod, role: RoleData, seed: int) -> list[Cell]:
        """A defence on the plainly fine-tuned model, which may stand in the table itself."""
        [plain] = self._trained_cells(TableMethod("sft", "", "reference", _PLAIN), role, seed)
        helpers, arguments = [plain], ["--defence", str(method.defence)]
        if method.expert:
            helpers.append(self._expert(plain, role, seed))
            arguments += ["--defence-expert", str(helpers[-1].model)]
        arguments += self.defences.get(method.name, ())
        needs = [helper.name for helper in helpers]
        return [*helpers, self._cell(method.name, role, seed, None, str(plain.model), needs, arguments)]

    def _expert(self, plain: Cell, role: RoleData, seed: int) -> Cell:
        """SafeDecoding's expert: adapters trained on refusals, on the model that is defended.

        Where that is adapters itself, the expert's stand on the aligned model, and one serves all roles.
        """
        data = self.inputs["safety_data"]
        if self.base.get("tuning") != "full":
            return self._helper("expert", data, self.expert)
        # The learning rate of full tuning is not one for adapters.
        changes = {"tuning": "lora", "learning_rate": None, "model": str(plain.model), **self.expert}
        chosen = self._training("expert", {**_PLAIN, **changes}, RoleData(role.name, data, digests([data])), seed)
        place = _place(self.directory, role.name, "expert", seed)
        name = f"expert, {role.name}, seed {seed}"
        return Cell(name, "expert", role.name, seed, place, chosen, (), (plain.name,))

    def _unaligned(self) -> Cell:
        """The aligned model fine-tuned to answer everything: what stands for the model before its alignment."""
        return self._helper("unaligned", self.inputs["unsafe_data"], {"tuning": "full"})

    def _helper(self, name: str, data: str, changes: Mapping[str, Any]) -> Cell:
        """One model for all roles and seeds."""
        # train-sarft wants a role; which one does not matter to rows that have none and a selector that reads none.
        first = RoleData(self.role_names[0], data, digests([data]))
        chosen = self._training(name, {**_PLAIN, **changes}, first, self.seeds[0])
        return Cell(name, name, ALL, self.seeds[0], _place(self.directory, "shared", name, None), chosen, ())

    def _training(self, what: str, changes: Mapping[str, Any], role: RoleData, seed: int) -> Training:
        base = {name: value for name, value in self.base.items() if name not in INPUTS}
        own = {"role_name": role.name, "data": role.rows, "seed": seed}
        return training(SaRFTConfig, {**base, **changes, **own}, what, role.files)

    def _cell(
        self,
        method: str,
        role: RoleData,
        seed: int,
        chosen: Training | None,
        model: str | None,
        needs: Sequence[str] = (),
        arguments: Sequence[str] = (),
    ) -> Cell:
        """A cell of the table; `model` is what it evaluates where it trains none."""
        place = _place(self.directory, role.name, method, seed)
        evaluated = model or str(place / "model")
        evaluations: tuple[Evaluation, ...] = ()
        if method in self.methods:
            evaluations = (self.evaluating.of(method, evaluated, role=role.name, defence=arguments),)
        name = f"{method}, {role.name}, seed {seed}"
        return Cell(name, method, role.name, seed, place, chosen, evaluations, tuple(needs))


def language_cells(
    directory: Path,
    methods: Mapping[str, TableMethod],
    seeds: Sequence[int],
    base: Mapping[str, Any],
    evaluating: Sequence[Evaluating],
) -> list[Cell]:
    """The cells of MPO's table: each is measured in all languages."""
    cells = []
    for seed in seeds:
        for method in methods.values():
            chosen, place = None, _place(directory, ALL, method.name, seed)
            model = str(place / "model")
            if method.settings is None:
                if seed != seeds[0]:
                    continue
                model = model_spec(str(base["model"]))
            else:
                kind = language_kind(method)
                values = {**shared_values(kind, base), **method.settings, "seed": seed}
                chosen = training(kind, values, f"method {method.name}", digests([base["data"]]))
            evaluations = tuple(one.of(method.name, model) for one in evaluating)
            name = f"{method.name}, seed {seed}"
            cells.append(Cell(name, method.name, ALL, seed, place, chosen, evaluations))
    return cells


def _place(directory: Path, group: str, method: str, seed: int | None) -> Path:
    name = method if seed is None else f"{method}_seed_{seed}"
    # Roles that differ in spaces and underscores only are one role (data/names.py), so they may share these.
    return directory / "cells" / directory_name(group.replace(" ", "_")) / directory_name(name)
