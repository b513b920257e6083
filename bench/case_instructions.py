# SPDX-License-Identifier: Apache-2.0
"""Instructions per hot download, counted by valgrind: a figure that does not depend on who else uses the machine."""

import json
import re
import subprocess
from pathlib import Path

import machine
import place
import servers
from case_serving import SMALL, stored
from client import Wire, request_bytes
from harness import ALICE
from registry import case
from rows import Row, ratio_at_most

BUDGET = Path(__file__).with_name("instructions.json")
GROWTH = 1.05
FEW, MANY = 200, 2_200  # the more, the less the start and the end weigh, which vary

# What glibc and OpenSSL choose by the processor is fixed to what every x86-64 has, so that the count is the same on
# another machine. Lazy binding and the clock's vDSO cancel out: they are in both counts.
FIXED = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX2,-AVX,-BMI1,-BMI2,-ERMS,-FSRM,-LZCNT,"
                      "-MOVBE,-POPCNT,-RTM,-SSE4_2,-SSE4_1,-SSSE3,-AVX_Fast_Unaligned_Load,-Prefer_No_VZEROUPPER",
    "OPENSSL_ia32cap": "0:0",
    "LD_BIND_NOW": "1",
}


def instructions(bench, downloads):
    """Of the server from its start to its end, with that many downloads of 10 KiB over one connection in between."""
    with bench.temporary_folder() as folder:
        output = folder / "callgrind.out"
        # Debian 12's valgrind gives up on clang's DWARF 5. The names of functions stay.
        binary = folder / "sluice"
        subprocess.run(["strip", "--strip-debug", "-o", binary, place.BINARY], check=True)
        command = ["valgrind", "--tool=callgrind", "--fair-sched=yes", f"--callgrind-out-file={output}", str(binary)]
        server = servers.Sluice(folder, environment=FIXED, command=command).start(timeout=120)
        with servers.ending(server):
            target, _ = stored(server, SMALL)
            with Wire(server) as wire:
                for _ in range(downloads):
                    wire.send(request_bytes("GET", target, token=ALICE))
                    assert wire.read_response().status == 200
            server.stop(timeout=120)
        return int(re.search(r"^(?:summary|totals): (\d+)", output.read_text(), re.MULTILINE).group(1))


def per_download(bench):
    return (instructions(bench, MANY) - instructions(bench, FEW)) / (MANY - FEW)


def toolchain():
    """What the count depends on besides our sources."""
    packages = ("clang-19", "libc6", "libstdc++6", "libsqlite3-0", "libfmt9")
    versions = machine.said_by("dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *packages).splitlines()
    return "; ".join([machine.distribution(), *(line for line in versions if not line.startswith("dpkg"))])


def budget():
    return json.loads(BUDGET.read_text()) if BUDGET.exists() else None


def advice(measured, kept):
    other = "" if kept["toolchain"] == toolchain() else (
        f" It was counted with another toolchain, so compare on one like it: {kept['toolchain']}; here: {toolchain()}.")
    return (f"a hot download takes {measured:,.0f} instructions, {measured / kept['instructions'] - 1:.1%} more than the "
            f"{kept['instructions']:,} of commit {kept['commit']}; {GROWTH - 1:.0%} is allowed.{other} Make it cheaper, "
            "or raise the budget with `./dev bench instructions --record` and a line in bench/RESULTS.md that says why.")


@case("instructions", "instructions per hot download, counted by valgrind; beside the budget", needs=["valgrind"])
def count(bench):
    kept = budget()
    row = Row("instructions", "of a hot 10 KiB download", "instructions", target=ratio_at_most(GROWTH))
    # Nothing is timed, so one count tells. What varies (threads that find each other awake or asleep) only adds: a
    # second count tells how much, and settles what looks like growth.
    row.ours = [per_download(bench)]
    if not bench.quick and not bench.check or kept and row.ours[0] > GROWTH * kept["instructions"]:
        row.ours.append(per_download(bench))
    least = min(row.ours)
    # A full run takes what was gained for the new budget; raising it has to be asked for.
    if bench.record and (bench.is_chosen or not kept or least < kept["instructions"]):
        kept = {"instructions": round(least), "commit": machine.commit(), "toolchain": toolchain()}
        BUDGET.write_text(json.dumps(kept, indent=2) + "\n")
    if kept:
        row.yardstick, row.theirs = f"budget of {kept['commit']}", [kept["instructions"]]
    if bench.check and not kept:
        raise AssertionError(f"there is no budget in {BUDGET.name}; `./dev bench instructions --record` makes it")
    if bench.check and least > GROWTH * kept["instructions"]:
        raise AssertionError(advice(least, kept))
    return [row]
