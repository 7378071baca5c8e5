#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compile the GPU code with nvcc for every architecture and read the PTX; needs no GPU.

check_device_code.py processors|protocol|grid|opcodes|tile|result_only|abi|self --nvcc PATH
                     --source REPOSITORY --build FOLDER [--switch FILE] [--mixed FILE] [--said FILE]
                     [--architectures 75,80,...]

processors  every kernel of kernels/ at every granularity: compiles without a warning, and no
            payload is loaded through the non-coherent path (nvcc keeps such a load for ever)
protocol    src/device/protocol/protocol.h: acquire and release at system scope, read-modify-write at
            device scope, no local memory, no spills, nothing that belongs to the host
grid        the resident grid around every kernel at every granularity: the same as for protocol,
            but that the kernel may have tables; spills and stack frames nowhere. A look is relaxed
            loads, entries first, and one fence that acquires. No fence before a completion is
            posted, as these kernels say Q_RESULT_ONLY. Around echo no more registers
            than recorded and, where cuobjdump is, no more weak loads, and no atomic operation that
            falls back to shared memory
opcodes     the same around --switch, what gpuq_add_processor(... OPCODES ...) made of echo, crc32c
            and sha256: all three are in the one grid, inlined
tile        the same around tests/modules/tile.cu, which uses q_tile() and does not say Q_RESULT_ONLY:
            the fence is there, ahead of all that is posted; and asking for q_tile() without using
            it changes nothing
result_only --mixed, a switch of sources of which not all say Q_RESULT_ONLY, has the fence; --said, the
            generated source of an image whose gpuq_add_processor() says RESULT_ONLY, has not
abi         src/device/cuda/driver/driver_api.h agrees with cuda.h on every prototype and constant, and nvrtc.h
            there with the toolkit's
self        the checks find what wrong_probe.cu does wrong

protocol, and grid and processors around echo, are compiled for every architecture of --architectures;
around other kernels for the last of them.

Exit status: 0 good, 1 a check failed, 77 there is no nvcc.
"""
import argparse
import collections
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

KERNELS = ("echo", "crc32c", "sha256", "vecdot")
PTX_ARCHITECTURES = ("75", "90")  # the oldest, and the one the next major version may differ in


class Failure(Exception):
    pass


def compile_one(args, source, name, defines, what, extra=()):
    """One nvcc call; returns (path of the output, what ptxas said)."""
    suffix = what[1:]
    output = os.path.join(args.build, name + "." + suffix)
    command = [args.nvcc, "-std=c++17", what, *extra, "-Werror", "all-warnings",
               "-Xcompiler", "-Wall,-Wextra", "-I" + os.path.join(args.source, "include"),
               "-I" + os.path.join(args.source, "src"), *("-D" + d for d in defines),
               "-o", output, source]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        raise Failure(f"{name}: {' '.join(command)}\n{done.stdout}")
    return output, done.stdout


def compile_all(args, source, name, defines, architectures=None):
    """Machine code for every architecture in one fatbin; returns (PTX files, what ptxas said).

    The PTX is what nvcc makes on the way: compiling it by itself would take as long again."""
    architectures = architectures or args.architectures
    codes = [f"arch=compute_{a},code=sm_{a}" for a in architectures]
    codes += [f"arch=compute_{a},code=compute_{a}"
              for a in PTX_ARCHITECTURES if a not in architectures]
    codes.append("arch=compute_{0},code=compute_{0}".format(architectures[-1]))
    kept = os.path.join(args.build, name + ".kept")
    shutil.rmtree(kept, ignore_errors=True)
    os.mkdir(kept)
    extra = [flag for code in dict.fromkeys(codes) for flag in ("-gencode", code)]
    extra += ["-Xptxas", "-v", "--keep", "--keep-dir", kept]
    _, ptxas = compile_one(args, source, name, defines, "-fatbin", extra)
    ptx = []
    for a in PTX_ARCHITECTURES:
        made = [f for f in os.listdir(kept) if f.endswith(f".compute_{a}.ptx")]
        if len(made) != 1:
            raise Failure(f"{name}: nvcc has kept {sorted(os.listdir(kept))}, not one PTX of {a}")
        ptx.append(os.path.join(args.build, f"{name}.{a}.ptx"))
        shutil.move(os.path.join(kept, made[0]), ptx[-1])
    shutil.rmtree(kept)
    return ptx, ptxas


def architectures_for(args, kernel):
    """What differs between architectures is looked for around one kernel; the others: the newest, and PTX."""
    return args.architectures if kernel == KERNELS[0] else args.architectures[-1:]


def strip(line):
    return line.split("//", maxsplit=1)[0].strip()


def comes_from_table(address, sources):
    """Whether an address is made from that of a variable of the module, such as a table."""
    seen, open_ = set(), [address]
    while open_:
        register = open_.pop()
        if register in seen:
            continue
        seen.add(register)
        for source in sources.get(register, ()):
            if source.startswith("%"):
                open_.append(source)
            else:
                return True
    return False


def instructions(path):
    """The memory and control instructions of each kernel in a PTX file: {kernel: [text]}.

    A non-coherent load of a table of the module's own, which is constant, gets " (table)" added.
    """
    kernels = collections.OrderedDict()
    sources = {}  # of the current kernel: what each 64-bit register is computed from
    nc = re.compile(r"ld\S*\.nc\b.*\[(%rd\d+)")
    with open(path, encoding="ascii") as lines:
        stripped = [strip(line) for line in lines]
    current = None
    for line in stripped:
        entry = re.match(r"(?:\.(?:visible|weak|extern)\s+)*\.(?:entry|func)\s+"
                         r"(?:\(.*?\)\s*)?(\w+)\(", line)
        if entry:
            current = kernels.setdefault(entry.group(1), [])
            sources = {}
        if current is None:
            continue
        if line.startswith(".local"):
            current.append(line)
        if line == "}" and current:  # registers may be set below their use, in a loop
            current[:] = [text + " (table)" if nc.match(text) and
                          comes_from_table(nc.match(text).group(1), sources) else text
                          for text in current]
        for text in line.split(";"):
            text = re.sub(r"^@!?%\w+\s+", "", text.strip(" {}\t"))
            address = re.match(r"(?:mov|cvta\S*|add|mad\.wide|mad\.lo|selp|sub)\S*\s+"
                               r"(%rd\d+),(.*)", text)
            if address:
                sources.setdefault(address.group(1), []).extend(
                    re.findall(r"%rd\d+|(?<![%\w])[A-Za-z_]\w*", address.group(2)))
            if re.match(r"(ld|st|atom|red|fence|membar|trap|call|ldu|cp)\b", text):
                current.append(text)
    if not kernels:
        raise Failure(f"{path}: no kernel found in it")
    return kernels


# What no kernel that touches a slot may do.
def offences(text):
    if re.match(r"ld\S*\.nc\b|ldu\b", text) and not text.endswith("(table)"):
        yield "non-coherent load"


# What the protocol's steps may not do either.
def protocol_offences(text):
    yield from offences(text)
    if re.match(r"\.local|(ld|st)\S*\.local\b", text):
        yield "local memory"
    if re.match(r"ld\S*\.acquire\b", text) and ".sys" not in text:
        yield "acquire not at system scope"
    if re.match(r"st\S*\.release\b", text) and ".sys" not in text:
        yield "release not at system scope"
    if re.match(r"(atom|red)\b", text) and ".gpu" not in text:
        yield "read-modify-write not at device scope"
    if re.match(r"(atom|red)\b", text) and ".global" not in text:
        yield "read-modify-write that may be of shared memory"
    if re.match(r"(fence|membar)\b", text) and not text.startswith("fence.sc.sys"):
        yield "fence that is not fence.sc.sys"
    if re.match(r"(ld|st)\S*\.volatile\b", text):
        yield "volatile access"
    if text.startswith("trap"):
        yield "operation that is the host's"
    if text.startswith("call"):
        yield "call that was not inlined"


def report(path, kernels, find):
    return [f"{os.path.basename(path)}: {kernel}: {offence}: {text}"
            for kernel, texts in kernels.items() for text in texts for offence in find(text)]


def in_parallel(jobs):
    """Runs (function, arguments...) tuples; returns their results in order."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [f.result() for f in [pool.submit(*job) for job in jobs]]


def check_processors(args):
    probe = os.path.join(args.source, "tests/cuda/processor_probe.cu")
    jobs = []
    for kernel in KERNELS:
        source = os.path.join(args.source, "kernels", kernel + ".cu")
        for granularity in (0, 1, 2):
            jobs.append((compile_all, args, probe, f"{kernel}.{granularity}",
                         [f'KERNEL_SOURCE="{source}"', f"Q_GRANULARITY={granularity}"],
                         architectures_for(args, kernel)))
    problems = []
    for ptx, ptxas in in_parallel(jobs):
        problems += spills(ptx[0], ptxas)
        for path in ptx:
            kernels = instructions(path)
            problems += report(path, kernels, offences)
            if not any(re.match(r"ld\b", text) for text in kernels["processor_probe"]):
                problems.append(f"{path}: the processor loads nothing: was it optimised away?")
    return problems


def spills(name, ptxas):
    if "spill stores" not in ptxas:
        return [f"{os.path.basename(name)}: ptxas said nothing of spills"]
    return [f"{os.path.basename(name)}: {line.strip()}" for line in ptxas.splitlines()
            if re.search(r"[1-9]\d* bytes spill", line)]


# Instructions that a step is there for: kernel, pattern, how many (None: at least one).
PROTOCOL_NEEDS = (
    ("probe_control", r"ld\.acquire\.sys\.global\.u64\b", 1),
    ("probe_claim", r"ld\.acquire\.sys\.global\.u64\b", None),
    ("probe_claim", r"atom\.relaxed\.gpu\.global\.cas\.b64\b", None),
    ("probe_decide", r"ld\.relaxed\.sys\.global\.u64\b", 1),
    ("probe_complete", r"st\.release\.sys\.global\.u64\b", 1),
    ("probe_complete", r"atom\.relaxed\.gpu\.global\.add\.u64\b", 1),
    ("probe_idle", r"fence\.sc\.sys\b", None),
    ("probe_idle", r"ld\.acquire\.sys\.global\.u64\b", None),
    ("probe_loop", r"ld\.acquire\.sys\.global\.u64\b", None),
    ("probe_loop", r"atom\.relaxed\.gpu\.global\.cas\.b64\b", None),
    ("probe_loop", r"st\.release\.sys\.global\.u64\b", 1),
)


def check_protocol(args):
    probe = os.path.join(args.source, "tests/cuda/protocol_probe.cu")
    ptx, ptxas = compile_all(args, probe, "protocol", [])
    problems = spills(ptx[0], ptxas)
    problems += [f"protocol: {line.strip()}" for line in ptxas.splitlines()
                 if re.search(r"\b[1-9]\d* bytes stack frame", line)]
    for path in ptx:
        kernels = instructions(path)
        problems += report(path, kernels, protocol_offences)
        for kernel, pattern, count in PROTOCOL_NEEDS:
            found = sum(1 for text in kernels[kernel] if re.match(pattern, text))
            if found != count and (count is not None or found == 0):
                problems.append(f"{os.path.basename(path)}: {kernel}: {found} times {pattern}")
    return problems


# The fence of a look, where there is one that only acquires: PTX of CUDA 12.8 or newer for sm_90.
ACQUIRING = ("fence.acquire.sys",)

# Of a whole grid: what the loop is there for.
GRID_NEEDS = (
    (r"ld\.acquire\.sys\.global\.u64\b", None),
    (r"ld\.acquire\.sys\.global\.v2\.u64\b", None),
    (r"atom\.acquire\.gpu\.global\.add\.u64\b", None),
    (r"atom\.acq_rel\.gpu\.global\.cas\.b64\b", None),
    (r"red\.release\.gpu\.global\.add\.u64\b", None),
    (r"st\.release\.sys\.global\.u64\b", None),
    (r"fence\.sc\.sys\b", None),
)


def grid_offences(kernel):
    def find(text):
        for offence in protocol_offences(text):
            # sha256's schedule is indexed by the round; ptxas says below that it spills nothing
            if offence == "local memory" and kernel not in ("echo", "tile"):
                continue
            if text.startswith(ACQUIRING + ("fence.acq_rel.sys",)):  # counted by fence_problems()
                continue
            yield offence
    return find


FENCES = 2  # of a message without a result, and of one whose result is sealed
WIDE = "ld.relaxed.sys.global.v2.u64"
NARROW = "ld.relaxed.sys.global.u64"


def look_problems(name, texts, fences):
    """A look's loads are relaxed, those of the slot's lines behind that of the entries, and a fence
    acquires: of a look across PCIe, where that has the slot's first line, too, and of one at the mirror."""
    found = sorted([text.split()[0] for text in texts[:i] if not text.startswith("ld.param")][-3:]
                   for i in fences)
    if found != sorted([[WIDE, WIDE, WIDE], [NARROW, WIDE, WIDE]]):
        return [f"{name}: fences that acquire, and the loads ahead of them: {found}"]
    return []


def fence_problems(name, texts, fenced):
    """What the processor wrote is released before the sealed result is posted, or not at all; and the
    look, whose fence is the one behind loads."""
    acquire = [i for i, text in enumerate(texts) if text.startswith(ACQUIRING) or
               (text.startswith("fence.acq_rel.sys") and texts[i - 1].startswith(WIDE))]
    problems = look_problems(name, texts, acquire)
    fences = [i for i, text in enumerate(texts)
              if text.startswith("fence.acq_rel.sys") and i not in acquire]
    posted = [i for i, text in enumerate(texts) if text.startswith("st.relaxed.sys.global.v2.u64")]
    if len(fences) != (FENCES if fenced else 0):
        return problems + [f"{name}: {len(fences)} times fence.acq_rel.sys"]
    if not posted:
        return problems + [f"{name}: no result is posted"]
    # The fence of the other path may stand anywhere outside: the compiler places blocks as it likes.
    end = next((i for i, text in enumerate(texts)
                if i > posted[-1] and re.match(r"st\S*\.sys\.global\.u64\b", text)), len(texts))
    if fenced and (not any(i < posted[0] for i in fences) or
                   any(posted[0] < i < end for i in fences)):
        return problems + [f"{name}: a fence behind a result that is posted"]
    return problems


def check_grid(args):
    return check_grids(args, {kernel: os.path.join(args.source, "kernels", kernel + ".cu")
                              for kernel in KERNELS})


# What shows that a source is in the grid: crc32c's table in use, sha256's first round constant; of
# the tile, the instructions that it is for.
MARKS = {"opcodes": (r"mov\S* .*zeros_after", r"\b1116352408\b")}
PTX_90_MARKS = {("tile", 1): (r"redux\.sync\.add",),
                ("tile", 2): (r"redux\.sync\.add", r"barrier\.sync")}


def check_opcodes(args):
    return check_grids(args, {"opcodes": args.switch})


def check_result_only(args):
    probe = os.path.join(args.source, "tests/cuda/grid_probe.cu")
    mixed, _ = compile_one(args, probe, "mixed",
                           [f'KERNEL_SOURCE="{args.mixed}"', "Q_GRANULARITY=1"], "-ptx",
                           ["-arch=compute_90"])
    said, _ = compile_one(args, args.said, "said", [], "-ptx", ["-arch=compute_90",
                          "-I" + os.path.join(args.source, "tests/modules")])
    return (fence_problems("mixed", instructions(mixed)["gpuq_grid"], True) +
            fence_problems("said", instructions(said)["gpuq_grid"], False))


def check_tile(args):
    problems = check_grids(args, {"tile": os.path.join(args.source, "tests/modules/tile.cu")},
                           fenced=True)
    probe = os.path.join(args.source, "tests/cuda/grid_probe.cu")
    echo = f'KERNEL_SOURCE="{os.path.join(args.source, "kernels/echo.cu")}"'
    jobs = [(compile_one, args, probe, f"grid.unused.{granularity}.{len(tile)}",
             [echo, f"Q_GRANULARITY={granularity}"] + tile, "-ptx", ["-arch=compute_90"])
            for granularity in (0, 1, 2) for tile in ([], ["Q_WITH_TILE"])]
    texts = []
    for path, _ in in_parallel(jobs):
        with open(path, encoding="ascii") as lines:
            texts.append(lines.read())
    problems += [f"granularity {granularity}: Q_WITH_TILE alone changes the grid"
                 for granularity in (0, 1, 2)
                 if texts[2 * granularity] != texts[2 * granularity + 1]]
    return problems


# What echo's grid may need on sm_90; today's figures, by granularity. More is a step back: a register more
# is one less for the application's own kernels beside the grid.
REGISTERS = {0: 122, 1: 116, 2: 110}
# Loads that the compiler may repeat, such as those of parameters behind a pointer: it repeats them after
# each acquire. Looked for where cuobjdump is.
WEAK_LOADS = {0: 73, 1: 62, 2: 32}


def machine_code_problems(args, granularity, ptxas):
    if "90" not in args.architectures:
        return []
    name = f"grid.echo.{granularity}"
    used = re.search(r"'gpuq_grid' for 'sm_90'.*?Used (\d+) registers", ptxas, re.S)
    if not used or int(used.group(1)) > REGISTERS[granularity]:
        return [f"{name}: registers: {used and used.group(1)}; recorded: {REGISTERS[granularity]}"]
    tool = shutil.which("cuobjdump", path=os.path.dirname(os.path.realpath(args.nvcc)) +
                        os.pathsep + os.environ.get("PATH", ""))
    if not tool:
        return []
    fatbin = os.path.join(args.build, name + ".fatbin")
    sass = subprocess.run([tool, "-sass", "-arch", "sm_90", "-fun", "gpuq_grid", fatbin],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    if "Function : gpuq_grid" not in sass:
        return [f"{name}: cuobjdump finds no gpuq_grid of sm_90 in {fatbin}"]
    problems = []
    weak = sum(1 for line in sass.splitlines()
               if re.search(r"\bLDG?\.", line) and "STRONG" not in line)
    if weak > WEAK_LOADS[granularity]:
        problems.append(f"{name}: {weak} weak loads; recorded: {WEAK_LOADS[granularity]}")
    if "ATOMS" in sass:
        problems.append(f"{name}: an atomic operation falls back to shared memory")
    return problems


def check_grids(args, sources, fenced=False):
    probe = os.path.join(args.source, "tests/cuda/grid_probe.cu")
    cases = [(kernel, granularity) for kernel in sources for granularity in (0, 1, 2)]
    jobs = [(compile_all, args, probe, f"grid.{kernel}.{granularity}",
             [f'KERNEL_SOURCE="{sources[kernel]}"', f"Q_GRANULARITY={granularity}"],
             architectures_for(args, kernel))
            for kernel, granularity in cases]
    problems = []
    for (kernel, granularity), (ptx, ptxas) in zip(cases, in_parallel(jobs)):
        problems += spills(ptx[0], ptxas)
        if kernel == "echo":
            problems += machine_code_problems(args, granularity, ptxas)
            problems += [f"{ptx[0]}: {line.strip()}" for line in ptxas.splitlines()
                         if re.search(r"\b[1-9]\d* bytes stack frame", line)]
        for path in ptx:
            kernels = instructions(path)
            problems += report(path, kernels, grid_offences(kernel))
            problems += fence_problems(os.path.basename(path), kernels["gpuq_grid"], fenced)
            with open(path, encoding="ascii") as lines:
                text = lines.read()
            if "%clock64" in text:
                problems.append(f"{os.path.basename(path)}: it counts cycles without Q_COUNT_GRID")
            names = set(re.findall(r"^\.visible .*?\b(gpuq_\w+)", text, re.M))
            if names != {"gpuq_canary", "gpuq_grid"}:
                problems.append(f"{os.path.basename(path)}: visible are {sorted(names)}")
            marks = MARKS.get(kernel, ())
            if path.endswith(".90.ptx"):
                marks += PTX_90_MARKS.get((kernel, granularity), ())
            problems += [f"{os.path.basename(path)}: nothing is like {mark}"
                         for mark in marks if not re.search(mark, text)]
            for pattern, count in GRID_NEEDS:
                if not any(re.match(pattern, text) for text in kernels["gpuq_grid"]):
                    problems.append(f"{os.path.basename(path)}: gpuq_grid has no {pattern}")
    return problems


def check_abi(args):
    cuda = os.path.dirname(os.path.dirname(os.path.realpath(args.nvcc)))
    source = os.path.join(args.source, "tests/cuda/abi_check.cc")
    command = ["c++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
               "-isystem" + os.path.join(cuda, "include"),
               "-I" + os.path.join(args.source, "include"),
               "-I" + os.path.join(args.source, "src"), source]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    return [done.stdout] if done.returncode != 0 else []


def check_self(args):
    want = {
        "wrong_noncoherent": "non-coherent load",
        "wrong_restrict": "non-coherent load",
        "wrong_local": "local memory",
        "wrong_device_release": "release not at system scope",
        "wrong_device_acquire": "acquire not at system scope",
        "wrong_system_rmw": "read-modify-write not at device scope",
        "wrong_generic_rmw": "read-modify-write that may be of shared memory",
        "wrong_fence": "fence that is not fence.sc.sys",
        "wrong_volatile": "volatile access",
        "wrong_trap": "operation that is the host's",
        "wrong_call": "call that was not inlined",
    }
    probe = os.path.join(args.source, "tests/cuda/wrong_probe.cu")
    ptx, _ = compile_all(args, probe, "wrong", [])
    problems = []
    for path in ptx:
        kernels = instructions(path)
        found = {kernel for kernel in kernels if "not_inlined" not in kernel}
        if found != set(want):
            problems.append(f"{path}: kernels {sorted(found ^ set(want))}")
        for kernel, offence in want.items():
            found = {o for text in kernels.get(kernel, ()) for o in protocol_offences(text)}
            if found != {offence}:
                problems.append(f"{os.path.basename(path)}: {kernel}: found {sorted(found)}, "
                                f"not {offence!r}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=("processors", "protocol", "grid", "opcodes", "tile",
                                          "result_only", "abi", "self"))
    parser.add_argument("--nvcc", default="")
    parser.add_argument("--source", required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--switch")
    parser.add_argument("--mixed")
    parser.add_argument("--said")
    parser.add_argument("--architectures", default="75,80,89,90", type=lambda s: s.split(","))
    args = parser.parse_args()
    if not args.nvcc:
        print("skipped: no nvcc (or GPUQ_CUDA is OFF)")
        return 77
    os.makedirs(args.build, exist_ok=True)
    checks = {"processors": check_processors, "protocol": check_protocol, "grid": check_grid,
              "opcodes": check_opcodes, "tile": check_tile, "result_only": check_result_only,
              "abi": check_abi, "self": check_self}
    try:
        problems = checks[args.check](args)
    except Failure as failure:
        problems = [str(failure)]
    for problem in problems:
        print("FAIL", problem)
    if not problems:
        print(f"PASS {args.check}: sm_{', sm_'.join(args.architectures)}, PTX of "
              f"compute_{', compute_'.join(PTX_ARCHITECTURES)}")
    return 1 if problems else 0


sys.exit(main())
