"""Tab completion: Hydra's own answers, for a command that has subcommands."""

import os
from argparse import Namespace

from unitgain.cli._command import Exit
from unitgain.errors import ConfigError

SCRIPT = """\
_unitgain_completion() {
    local choices word
    word="${COMP_WORDS[COMP_CWORD]}"
    choices=$(COMP_LINE="${COMP_LINE:0:COMP_POINT}" "${COMP_WORDS[0]}" train -sc query=bash 2>/dev/null)
    COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
COMP_WORDBREAKS=${COMP_WORDBREAKS//@}
complete -o nospace -o default -F _unitgain_completion unitgain
"""

REMOVAL = """\
complete -r unitgain
unset -f _unitgain_completion
"""


def complete(arguments: Namespace) -> int:
    """Serve ``-sc install=bash``, ``uninstall=bash`` and ``query=bash``.

    Raises:
        ConfigError: another request, or another shell.
    """
    request = arguments.overrides[0] if len(arguments.overrides) == 1 else ""
    if request == "install=bash":
        print(SCRIPT, end="")
    elif request == "uninstall=bash":
        print(REMOVAL, end="")
    elif request == "query=bash":
        print(" ".join(candidates(os.environ.get("COMP_LINE", ""), arguments)))
    else:
        raise ConfigError(
            f"-sc: must be followed by install=bash or uninstall=bash, "
            f"got {' '.join(arguments.overrides) or 'nothing'}"
        )
    return Exit.FINISHED


def candidates(line: str, arguments: Namespace) -> list[str]:
    """What may follow a command line up to the cursor."""
    from unitgain.cli._main import COMMANDS

    words = line.split()
    if line.endswith(" ") or not words:
        words.append("")
    if len(words) <= 2:
        names = [command.name for command in COMMANDS]
        return [name for name in [*names, "--help", "--version"] if name.startswith(words[-1])]
    if words[1] not in ("train", "predict", "doctor"):
        return []
    return _overrides(words[2:], arguments)


def _overrides(words: list[str], arguments: Namespace) -> list[str]:
    """Hydra's completion of the last override."""
    from hydra._internal.core_plugins.bash_completion import BashCompletion

    from unitgain.cli._conf import CONFIG_NAME, hydra_session

    last = words[-1]
    group, at, package = last.partition("=")[0].partition("@")
    # Hydra doesn't complete group@package=option: ask for the group's options, and put it back.
    asked = last.replace(f"{group}@{package}", group, 1) if at and "=" in last else last
    with hydra_session(arguments) as hydra:
        plugin = BashCompletion(hydra.config_loader)
        line = " ".join([*words[:-1], asked])
        found: list[str] = plugin._query(config_name=CONFIG_NAME, line=line)
    if asked != last:
        return [each.replace(group, f"{group}@{package}", 1) for each in found]
    return found
