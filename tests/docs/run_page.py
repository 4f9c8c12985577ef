"""Does what a page says, from top to bottom, in the current folder: ``python run_page.py python.md``."""

import subprocess
import sys
from pathlib import Path

from pages import blocks  # beside this script, which is a program of its own: what pages do to a process stays there


def main(page: str) -> None:
    """Write the page's files, run its code in one namespace, and its commands in a shell that stops at an error."""
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if block.checked:
            continue
        sys.stdout.write(f"--- {block}\n")
        sys.stdout.flush()
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        elif block.language == "bash":
            subprocess.run(["bash", "-ec", block.text], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
