"""``unitgain train --help``: the groups, the configuration, and how to change either."""

import shutil
import textwrap
from typing import TYPE_CHECKING

from hydra.core.object_type import ObjectType
from omegaconf import DictConfig, OmegaConf

from unitgain.cli._command import Exit

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

HEAD = """\
usage: unitgain train [group=option ...] [key=value ...] [flags]

  unitgain train                                      the default job
  unitgain train data=diabetes model.depth=3          another table, fewer layers
  unitgain train experiment=deep_sigmoid              an example with a story
  unitgain train -m model.depth=2,10,50 init=xavier,he    six jobs, one after another

groups (the option in force is marked with *):
"""

TAIL = """\
flags:
  -m, --multirun        run a job for each combination of key=value1,value2
  --cfg job             print the configuration instead of running; --resolve fills in ${...}
  --cfg hydra           print Hydra's part of it
  -p, --package KEY     print that part alone
  -cd, --config-dir DIR add a folder with options of your own: DIR/init/mine.yaml is init=mine
  -cn, --config-name X  compose X.yaml instead of train.yaml
  --info                what Hydra found: defaults, searchpath, plugins
  --hydra-help          Hydra's own help
  -sc, --shell-completion install=bash   completion, see below

tab completion, in bash and in zsh with bashcompinit:
  eval "$(unitgain train -sc install=bash)"      uninstall=bash takes it back

An own function or class takes the place of any option: activation._target_=mypackage.swish,
once UNITGAIN_ALLOW=mypackage is set. `unitgain --help` lists all variables.
"""


def show_help(hydra: "Hydra", config: DictConfig, *, resolve: bool) -> int:
    """Print the help, with the options that the command line chose marked."""
    width = min(shutil.get_terminal_size((80, 24)).columns, 120)
    print(HEAD, end="")
    for group in sorted(hydra.list_all_config_groups()):
        if not group.startswith("hydra"):
            print(_group(hydra, group, config, width))
    print("\nconfiguration:")
    job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    print(textwrap.indent(OmegaConf.to_yaml(job, resolve=resolve), "  "))
    print(TAIL, end="")
    return Exit.FINISHED


def _group(hydra: "Hydra", group: str, config: DictConfig, width: int) -> str:
    options = sorted(hydra.config_loader.get_group_options(group, ObjectType.CONFIG))
    chosen = config.hydra.runtime.choices.get(group)
    words = [f"*{option}" if option == chosen else option for option in options]
    indent = " " * 14
    return textwrap.fill(
        " ".join(words), width, initial_indent=f"  {group:12}", subsequent_indent=indent
    )
