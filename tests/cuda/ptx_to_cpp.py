"""Makes C++ of the kernels' PTX, instruction by instruction, for the stand-in driver.

    ptx_to_cpp.py miamix.ptx miamix_ptx.cpp

COUNT(i) marks the start of block i, which is left at its end alone; block_costs[i] tells what it costs to run.

An instruction that is not known here is an error. None is that rounds in another way than the CPU engine does: there is
no .approx, no .ftz, and no add, sub or mul of floats that the assembler could fuse.
"""

import re
import sys

CPP = {
    "pred": "bool", "b8": "uint8_t", "u8": "uint8_t", "b16": "uint16_t", "u16": "uint16_t", "s16": "int16_t",
    "b32": "uint32_t", "u32": "uint32_t", "s32": "int32_t", "b64": "uint64_t", "u64": "uint64_t", "s64": "int64_t",
    "f32": "float",
}
WIDE = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}
SPECIAL = {"%tid.x": "on_cpu::thread_index.x", "%ctaid.x": "on_cpu::block_index.x"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
# True where an operand is no number, too.
UNORDERED = {"equ": "!=", "neu": "==", "ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
BITWISE = {"and": "&", "or": "|", "xor": "^"}
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*"}


# Instructions of the machine that stand for one of PTX, where they are not one. Rounded from what ptxas makes for sm_90.
COSTS = (
    (r"div\.u64|rem\.u64", 80), (r"(div|rem)\.[us]", 20), (r"div\.rn|rcp\.rn|sqrt", 10), (r"mul\.lo\.[us]64", 3),
    (r"add\.[us]64", 2), (r"ld\.param|cvta|mov\.[usbf]|cvt\.u64\.u32", 0),
)


def cost(opcode):
    return next((number for pattern, number in COSTS if re.match(pattern, opcode)), 1)


def split(text):
    """Operands, where braces and brackets hold together what is in them."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def register(name):
    return name.replace("%", "r_")


class Kernel:
    def __init__(self, name, parameter, shared, costs):
        self.name, self.parameter, self.shared = name, parameter, shared
        # Those of every block so far, of all kernels; whether the next instruction begins another one.
        self.costs, self.begins = costs, True

    def value(self, operand, kind):
        """An operand as a value of `kind`."""
        cpp = CPP[kind]
        if operand in SPECIAL:
            return f"({cpp}){SPECIAL[operand]}"
        if operand.startswith("%"):
            return f"ptx::as<{cpp}>({register(operand)})"
        if operand.startswith("0f"):
            return f"ptx::as<{cpp}>((uint32_t)0x{operand[2:]}u)"
        if re.fullmatch(r"-?\d+", operand):
            return f"({cpp}){operand}ll"
        if operand == self.shared:
            return f"({cpp})(uint64_t)on_cpu::dynamic_shared()"
        if operand == self.parameter:
            return f"({cpp})(uint64_t)parameter"
        raise SyntaxError(f"operand {operand}")

    def address(self, operand):
        base, offset = re.fullmatch(r"\[(%?[\w$]+)(?:\+(-?\d+))?\]", operand).groups()
        return f"{self.value(base, 'u64')} + ({offset or 0})"

    def set(self, target, kind, expression):
        """Registers are as wide as what is put into them, but for loads of less."""
        return f"{register(target)} = ptx::as<decltype({register(target)})>(({CPP[kind]})({expression}));"

    def move(self, loads, kind, vector, address, operands):
        size = f"sizeof({CPP[kind]})"
        whole = f"ptx::check_alignment(at, {vector} * {size}); " if vector > 1 else ""
        moves = []
        for i, operand in enumerate(operands):
            at = f"at + {i} * {size}"
            if loads:
                moves.append(self.set(operand, kind, f"ptx::load<{CPP[kind]}>({at})"))
            else:
                moves.append(f"ptx::store<{CPP[kind]}>({at}, {self.value(operand, kind)});")
        return f"{{ const uint64_t at = {address}; {whole}{' '.join(moves)} }}"

    def instruction(self, opcode, operands):
        parts = opcode.split(".")
        name, modes, kind = parts[0], parts[1:-1], parts[-1]
        value, put = self.value, self.set

        if name in ("ld", "st"):
            spaces = [mode for mode in modes if mode in ("param", "shared", "global", "nc")]
            vector = int(modes[-1][1]) if modes and modes[-1] in ("v2", "v4") else 1
            if len(spaces) + (vector > 1) == len(modes):
                memory, registers = (operands[1], operands[0]) if name == "ld" else operands
                return self.move(name == "ld", kind, vector, self.address(memory), split(registers.strip("{}")))
        if name == "mov" and not modes:
            target, source = operands
            # A register and its halves.
            half, bits = {"b64": ("u32", 32), "b32": ("u16", 16)}.get(kind, (None, 0))
            if half and source.startswith("{"):
                low, high = split(source.strip("{}"))
                return put(target, kind, f"{value(low, half)} | ({CPP[kind]}){value(high, half)} << {bits}")
            if half and target.startswith("{"):
                low, high = split(target.strip("{}"))
                return (f"{{ const {CPP[kind]} both = {value(source, kind)}; {put(low, half, f'({CPP[half]})both')} "
                        f"{put(high, half, f'({CPP[half]})(both >> {bits})')} }}")
            return put(target, kind, value(source, kind))
        if opcode in ("cvta.to.global.u64", "cvta.to.shared.u64", "cvta.shared.u64"):
            return put(operands[0], kind, value(operands[1], kind))

        if name in ARITHMETIC and kind[0] in "us" and (name == "mul") == (modes == ["lo"]) and modes in ([], ["lo"]):
            kind = kind.replace("s", "u")  # wraps
            return put(operands[0], kind, f"{value(operands[1], kind)} {ARITHMETIC[name]} {value(operands[2], kind)}")
        if name in ARITHMETIC and kind == "f32" and modes == ["rn"]:
            return put(operands[0], kind, f"{value(operands[1], kind)} {ARITHMETIC[name]} {value(operands[2], kind)}")
        if opcode == "fma.rn.f32":
            return put(operands[0], kind, f"fmaf({', '.join(value(o, kind) for o in operands[1:])})")
        if opcode == "div.rn.f32":
            return put(operands[0], kind, f"{value(operands[1], kind)} / {value(operands[2], kind)}")
        if opcode == "rcp.rn.f32":
            return put(operands[0], kind, f"1.0f / {value(operands[1], kind)}")
        if opcode == "abs.f32":
            return put(operands[0], kind, f"fabsf({value(operands[1], kind)})")
        if opcode == "sqrt.rn.f32":
            return put(operands[0], kind, f"sqrtf({value(operands[1], kind)})")
        if name in ("mul", "mad") and modes == ["wide"]:
            wide = WIDE[kind]
            product = f"({CPP[wide]}){value(operands[1], kind)} * ({CPP[wide]}){value(operands[2], kind)}"
            return put(operands[0], wide, product + (f" + {value(operands[3], wide)}" if name == "mad" else ""))
        if opcode == "mul.hi.u32":
            return put(operands[0], kind, f"(uint64_t){value(operands[1], kind)} * {value(operands[2], kind)} >> 32")
        if name == "mad" and modes == ["lo"]:
            kind = kind.replace("s", "u")
            a, b, c = (value(operand, kind) for operand in operands[1:])
            return put(operands[0], kind, f"{a} * {b} + {c}")
        if name in ("div", "rem") and not modes and kind[0] in "us":
            return put(operands[0], kind, f"{value(operands[1], kind)} {'/' if name == 'div' else '%'} {value(operands[2], kind)}")
        if name in ("min", "max") and not modes:
            a, b = value(operands[1], kind), value(operands[2], kind)
            if kind == "f32":
                return put(operands[0], kind, f"f{name}f({a}, {b})")
            return put(operands[0], kind, f"{a} {'<' if name == 'min' else '>'} {b} ? {a} : {b}")
        if name == "neg" and not modes:
            return put(operands[0], kind, f"-{value(operands[1], kind)}")

        if name in BITWISE and not modes:
            return put(operands[0], kind, f"{value(operands[1], kind)} {BITWISE[name]} {value(operands[2], kind)}")
        if name == "not" and not modes:
            return put(operands[0], kind, f"{'!' if kind == 'pred' else '~'}{value(operands[1], kind)}")
        if name in ("shl", "shr") and not modes:
            function = "shift_left" if name == "shl" else "shift_right"
            return put(operands[0], kind, f"ptx::{function}<{CPP[kind]}>({value(operands[1], kind)}, {value(operands[2], 'u32')})")
        if name == "bfi" and not modes:
            bits = ", ".join([value(o, kind) for o in operands[1:3]] + [value(o, "u32") for o in operands[3:]])
            return put(operands[0], kind, f"ptx::insert_bits<{CPP[kind]}>({bits})")
        if opcode == "prmt.b32":
            return put(operands[0], kind, f"__byte_perm({', '.join(value(o, kind) for o in operands[1:])})")
        if opcode == "shf.r.wrap.b32":
            return put(operands[0], kind, f"__funnelshift_r({', '.join(value(o, kind) for o in operands[1:])})")
        if opcode == "popc.b32":
            return put(operands[0], kind, f"__popc({value(operands[1], kind)})")
        if opcode == "cvt.f32.f16":
            return put(operands[0], "f32", f"half_to_f32({value(operands[1], 'b16')})")
        if opcode == "cvt.rn.f16.f32":
            return put(operands[0], "b16", f"half_from_f32({value(operands[1], 'f32')})")
        if opcode == "clz.b64":
            return put(operands[0], "u32", f"__clzll({value(operands[1], 's64')})")

        if name == "setp" and modes == ["nan"]:
            return put(operands[0], "pred", f"std::isnan({value(operands[1], kind)}) || std::isnan({value(operands[2], kind)})")
        if name == "setp" and len(modes) == 1:
            a, b = value(operands[1], kind), value(operands[2], kind)
            if modes[0] in COMPARE:
                return put(operands[0], "pred", f"{a} {COMPARE[modes[0]]} {b}")
            if modes[0] in UNORDERED and kind == "f32":
                return put(operands[0], "pred", f"!({a} {UNORDERED[modes[0]]} {b})")
        if name == "selp" and not modes:
            return put(operands[0], kind, f"{value(operands[3], 'pred')} ? {value(operands[1], kind)} : {value(operands[2], kind)}")

        if name == "cvt":
            to, source = parts[-2], value(operands[1], kind)
            rounding = parts[1:-2]
            if not rounding and to[0] in "us" and kind[0] in "us":
                return put(operands[0], to, source)
            if rounding == ["rn"] and to == "f32" and kind[0] in "us":
                return put(operands[0], to, f"(float){source}")
            if rounding == ["rmi"] and to == kind == "f32":
                return put(operands[0], to, f"floorf({source})")
            whole = {("rzi",): "truncf", ("rni",): "nearbyintf"}.get(tuple(rounding))
            if whole and to in ("s32", "u32") and kind == "f32":
                return put(operands[0], to, f"ptx::to_integer<{CPP[to]}>({whole}({source}))")

        if name == "atom" and parts[1] in ("shared", "global") and parts[2:-1] in (["add"], ["max"]):
            a, b = "old", value(operands[2], kind)
            new = f"{a} + {b}" if parts[2] == "add" else f"{a} > {b} ? {a} : {b}"
            return (f"{{ const uint64_t at = {self.address(operands[1])}; const {CPP[kind]} old = ptx::load<{CPP[kind]}>(at); "
                    f"ptx::store<{CPP[kind]}>(at, ({CPP[kind]})({new})); {put(operands[0], kind, 'old')} }}")
        if opcode == "bar.sync" or opcode == "bar.sync.0":
            return "on_cpu::meet_block();"
        if opcode == "membar.gl":
            return ""
        if name == "shfl" and modes in (["sync", "bfly"], ["sync", "up"]):
            target, _, whole = operands[0].partition("|")
            sources = ", ".join(value(operand, "u32") for operand in operands[1:])
            take = f"const uint32_t taken = ptx::shuffle<'{modes[1][0]}'>({sources}, whole);"
            keep = put(whole, "pred", "whole") if whole else ""
            return f"{{ bool whole; {take} {put(target, 'u32', 'taken')} {keep} }}"
        if opcode == "vote.sync.ballot.b32":
            return put(operands[0], "b32", f"__ballot_sync({value(operands[2], 'b32')}, {value(operands[1], 'pred')})")
        if opcode == "ret":
            return "return;"
        if opcode in ("bra", "bra.uni"):
            return f"goto {operands[0]};"
        raise SyntaxError(f"instruction {opcode} {', '.join(operands)}")

    def line(self, line):
        if registers := re.fullmatch(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>;", line):
            kind, name, count = registers.groups()
            # Garbage at the start, as on the device.
            names = ", ".join(f"r_{name}{i} = ptx::as<{CPP[kind]}>(garbage)" for i in range(1, int(count)))
            return f"  {CPP[kind]} {names};" if names else ""
        if line.startswith(".pragma"):
            return ""
        if label := re.fullmatch(r"([\w$]+):", line):
            self.begins = True
            return f"{label[1]}:;"
        parsed = re.fullmatch(r"(?:@(!?)%(\w+)\s+)?([a-z][\w.]*)\s*(.*);", line)
        if not parsed:
            raise SyntaxError(line)
        negated, predicate, opcode, operands = parsed.groups()
        code = self.instruction(opcode, split(operands))
        mark = ""
        if self.begins:
            mark = f"  COUNT({len(self.costs)});\n"
            self.costs.append(0)
        self.costs[-1] += cost(opcode)
        self.begins = opcode.startswith("bra")
        return mark + (f"  if ({negated}r_{predicate}) {{ {code} }}" if predicate else f"  {code}")


def translate(ptx):
    ptx = re.sub(r"//.*", "", ptx)
    shared = re.search(r"\.extern \.shared \.align 16 \.b8 (\w+)\[\];", ptx)[1]
    text, names = ['#include "ptx_runtime.h"\n', "static const uint64_t garbage = 0xcbcbcbcbcbcbcbcbull;\n"], []
    costs = []
    entries = re.findall(r"\.entry (\w+)\(\s*\.param \.align 8 \.b8 (\w+)\[(\d+)\]\s*\)([^{]*)\{(.*?)\n\}", ptx, re.S)
    for name, parameter, size, limits, body in entries:
        if not re.search(r"\.maxntid 256, 1, 1", limits):
            raise SyntaxError(f"{name}: {limits}")
        kernel = Kernel(name, parameter, shared, costs)
        lines = [kernel.line(line.strip()) for line in body.splitlines() if line.strip()]
        text.append(f"static void {name}(const void* parameter) {{\n" + "\n".join(filter(None, lines)) + "\n}\n")
        names.append(f'{{"{name}", {name}, {size}}}')
    text.append("namespace on_cpu {\n"
                f"const Kernel ptx_kernels[] = {{{', '.join(names)}}};\n"
                f"const size_t n_ptx_kernels = {len(names)};\n"
                f"const unsigned block_costs[] = {{{', '.join(map(str, costs))}}};\n"
                f"const size_t n_blocks = {len(costs)};\n}}\n")
    return "".join(text)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="ascii") as file:
        translated = translate(file.read())
    with open(sys.argv[2], "w", encoding="ascii") as file:
        file.write(translated)
