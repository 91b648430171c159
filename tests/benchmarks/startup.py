"How long does `fundus --help` take? The goal is half a second. Run: python tests/benchmarks/startup.py"
import subprocess, sys, time

def seconds(*args):
    "Wall-clock time of a fresh Python with `args`"
    start = time.perf_counter()
    subprocess.run([sys.executable, *args], check=True, capture_output=True)
    return time.perf_counter() - start

help_code = "import sys; sys.argv=['fundus','--help']; from fundus_fastai.cli import main; main()"
for what,code in {'python':'pass', 'import fundus_fastai':'import fundus_fastai', 'fundus --help':help_code}.items():
    print(f"{what:<24}{min(seconds('-c', code) for _ in range(5)):.3f} s")
