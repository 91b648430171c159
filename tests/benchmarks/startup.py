"""How long does it take to begin? python tests/benchmarks/startup.py [RUN IMAGE]

`fundus --help`, whose goal is half a second; with a run and an image, `fundus predict` of that one image too, whose goal is twice a
bare import of torch, timm and fastai. Least of several tries, on the clock and of the processor (which other programs slow down less)."""
import resource, subprocess, sys, time

def seconds(*args):
    "Seconds of a fresh Python with `args`: on the clock, of the processor"
    def spent(): return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    start,cpu = time.perf_counter(),spent()
    subprocess.run([sys.executable, '-W', 'ignore', *args], check=True, capture_output=True)
    return time.perf_counter()-start, spent()-cpu

def least(tries, *args): return [min(o) for o in zip(*(seconds(*args) for _ in range(tries)))]

help_code = "import sys; sys.argv=['fundus','--help']; from fundus_fastai.cli import main; main()"
cases = {'python':(5,'-c','pass'), 'import fundus_fastai':(5,'-c','import fundus_fastai'), 'fundus --help':(5,'-c',help_code)}
if len(sys.argv)==3: cases |= {'import torch, timm, fastai':(3,'-c','import torch, timm, fastai'),
                               'fundus predict, one image':(3,'-m','fundus_fastai.cli','predict',*sys.argv[1:])}
took = {}
for what,(tries,*args) in cases.items():
    took[what] = least(tries, *args)
    print(f"{what:<28}{took[what][0]:.3f} s, {took[what][1]:.3f} s of the processor", flush=True)
if len(took)==5:
    bare,one = list(took.values())[-2:]
    print(f"predicting one image takes {one[1]/bare[1]:.2f} times the processor seconds of the bare import")
