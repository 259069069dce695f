"""Compiles a seccomp profile into a filter for the kernel: seccomp_filter.py PROFILE FILTER [PREFIX].

Calls whose names begin with PREFIX are refused, as if the profile did not name them.
"""

import json
import sys

import seccomp

COMPARE = {"SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}

with open(sys.argv[1]) as file:
    profile = json.load(file)
refused = sys.argv[3] if len(sys.argv) > 3 else None
assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
program = seccomp.SyscallFilter(seccomp.ERRNO(profile["defaultErrnoRet"]))


def condition(argument):
    operands = [argument["value"]]
    if "valueTwo" in argument:
        operands.append(argument["valueTwo"])
    return seccomp.Arg(argument["index"], COMPARE[argument["op"]], *operands)


unknown = []
for rule in profile["syscalls"]:
    action = seccomp.ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else seccomp.ERRNO(rule["errnoRet"])
    for name in rule["names"]:
        if refused and name.startswith(refused):
            continue
        if seccomp.resolve_syscall(seccomp.Arch(), name) == -1:
            # Newer than this libseccomp. Runtimes ignore such names too.
            unknown.append(name)
            continue
        program.add_rule(action, name, *map(condition, rule.get("args", [])))
with open(sys.argv[2], "wb") as file:
    program.export_bpf(file)
print("unknown here:", *unknown)
