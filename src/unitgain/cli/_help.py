"""``unitgain train --help``: the groups, the configuration, and how to change either."""

import shutil
import textwrap

from omegaconf import DictConfig, OmegaConf

from unitgain.cli._command import Exit
from unitgain.cli._conf import Groups

HEAD = """\
usage: unitgain train [group=option ...] [key=value ...] [flags]

  unitgain train                                the default job
  unitgain train data=diabetes model.depth=3    another table, fewer layers
  unitgain train experiment=deep_sigmoid        an example with a story
  unitgain train -m model.depth=2,10 init=xavier,he    four jobs, one by one
  unitgain train -m hydra/launcher=packed seed='range(0,99)'    99 at once

groups (the option in force is marked with *):
"""

TAIL = """\
  The first and the output layer are initialized apart with
  init@first_init=OPTION and init@output_init=OPTION.

flags:
  -m, --multirun        a job for each combination of key=value1,value2
  --cfg job             print the configuration and don't run;
                        --resolve fills in ${...}
  --cfg hydra           print Hydra's own part
  --cfg plan            with -m hydra/launcher=packed: what would train together
  -p, --package KEY     print no more than this key
  -cd, --config-dir DIR add a folder of options: DIR/init/mine.yaml is init=mine
  -cn, --config-name X  compose X.yaml instead of train.yaml
  --info [WHAT]         what Hydra found: defaults, searchpath, plugins, ...
  --hydra-help          Hydra's own help

tab completion in bash (uninstall=bash takes it back):
  eval "$(unitgain train -sc install=bash)"

A function or class of your own takes the place of any option:
  UNITGAIN_ALLOW=mypackage unitgain train activation._target_=mypackage.swish
"""


def show_help(groups: Groups, config: DictConfig, *, resolve: bool) -> int:
    """Print the help, with the options that the command line chose marked."""
    width = min(shutil.get_terminal_size((80, 24)).columns, 120)
    print(HEAD, end="")
    for group in groups.names():
        print(_group(groups, group, config, width))
    print("\nconfiguration:")
    job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    print(textwrap.indent(OmegaConf.to_yaml(job, resolve=resolve), "  "))
    print(TAIL, end="")
    return Exit.FINISHED


def _group(groups: Groups, group: str, config: DictConfig, width: int) -> str:
    choices = config.hydra.runtime.choices
    # A group of several options at once isn't among Hydra's choices; its options are keys.
    chosen = [choices[group]] if group in choices else list(config.get(group) or ())
    words = [f"*{option}" if option in chosen else option for option in groups.options(group)]
    indent = " " * 14
    return textwrap.fill(
        " ".join(words), width, initial_indent=f"  {group:12}", subsequent_indent=indent
    )
