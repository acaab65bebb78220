"""A chat template's first rendering, in a process of its own with little time and memory; see `holdfast.templates`.

Run as a script: reads a job as JSON on standard input and writes `ok`, `long` or `memory`. It imports nothing but
jinja2, so that it starts in a tenth of a second, and sets jinja2 up as transformers does.
"""

import json
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

SECONDS = 3  # of processor time
MEMORY = 2**30  # bytes
MAX_CHARACTERS = 2**20  # of a few placeholder turns


def main() -> None:
    """Compile and render what standard input holds, and write the verdict."""
    job = json.load(sys.stdin)
    sys.path[:] = job["path"]
    environment = _environment()
    _limit_resources()
    try:
        verdict = _verdict(environment, job)
    except MemoryError:
        verdict = "memory"
    except Exception:  # the real rendering reports it
        verdict = "ok"
    sys.stdout.write(verdict)


def _verdict(environment: Any, job: dict[str, Any]) -> str:
    template = environment.from_string(job["template"])
    for chat in job["chats"]:
        for prompt in (False, True):
            try:
                text = template.render(messages=chat, add_generation_prompt=prompt, **job["variables"])
            except MemoryError:
                raise
            except Exception:  # a template may reject this conversation, and still hang on the next
                continue
            if len(text) > MAX_CHARACTERS:
                return "long"
    return "ok"


def _limit_resources() -> None:
    try:
        import resource
    except ImportError:  # Windows: the caller's time limit remains
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _environment() -> Any:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the assistant says; here it is only its content."""

        tags = {"generation"}  # noqa: RUF012 as jinja2 declares it

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


if __name__ == "__main__":
    main()
