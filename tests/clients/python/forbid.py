"""Runs a program that one system call is forbidden to, as the sandboxes of containers do it (seccomp).

Arguments: the error with which the call fails, the number of the call, the program and its arguments.
"""

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000

LOAD_CALL_NUMBER = (0x20, 0, 0, 0)
"""BPF_LD | BPF_W | BPF_ABS, of the first word of struct seccomp_data."""


def skip_next_unless(call):
    return (0x15, 0, 1, call)  # BPF_JMP | BPF_JEQ | BPF_K


def answer(action):
    return (0x06, 0, 0, action)  # BPF_RET | BPF_K


def prctl(option, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(argument) for argument in arguments]
    if libc.prctl(option, *arguments) != 0:
        sys.exit(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


error, call, *program = sys.argv[1:]
instructions = [
    LOAD_CALL_NUMBER,
    skip_next_unless(int(call)),
    answer(SECCOMP_RET_ERRNO | int(error)),
    answer(SECCOMP_RET_ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(code)))
prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header))
os.execv(program[0], program)
