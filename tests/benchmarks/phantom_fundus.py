"How fast are fundus phantoms drawn? Photographs a second on one core, and what a size, a disease and the writing cost beside it"
import tempfile, time
from pathlib import Path
import cv2
from fundus_fastai.phantom.fundus import phantom_fundus, save_fundus

cv2.setNumThreads(1)
CASES = {'512 px, labels as they come': dict(size=512), '512 px, normal': dict(size=512, labels=['normal']),
         '512 px, grade 3': dict(size=512, labels=['diabetic retinopathy'], grade=3), '256 px': dict(size=256), '128 px': dict(size=128)}

def seconds(f, *args, **kw):
    t = time.process_time()
    f(*args, **kw)
    return time.process_time()-t

def main(rounds=12):
    "Interleaved rounds, each with other patients; means, since patients differ and every one has to be drawn"
    spent = {k:0. for k in CASES}; write = 0.
    phantom_fundus()
    with tempfile.TemporaryDirectory() as d:
        for i in range(rounds):
            for k,kw in CASES.items(): spent[k] += seconds(phantom_fundus, seed=5, patient=i, **kw)
            write += seconds(save_fundus, phantom_fundus(seed=5, patient=i), Path(d)/'o.jpg', Path(d)/'o.npz')
    base = spent['512 px, labels as they come']
    for k,s in spent.items(): print(f'{k:28s} {rounds/s:6.1f} photographs/s of processor time   {base/s:5.2f} x the first')
    print(f'writing one of 512 px (JPEG of a given size, truth) costs {write/base:.2f} of drawing it')
    print(f'asked for: 8 photographs/s at 512 px; here {rounds/base/8:.2f} of it')

if __name__=='__main__': main()
