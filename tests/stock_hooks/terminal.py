"""Runs a program at a terminal and answers its questions, each only when the terminal no longer shows what is typed.

Arguments: how many lines are typed, these lines, the program and its arguments. Prints all that a person would have seen.
Ends with the exit code of the program.
"""

import os
import pty
import select
import sys
import termios

LOCAL_MODES = 3

count = int(sys.argv[1])
lines, program = sys.argv[2 : 2 + count], sys.argv[2 + count :]
child, terminal = pty.fork()
if child == 0:
    os.execv(program[0], program)

seen = b""


def look(wait):
    """Takes in what the program shows. Whether it is still there."""
    global seen
    if not select.select([terminal], [], [], wait)[0]:
        return True
    try:
        shown = os.read(terminal, 4096)
    except OSError:  # The program has closed its end.
        return False
    seen += shown
    return bool(shown)


there = True
for asked, line in enumerate(lines, start=1):
    while there and (seen.count(b": ") < asked or termios.tcgetattr(terminal)[LOCAL_MODES] & termios.ECHO):
        there = look(0.01)
    if there:
        os.write(terminal, line.encode() + b"\n")
while there:
    there = look(1)
_, status = os.waitpid(child, 0)
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(status))
