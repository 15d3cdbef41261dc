"""The former name of search.py."""

import runpy
import sys
from pathlib import Path


print("search_ast.py is now called search.py; the old name still works", file=sys.stderr)
runpy.run_path(str(Path(__file__).with_name("search.py")), run_name="__main__")
