"""``unitgain cite RUN``: what to cite for a run, as BibTeX."""

from collections.abc import Sequence
from typing import Any

from unitgain.cli._citations import FILES, NOTHING_TO_CITE, SOFTWARE, entries, used
from unitgain.cli._command import Command, Exit
from unitgain.cli._runs import run_directory


def run(argv: Sequence[str]) -> int:
    """Do what ``unitgain cite`` is asked for."""
    directory = run_directory("cite", argv, "what to cite for a run and its parts, as BibTeX")
    from unitgain.runs import RunDirectory

    found = RunDirectory(directory)
    reasons: dict[str, list[str]] = {}
    unknown = []
    for group, target, keys in used(found.read_config()):
        for key in keys:
            reasons.setdefault(key, []).append(f"{group}: {target}")
        if not keys and target not in NOTHING_TO_CITE:
            unknown.append(f"{group}: {target}")
    for name, keys in FILES.items():
        if (directory / name).exists():
            for key in keys:
                reasons.setdefault(key, []).append(name)
    versions: dict[str, Any] = {}
    if found.environment.exists():
        versions = found.read_environment().get("versions") or {}
    blocks = [f"% no reference is known for {text}" for text in unknown]
    blocks += [f"% {', '.join(why)}\n{entries()[key]}" for key, why in reasons.items()]
    for package, key in SOFTWARE.items():
        entry = _with_version(entries()[key], str(versions.get(package) or ""))
        blocks.append(f"% software: {package}\n{entry}")
    print("\n\n".join(blocks))
    return Exit.FINISHED


COMMAND = Command("cite", "what to cite for a run, as BibTeX", run)


def _with_version(entry: str, version: str) -> str:
    """The entry with the version that was used, or without one where that isn't known."""
    if version:
        return entry.replace("VERSION", version)
    return entry.replace(",\n  note = {Version VERSION}", "")
