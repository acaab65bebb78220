"""`holdfast project`: SafeLoRA on a model or adapter that is trained already."""

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from holdfast import __version__
from holdfast.errors import HoldfastError
from holdfast.escaping import markdown
from holdfast.files import check_new_directory, new_directory, read_text, write_json, write_text
from holdfast.models import DType, adapter_base, load_model, load_tokenizer
from holdfast.parameters.projection import ProjectionReport
from holdfast.parameters.safe_lora import Subspace, safe_lora
from holdfast.recipes.run_directory import versions
from holdfast.recipes.terminal import count, note, out


@dataclass(frozen=True)
class ProjectOptions:
    """The options of `holdfast project`; the command line documents them."""

    model: str
    unaligned: str
    output: Path
    aligned: str | None = None
    threshold: float | None = None
    layers: int | None = None
    subspace: Subspace = "approximate"
    dtype: DType = "auto"
    device: str | None = None
    trust_remote_code: bool = False


def project(options: ProjectOptions) -> ProjectionReport:
    """Project, print each layer's similarity, and write the result: an adapter of an adapter, a model of a model."""
    if (options.threshold is None) == (options.layers is None):
        raise HoldfastError("give either --threshold or --layers, which say what is projected")
    if options.aligned is None and adapter_base(options.model) is None:
        raise HoldfastError(
            f"{options.model}: no adapter; give --aligned, the model that fine-tuning started from"
        )
    check_new_directory(options.output)
    tokenizer = load_tokenizer(options.model, trust_remote_code=options.trust_remote_code)
    model = load_model(
        options.model,
        dtype=options.dtype,
        device=options.device,
        trust_remote_code=options.trust_remote_code,
    )
    report = safe_lora(
        model,
        options.unaligned,
        threshold=options.threshold,
        layers=options.layers,
        aligned=options.aligned,
        subspace=options.subspace,
    )
    with new_directory(options.output) as directory:
        model.save_pretrained(str(directory))  # safetensors, by transformers and peft
        tokenizer.save_pretrained(str(directory))
        write_note(directory, options, report)
    note(f"saved to {options.output}; its model card is {options.output / 'README.md'}")
    print_projection(report)
    return report


def print_projection(report: ProjectionReport) -> None:
    """A line a layer."""
    table = Table("layer", "similarity", "norm kept", "")
    for layer in report.layers:
        similarity = "no update" if layer.similarity is None else f"{layer.similarity:.4f}"
        kept = "" if layer.kept is None else f"{layer.kept:.4f}"
        table.add_row(layer.name.removesuffix(".weight"), similarity, kept, "projected" if layer.projected else "")
    out.print(table)
    out.print(str(report))
    if report.left_alone:
        note(f"left as trained: {count(len(report.left_alone), 'weight')} outside linear layers, such as norms")


def write_note(directory: Path, options: ProjectOptions, report: ProjectionReport) -> None:
    """Say what was done: in the trained model's own card where it has one, and in full in projection.json."""
    own, written = Path(options.model) / "README.md", directory / "README.md"  # peft writes one beside an adapter
    found = next((path for path in (own, written) if path.is_file()), None)
    card = f"# {markdown(Path(options.model).name)}\n" if found is None else read_text(found, "model card")
    how = (
        f"similarity at most {options.threshold:g}"
        if options.layers is None
        else f"the {options.layers} least similar"
    )
    lines = [
        "",
        "## Projected",
        "",
        f"SafeLoRA (arXiv 2405.16833), by Holdfast {__version__}: what fine-tuning added to {len(report.projected)} of "
        f"{len(report.layers)} linear layers was replaced by its {options.subspace} projection onto what alignment "
        f"changed ({how}).",
        f"Unaligned model: {markdown(options.unaligned)}. Every layer's similarity is in `projection.json`.",
        "",
        "Anything measured before the projection does not hold for this model. Measure it again.",
        "",
    ]
    write_text(written, card + "\n".join(lines))
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    described = {"settings": settings, "versions": versions(), **asdict(report)}
    write_json(directory / "projection.json", described)
