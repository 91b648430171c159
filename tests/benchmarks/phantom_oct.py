"Scans a second of the OCT phantom on one core: python tests/benchmarks/phantom_oct.py [N]"
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
import cv2
from fundus_fastai.phantom.oct import CLASSES, phantom_oct

def main(n=200):
    cv2.setNumThreads(1)
    for c in CLASSES: phantom_oct(c)
    wall,cpu = time.perf_counter(),time.process_time()
    for k in range(n): phantom_oct(CLASSES[k%4], patient=k)
    wall,cpu = time.perf_counter()-wall,time.process_time()-cpu
    print(f'{n} scans of 496x512 on one core: {n/wall:.1f} a second by the clock, {n/cpu:.1f} by processor time')

if __name__ == '__main__': main(*map(int, sys.argv[1:2]))
