#!/usr/bin/env python3
"""Programs from standard input, parted by lines of ---, through several comparing programs (compare.c) at once: one a processor.

  share.py COMPARE [ARGUMENT ...]    prints what they print, then one closing line: N passed, N failed; exit code 1 when one failed"""
import concurrent.futures, os, re, subprocess, sys


def compare(command, text):
    """(output, passed, failed) of all programs of text; a comparing program that ends early counts as a failure."""
    programs = [p + "---\n" for p in text.split("---\n")[:-1]]
    n = max(1, min(len(os.sched_getaffinity(0)), len(programs) // 8))

    def part(k):
        p = subprocess.run(command, input="".join(programs[k::n]).encode(), capture_output=True)
        out = (p.stdout + p.stderr).decode("utf-8", "replace")
        tally = re.findall(r"^(\d+) passed, (\d+) failed$", out, re.M)
        if p.returncode < 0 or not tally:
            return out + f"the comparing program ended with {p.returncode}\n", 0, 1
        return re.sub(r"^\d+ passed, \d+ failed\n", "", out, flags=re.M), int(tally[-1][0]), int(tally[-1][1])

    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        parts = list(pool.map(part, range(n)))
    return "".join(p[0] for p in parts), sum(p[1] for p in parts), sum(p[2] for p in parts)


if __name__ == "__main__":
    out, passed, failed = compare(sys.argv[1:], sys.stdin.read())
    print(out, end="")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)
